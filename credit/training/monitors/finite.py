"""Noticing that a run has left the finite numbers, without making a GPU wait for it at every step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from credit.rules.base import Rule, Step
from credit.rules.outcome import GROWN, InferenceDiverged
from credit.training.optimization import nonfinite_parameter

_PATIENCE = 50  # steps between two looks on a GPU


class DivergedError(ArithmeticError):
    """The run met a number that is not finite, or an inference that ran away.

    Attributes:
        step: the step that met it, counted from 1.
        where: the op, parameter or evaluation that holds it first.
        why: what it is where it is not simply a number that is not finite; else empty.
    """

    def __init__(self, step: int, where: str, why: str = "") -> None:
        super().__init__(f"diverged at step {step}, first in {where}: {why or 'non-finite numbers'}")
        self.step, self.where, self.why = step, where, why

    @classmethod
    def of(cls, end: InferenceDiverged, step: int) -> "DivergedError":
        """Return a rule's word that its inference diverged, as of a step counted from 1."""
        return cls(step, end.where, end.why)

    def told(self) -> dict[str, Any]:
        """Return what result.json says of it."""
        return {"step": self.step, "where": self.where} | ({"why": self.why} if self.why else {})


class Lost(NamedTuple):
    """A run that diverged at a step: its logits or loss were not finite, or, ``inferring``, its inference ran away by then."""

    step: int
    inferring: bool = False

    def error(self, rule: Rule, x: Tensor, y: Tensor) -> DivergedError:
        """Return it with the op where it began, and why, as far as either can still be found.

        Args:
            rule: the run's.
            x, y: a batch (B, ...) and its labels (B,), to find the op with.
        """
        if self.inferring:
            try:
                rule.tell_divergence(x, y)
            except InferenceDiverged as end:
                return DivergedError.of(end, self.step)
        # A GPU's run is looked at later: by now its weights are not finite either, and say nothing.
        where = None if self.inferring and x.device.type != "cpu" else rule.first_nonfinite(x)
        if self.inferring and where is None:
            return DivergedError(
                self.step, "the inference", f"values that grew more than {rule.growth_limit:,.0f} times"
            )
        return DivergedError(self.step, where or "the loss")


class FiniteWatch:
    """Looks at the outcome of every step: at once on the CPU, every 50 steps and at epoch ends on a GPU.

    Args:
        device: where the outcomes are.
        limit: the growth of an inference beyond which it has run away (``Rule.growth_limit``).
        runs: how many runs the outcomes have along their first dimension; None: one run, without a dimension for it.
    """

    def __init__(self, device: torch.device, limit: float = GROWN, runs: int | None = None) -> None:
        self._at_once, self._limit = device.type == "cpu", limit
        # First steps whose logits or loss were not finite, and whose inference ran away.
        shape = (2,) if runs is None else (2, runs)
        self._first = torch.full(shape, -1, dtype=torch.int64, device=device)

    def keep(self, stay: Sequence[int]) -> None:
        """Go on with the runs at these places."""
        self._first = self._first[:, list(stay)]

    def see(self, step: int, outcome: Step) -> dict[int, Lost]:
        """Look at one step's outcome, before its update is applied; return the lost runs by place (on a GPU every 50 steps).

        Args:
            step: the step, counted from 1.
            outcome: logits (B, classes) and loss (0-d), with the runs first where there are several.
        """
        # One number to look at; finite parts whose sum overflows have diverged as well.
        bad = ~torch.isfinite(outcome.logits.flatten(outcome.loss.dim()).sum(-1) + outcome.loss)[None]
        if outcome.growth is not None:
            bad = torch.cat([bad, ~(outcome.growth <= self._limit)[None]])  # also of a growth that is not a number
        if self._at_once and not bool(bad.any()):
            return {}
        first = self._first[: len(bad)]
        first.masked_fill_(bad & (first < 0), step)
        return self.settle() if self._at_once or step % _PATIENCE == 0 else {}

    def settle(self) -> dict[int, Lost]:
        """Return the runs that steps since the last look lost."""
        found = {}
        for at, (infinite, grown) in enumerate(self._first.view(2, -1).T.tolist()):
            if infinite >= 0 or grown >= 0:
                # A state that is not a number makes the loss of the same step none.
                inferring = grown >= 0 and (infinite < 0 or grown <= infinite)
                found[at] = Lost(grown if inferring else infinite, inferring)
        return found


def check_parameters(model: nn.Module, step: int) -> None:
    """Raise `DivergedError` where the last update left a parameter or buffer that is not finite."""
    name = nonfinite_parameter(model)
    if name is not None:
        raise DivergedError(step, f"'{name}' after the update")
