"""Noticing that a run has left the finite numbers, without making a GPU wait for it at every step."""

import math

import torch
from torch import Tensor, nn

from credit.rules.rule import Rule
from credit.training.updates import nonfinite_parameter

_PATIENCE = 50  # steps between two looks on a GPU


class DivergedError(ArithmeticError):
    """The run met a number that is not finite.

    Attributes:
        step: the step that met it, counted from 1.
        where: the op, parameter or evaluation that holds it first.
    """

    def __init__(self, step: int, where: str) -> None:
        super().__init__(f"non-finite numbers at step {step}, first in {where}")
        self.step, self.where = step, where


class FiniteWatch:
    """Watches logits and loss of every step: at once on the CPU, every 50 steps and at epoch ends on a GPU."""

    def __init__(self, rule: Rule, device: torch.device) -> None:
        self._rule, self._at_once = rule, device.type == "cpu"
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def see(self, step: int, x: Tensor, logits: Tensor, loss: Tensor) -> None:
        """Look at one step's outcome, before its update is applied.

        Args:
            step: the step, counted from 1.
            x: its input, to find the op with.
            logits: (B, classes).
            loss: 0-d.

        Raises:
            DivergedError: naming step and op.
        """
        total = logits.sum() + loss  # one number to look at; finite parts whose sum overflows have diverged as well
        if self._at_once:
            if not math.isfinite(total.item()):
                raise DivergedError(step, self._rule.first_nonfinite(x) or "the loss")
            return
        bad = ~torch.isfinite(total) & (self._first_bad < 0)
        self._first_bad.masked_fill_(bad, step)
        if step % _PATIENCE == 0:
            self.settle(x)

    def settle(self, x: Tensor) -> None:
        """Raise what steps since the last look have met (GPU)."""
        step = -1 if self._at_once else int(self._first_bad)
        if step >= 0:
            raise DivergedError(step, self._rule.first_nonfinite(x) or "the loss")


class FiniteWatches:
    """`FiniteWatch` over runs side by side: says which are lost, and since which step, instead of raising.

    Args:
        count: how many runs.
        device: where their outcomes are.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._at_once, self._device = device.type == "cpu", device
        self.keep(count)

    def keep(self, count: int) -> None:
        """Go on with this many runs, all of them finite so far."""
        self._first_bad = torch.full((count,), -1, dtype=torch.int64, device=self._device)

    def see(self, step: int, logits: Tensor, loss: Tensor) -> dict[int, int]:
        """Look at one step's outcome; return the lost runs, place -> step (on a GPU every 50 steps).

        Args:
            step: the step, counted from 1.
            logits: (runs, B, classes).
            loss: (runs,).
        """
        finite = torch.isfinite(logits.flatten(1).sum(1) + loss)
        if self._at_once and bool(finite.all()):
            return {}
        self._first_bad.masked_fill_(~finite & (self._first_bad < 0), step)
        return self.settle() if self._at_once or step % _PATIENCE == 0 else {}

    def settle(self) -> dict[int, int]:
        """Return what steps since the last look have met."""
        return {at: step for at, step in enumerate(self._first_bad.tolist()) if step >= 0}


def check_parameters(model: nn.Module, step: int) -> None:
    """Raise `DivergedError` where the last update left a parameter or buffer that is not finite."""
    name = nonfinite_parameter(model)
    if name is not None:
        raise DivergedError(step, f"'{name}' after the update")
