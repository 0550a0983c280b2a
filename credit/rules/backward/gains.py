"""How large the error signal is at each weighted op: to scale direct feedback (see `credit.rules.backward.feedback_weights`).

The rule's own backward pass (its gates and normalizer) is made once with the transposed weights in the place of the feedback, for
normal inputs and a normal output signal drawn from the rule's seed: the result is a function of the model, its first weights and
the seed, and not of any data.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from credit.core.randomness import generator
from credit.engine.backward import BackwardPass
from credit.engine.ops.activations import Activate
from credit.engine.ops.weighted import Weighted
from credit.rules.backward.feedback_weights import root_mean_square
from credit.rules.state import RuleRun

if TYPE_CHECKING:
    from credit.rules.backward.rule import BackwardRule

SAMPLES = 16
"""Inputs that are drawn."""


class Gains(BackwardPass[RuleRun]):
    """A rule's backward pass across the transposed weights.

    Args:
        rule: whose ``arrive`` and ``gate`` are used.

    Attributes:
        found: by the op's name, the root mean square of the signal sent to its input over that of the output signal (0-d).
    """

    def __init__(self, rule: "BackwardRule") -> None:
        self.rule = rule
        self.found: dict[str, Tensor] = {}

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        """Change a signal as the rule does."""
        return self.rule.arrive(op, run, signal)

    def gate(self, op: Activate, run: RuleRun, signal: Tensor) -> Tensor:
        """Send a signal through an activation as the rule does."""
        return self.rule.gate(op, run, signal)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        """Send a signal across the op's own weights, and record its size."""
        sent = op.back(run, signal, op.weight(run))
        self.found[op.name] = root_mean_square(sent)
        return sent

    def measure(self, run: RuleRun, logits: Tensor) -> dict[str, Tensor]:
        """Return ``found`` after a backward pass.

        Args:
            run: the step's, after its forward pass over `inputs`.
            logits: what it returned, (N, outputs).
        """
        signal = torch.randn(logits.shape, generator=generator(self.rule.seed, "feedback.signal"), dtype=torch.float64)
        signal = (signal / root_mean_square(signal)).to(logits)
        plan = self.rule.plan
        plan.backward_from(run, {plan.exit: signal}, self)
        return self.found


def inputs(x: Tensor, seed: int) -> Tensor:
    """Return normal inputs shaped like those of a batch x (B, ...), (SAMPLES, ...); the batch itself where it is of integers."""
    if not x.is_floating_point():
        return x
    return torch.randn((SAMPLES, *x.shape[1:]), generator=generator(seed, "feedback.inputs"), dtype=torch.float64).to(x)
