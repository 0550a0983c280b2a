"""When a run's diagnostics look."""

from typing import Any

from torch import Tensor

from credit.diagnostics import Diagnostic, find
from credit.rules.base import Step
from credit.training.monitors.clock import ends_period
from credit.training.state.run_state import Training


class Measures:
    """The diagnostics of ``trainer.measure``, at the steps that ``trainer.measure_every`` and ``measure_first`` give them.

    Args:
        run: the run, before its next step.

    Raises:
        UserError: an unknown diagnostic, or one that cannot measure this run.
    """

    def __init__(self, run: Training) -> None:
        self._run = run
        self._diagnostics = {name: find(name)(run) for name in run.cfg.trainer.measure}
        for name, diagnostic in self._diagnostics.items():
            if name in run.kept:
                diagnostic.load_state_dict(run.kept[name])
        run.keepers = {name: diagnostic.state_dict for name, diagnostic in self._diagnostics.items()}

    def due(self, step: int) -> bool:
        """Return whether a step, counted from 1, is measured: the first ones, the one that ends each period, the run's last."""
        return bool(self._due(step))

    def before(self, x: Tensor, y: Tensor) -> None:
        """Let the diagnostics see the weights before the step, and its batch."""
        for diagnostic in self._due(self._run.step + 1).values():
            diagnostic.before(x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return what the diagnostics found, by name, the weights having moved."""
        return {name: diagnostic.after(x, y, outcome) for name, diagnostic in self._due(self._run.step).items()}

    def ending(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return what is measured once, at a run's end, of a run that is given up here, which was not known before the step.

        A diagnostic that had to look before the step is left out.
        """
        if self._run.step == self._run.total_steps:  # measured already
            return {}
        return {
            name: diagnostic.after(x, y, outcome)
            for name, diagnostic in self._diagnostics.items()
            if diagnostic.at_end and type(diagnostic).before is Diagnostic.before
        }

    def _due(self, step: int) -> dict[str, Diagnostic]:
        """Return the diagnostics that look at a step, counted from 1."""
        run = self._run
        if step == run.total_steps:
            return self._diagnostics
        first = step <= run.cfg.trainer.measure_first
        if not first and not ends_period(step, run.cfg.trainer.measure_every, run.steps_per_epoch):
            return {}
        return {name: diagnostic for name, diagnostic in self._diagnostics.items() if not diagnostic.at_end}
