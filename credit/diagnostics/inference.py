"""Whether a rule's inference settles: how far its states still move, pass by pass (paper 3, section A.1)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from credit.core.errors import UserError
from credit.diagnostics.base import Diagnostic, Watched
from credit.rules.base import Rule, Step


class Inference(Diagnostic):
    """``trainer.measure=[inference]``: of the measured step's weights and batch, what ``rule.residuals(x, y)`` says.

    ``p1``, ``p2``, ...: by pass, the relative change of all states, ||s^p - s^(p-1)|| / ||s^p||; ``last``: of the last pass;
    ``passes``: how many.
    """

    @classmethod
    def check(cls, rule: Rule) -> None:
        if not hasattr(rule, "residuals"):
            raise UserError(
                f"trainer.measure=[inference] measures how far the states of a rule's inference still move, but rule '{rule.name}' "
                "infers no states. Write rule=dp_adjoint, another rule of dual propagation or eqprop, or leave the diagnostic out"
            )

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self.check(run.rule)
        rule: Any = run.rule  # `check` has seen that it has residuals, which not every rule does
        self._residuals: Callable[[Tensor, Tensor], list[float]] = rule.residuals
        self._found: list[float] = []

    def before(self, x: Tensor, y: Tensor) -> None:
        self._found = []
        try:
            self._found = self._residuals(x, y)
        except ArithmeticError:  # the inference diverges, and the step that follows says so, with its place
            return

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        found = self._found
        by_pass = {f"p{at}": value for at, value in enumerate(found, start=1)}
        return {"passes": len(found), **({"last": found[-1]} if found else {}), **by_pass}
