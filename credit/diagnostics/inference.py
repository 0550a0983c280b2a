"""Convergence of a rule's inference: the relative change of its states in each pass (paper 3, section A.1)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from credit.core.errors import UserError
from credit.diagnostics.base import Diagnostic, Watched
from credit.rules.base import Rule, Step


class Inference(Diagnostic):
    """The diagnostic ``inference``: ``rule.residuals(x, y)`` at the weights and on the batch of the measured step.

    ``p1``, ``p2``, ...: relative change of all states in each pass, ||s^p - s^(p-1)|| / ||s^p||; ``last``: that of the last pass;
    ``passes``: number of passes.
    """

    @classmethod
    def check(cls, rule: Rule) -> None:
        """Refuse rules that infer no states."""
        if not hasattr(rule, "residuals"):
            raise UserError(
                f"trainer.measure=[inference] measures how far the states of a rule's inference still move, but rule '{rule.name}' "
                "infers no states. Write rule=dp_adjoint, another rule of dual propagation or eqprop, or leave the diagnostic out"
            )

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self.check(run.rule)
        rule: Any = run.rule  # `check` refuses rules without residuals
        self._residuals: Callable[[Tensor, Tensor], list[float]] = rule.residuals
        self._found: list[float] = []

    def before(self, x: Tensor, y: Tensor) -> None:
        """Compute the residuals at the weights before the step."""
        self._found = []
        try:
            self._found = self._residuals(x, y)
        except ArithmeticError:  # the inference diverges; the step that follows reports the place
            return

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return the residuals by pass; only ``passes`` = 0 if the inference diverged."""
        found = self._found
        by_pass = {f"p{at}": value for at, value in enumerate(found, start=1)}
        return {"passes": len(found), **({"last": found[-1]} if found else {}), **by_pass}
