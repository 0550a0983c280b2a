"""Noticing that a run has left the finite numbers, without making a GPU wait for it at every step."""

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


class FiniteWatches:
    """Watches the outcome of every step of runs side by side: at once on the CPU, every 50 steps and at epoch ends on a GPU.

    Args:
        count: how many runs.
        device: where their outcomes are.
        limit: the growth of an inference beyond which it has run away (``Rule.growth_limit``).
    """

    def __init__(self, count: int, device: torch.device, limit: float = GROWN) -> None:
        self._at_once, self._device, self._limit = device.type == "cpu", device, limit
        self.keep(count)

    def keep(self, count: int) -> None:
        """Go on with this many runs, all of them finite so far."""
        # First steps whose logits or loss were not finite, and whose inference ran away.
        self._first = torch.full((2, count), -1, dtype=torch.int64, device=self._device)

    def see(self, step: int, outcome: Step) -> dict[int, Lost]:
        """Look at one step's outcome; return the lost runs by place (on a GPU every 50 steps).

        Args:
            step: the step, counted from 1.
            outcome: with the runs along the first dimension: logits (runs, B, classes), loss (runs,).
        """
        # One number to look at; finite parts whose sum overflows have diverged as well.
        bad = ~torch.isfinite(outcome.logits.flatten(1).sum(1) + outcome.loss)[None]
        if outcome.growth is not None:
            bad = torch.cat([bad, ~(outcome.growth <= self._limit)[None]])  # also of a growth that is not a number
        if self._at_once and not bool(bad.any()):
            return {}
        first = self._first[: len(bad)]
        first.masked_fill_(bad & (first < 0), step)
        return self.settle() if self._at_once or step % _PATIENCE == 0 else {}

    def settle(self) -> dict[int, Lost]:
        """Return what steps since the last look have met."""
        found = {}
        for at, (infinite, grown) in enumerate(self._first.T.tolist()):
            if infinite >= 0 or grown >= 0:
                # A state that is not a number makes the loss of the same step none.
                inferring = grown >= 0 and (infinite < 0 or grown <= infinite)
                found[at] = Lost(grown if inferring else infinite, inferring)
        return found


class FiniteWatch:
    """`FiniteWatches` of a single run, which raises."""

    def __init__(self, rule: Rule, device: torch.device) -> None:
        self._rule, self._watches = rule, FiniteWatches(1, device, rule.growth_limit)

    def see(self, step: int, x: Tensor, y: Tensor, outcome: Step) -> None:
        """Look at one step's outcome, before its update is applied.

        Args:
            step: the step, counted from 1.
            x, y: its batch, to find the op with.
            outcome: logits (B, classes), loss 0-d.

        Raises:
            DivergedError: naming step and op.
        """
        self._raise(self._watches.see(step, outcome.alone()), x, y)

    def settle(self, x: Tensor, y: Tensor) -> None:
        """Raise what steps since the last look have met (GPU)."""
        self._raise(self._watches.settle(), x, y)

    def _raise(self, lost: dict[int, Lost], x: Tensor, y: Tensor) -> None:
        for end in lost.values():
            raise end.error(self._rule, x, y)


def check_parameters(model: nn.Module, step: int) -> None:
    """Raise `DivergedError` where the last update left a parameter or buffer that is not finite."""
    name = nonfinite_parameter(model)
    if name is not None:
        raise DivergedError(step, f"'{name}' after the update")
