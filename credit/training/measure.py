"""When a run's diagnostics look, and that looking costs the run no time."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from credit.diagnostics import find
from credit.rules.rule import Step
from credit.training.state import Training


class Measures:
    """The diagnostics of ``trainer.measure``, at the steps that ``trainer.measure_every`` gives them.

    Args:
        run: the run, before its next step.

    Raises:
        UserError: an unknown diagnostic, or one that cannot measure this run.
    """

    def __init__(self, run: Training) -> None:
        self._run = run
        self._diagnostics = {name: find(name)(run) for name in run.cfg.trainer.measure}

    def due(self, step: int) -> bool:
        """Say whether a step, counted from 1, is measured: the one that ends each period, and the run's last."""
        if not self._diagnostics:
            return False
        period = self._run.cfg.trainer.measure_every * self._run.steps_per_epoch
        # The small allowance keeps a period such as 0.1 epochs of 10 steps at every step.
        return step == self._run.total_steps or math.floor(step / period + 1e-9) > math.floor(
            (step - 1) / period + 1e-9
        )

    def before(self, x: Tensor, y: Tensor) -> None:
        """Let the diagnostics see the weights before the step, and its batch."""
        with self._off_the_clock():
            for diagnostic in self._diagnostics.values():
                diagnostic.before(x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return what the diagnostics found, by name, the weights having moved."""
        with self._off_the_clock():
            return {name: diagnostic.after(x, y, outcome) for name, diagnostic in self._diagnostics.items()}

    @contextlib.contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        """Take the time spent inside off the run's seconds, which count training alone."""
        if self._run.device.type == "cuda":
            torch.cuda.synchronize(self._run.device)  # what the step left to do is the step's time
        started = time.perf_counter()
        yield
        self._run.seconds -= time.perf_counter() - started
