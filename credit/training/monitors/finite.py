"""Detect numbers that are not finite in a run, without synchronizing with a GPU at every step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from credit.rules.base import Rule, Step
from credit.rules.outcome import GROWN, InferenceDiverged
from credit.training.optimization import nonfinite_parameter

PATIENCE = 50
"""Steps between two waits for a GPU."""


class DivergedError(ArithmeticError):
    """A run has a number that is not finite, or a diverging inference.

    Attributes:
        step: the step, counted from 1.
        where: the first op, parameter or evaluation with such a number.
        why: the reason if it is not a number that is not finite; else empty.
    """

    def __init__(self, step: int, where: str, why: str = "") -> None:
        super().__init__(f"diverged at step {step}, first in {where}: {why or 'non-finite numbers'}")
        self.step, self.where, self.why = step, where, why

    @classmethod
    def of(cls, end: InferenceDiverged, step: int) -> "DivergedError":
        """Return the error for a diverging inference at a step, counted from 1."""
        return cls(step, end.where, end.why)

    def told(self) -> dict[str, Any]:
        """Return the entry in result.json: ``step``, ``where`` and, if there is a reason, ``why``."""
        return {"step": self.step, "where": self.where} | ({"why": self.why} if self.why else {})


class Lost(NamedTuple):
    """A run that diverged at a step.

    Attributes:
        step: the step, counted from 1.
        inferring: True if the rule's inference diverged, False if the logits or the loss were not finite.
    """

    step: int
    inferring: bool = False

    def error(self, rule: Rule, x: Tensor, y: Tensor) -> DivergedError:
        """Return the error with the op where the divergence began and the reason, as far as they can still be found.

        Args:
            rule: the run's rule.
            x, y: a batch (B, ...) and its labels (B,), for another forward pass.
        """
        if self.inferring:
            try:
                rule.tell_divergence(x, y)
            except InferenceDiverged as end:
                return DivergedError.of(end, self.step)
        # A run on a GPU is checked later: by now its weights are not finite either, so that they do not show the op.
        where = None if self.inferring and x.device.type != "cpu" else rule.first_nonfinite(x)
        if self.inferring and where is None:
            return DivergedError(
                self.step, "the inference", f"values that grew more than {rule.growth_limit:,.0f} times"
            )
        return DivergedError(self.step, where or "the loss")


class FiniteWatch:
    """Check the outcome of every step: immediately on the CPU, every 50 steps and at the ends of epochs on a GPU.

    Args:
        device: device of the outcomes.
        limit: the growth of an inference above which it has diverged (``Rule.growth_limit``).
        runs: number of runs along the outcomes' first dimension; None for one run, without that dimension.
    """

    def __init__(self, device: torch.device, limit: float = GROWN, runs: int | None = None) -> None:
        self._at_once, self._limit = device.type == "cpu", limit
        # The first steps with logits or loss that are not finite, and with a diverging inference.
        shape = (2,) if runs is None else (2, runs)
        self._first = torch.full(shape, -1, dtype=torch.int64, device=device)

    def keep(self, stay: Sequence[int]) -> None:
        """Keep only the runs with the given indices, in that order."""
        self._first = self._first[:, list(stay)]

    def see(self, step: int, outcome: Step) -> dict[int, Lost]:
        """Check a step's outcome, before its update is applied, and return the diverged runs by index (on a GPU every 50 steps).

        Args:
            step: the step, counted from 1.
            outcome: logits (B, classes) and loss (0-d), with the runs as their first dimension if there are several.
        """
        # One number to check; a sum of finite numbers that overflows counts as diverged.
        bad = ~torch.isfinite(outcome.logits.flatten(outcome.loss.dim()).sum(-1) + outcome.loss)[None]
        if outcome.growth is not None:
            bad = torch.cat([bad, ~(outcome.growth <= self._limit)[None]])  # True for a nan too
        if self._at_once and not bool(bad.any()):
            return {}
        first = self._first[: len(bad)]
        first.masked_fill_(bad & (first < 0), step)
        return self.settle() if self._at_once or step % PATIENCE == 0 else {}

    def settle(self) -> dict[int, Lost]:
        """Return the runs, by index, that have diverged in any step so far."""
        found = {}
        for at, (infinite, grown) in enumerate(self._first.view(2, -1).T.tolist()):
            if infinite >= 0 or grown >= 0:
                # A nan in a state is a nan in the loss of the same step.
                inferring = grown >= 0 and (infinite < 0 or grown <= infinite)
                found[at] = Lost(grown if inferring else infinite, inferring)
        return found


def check_parameters(model: nn.Module, step: int) -> None:
    """Check that all parameters and buffers are finite after an update.

    Args:
        model: the network.
        step: the step of the update, counted from 1.

    Raises:
        DivergedError: one is not.
    """
    name = nonfinite_parameter(model)
    if name is not None:
        raise DivergedError(step, f"'{name}' after the update")
