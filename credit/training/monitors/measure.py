"""Call a run's diagnostics at the steps where they are due."""

from typing import Any

from torch import Tensor

from credit.diagnostics import Diagnostic, find
from credit.rules.base import Step
from credit.training.monitors.clock import ends_period
from credit.training.state.run_state import Training


class Measures:
    """The diagnostics of ``trainer.measure``, called at the steps given by ``trainer.measure_every`` and ``measure_first``.

    Args:
        run: the run, before its next step.

    Raises:
        UserError: a diagnostic is unknown or cannot measure this run.
    """

    def __init__(self, run: Training) -> None:
        self._run = run
        self._diagnostics = {name: find(name)(run) for name in run.cfg.trainer.measure}
        for name, diagnostic in self._diagnostics.items():
            if name in run.kept:
                diagnostic.load_state_dict(run.kept[name])
        run.keepers = {name: diagnostic.state_dict for name, diagnostic in self._diagnostics.items()}

    def due(self, step: int) -> bool:
        """Return whether a step, counted from 1, is measured: the first ones, the last of each period, and the run's last."""
        return bool(self._due(step))

    def before(self, x: Tensor, y: Tensor) -> None:
        """Call ``before`` of the diagnostics due at the next step, on its batch x (B, ...) and labels y (B,)."""
        for diagnostic in self._due(self._run.step + 1).values():
            diagnostic.before(x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return the numbers of the diagnostics due at the step, by name, after its update.

        Args:
            x, y: the step's batch (B, ...) and labels (B,).
            outcome: the result of the rule's step.
        """
        return {name: diagnostic.after(x, y, outcome) for name, diagnostic in self._due(self._run.step).items()}

    def ending(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return the numbers of the diagnostics that measure at a run's end, for a run given up after this step (see `after`).

        A diagnostic that measures before the step is left out, because the end was not known then.
        """
        if self._run.step == self._run.total_steps:  # measured already
            return {}
        return {
            name: diagnostic.after(x, y, outcome)
            for name, diagnostic in self._diagnostics.items()
            if diagnostic.at_end and type(diagnostic).before is Diagnostic.before
        }

    def _due(self, step: int) -> dict[str, Diagnostic]:
        """Return the diagnostics due at a step, counted from 1."""
        run = self._run
        if step == run.total_steps:
            return self._diagnostics
        first = step <= run.cfg.trainer.measure_first
        if not first and not ends_period(step, run.cfg.trainer.measure_every, run.steps_per_epoch):
            return {}
        return {name: diagnostic for name, diagnostic in self._diagnostics.items() if not diagnostic.at_end}
