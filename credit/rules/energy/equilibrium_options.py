"""What equilibrium propagation leaves to choose, and what of it cannot be (see `credit.rules.energy.equilibrium`)."""

import math
from dataclasses import dataclass
from typing import Literal

from credit.core.errors import UserError
from credit.engine.inference.segments import Segments
from credit.rules.shared import SharedOptions


@dataclass(frozen=True)
class EquilibriumOptions(SharedOptions):
    """What settling leaves to choose.

    Attributes:
        phases: 2: free, then nudged towards the target; 3: also nudged away, from the free states again.
        free_steps, nudged_steps: how often all states are renewed in a phase.
        beta: strength of the nudge, above 0.
        clamped: hold the output at the target in the second phase (contrastive Hebbian learning); beta is not read.
        gamma: gain of feedback, in (0, 1]; updates of layer k get the factor ``gamma^(k - L)``, which makes up for it.
        loss: ``half_sse``: 1/2 sum over outputs of (s - y)^2, or ``ce``.
        ceiling: the largest size of a hidden state; with ReLU and 1, the paper's units. None: without bounds, where feedback and
            weights soon amplify each other.
        begin: states before the free phase: ``zeros``, or those of the ``forward`` pass.
        transport: what feedback crosses weights by.
        pool_first, batchnorm: as in dual propagation.
    """

    phases: int = 2
    free_steps: int = 30
    nudged_steps: int = 10
    beta: float = 0.5
    clamped: bool = False
    gamma: float = 1.0
    loss: Literal["half_sse", "ce"] = "half_sse"
    ceiling: float | None = 1.0
    begin: Literal["zeros", "forward"] = "zeros"
    transport: str = "transpose"
    pool_first: bool = True
    batchnorm: Literal["refuse", "frozen"] = "refuse"


def refuse_numbers(chosen: EquilibriumOptions) -> None:
    """Refuse what cannot be, whatever the network."""
    for name in ("free_steps", "nudged_steps"):
        if getattr(chosen, name) < 1:
            raise UserError(
                f"rule.{name}={getattr(chosen, name)}: without a step no state settles; write rule.{name}=1 or more, of the "
                "order of the number of layers"
            )
    if not 0 < chosen.beta < math.inf:
        raise UserError(
            f"rule.beta={chosen.beta:g} must be above 0: it is the strength of the nudge, by which updates are divided; write "
            "rule.beta=0.5"
        )
    if not 0 < chosen.gamma <= 1:
        raise UserError(
            f"rule.gamma={chosen.gamma:g} is outside (0, 1]: it is the gain of feedback, and updates are divided by its "
            "powers; 1 is equilibrium propagation's, contrastive Hebbian learning comes close to backprop as it gets small"
        )
    if chosen.ceiling is not None and chosen.ceiling <= 0:
        raise UserError(
            f"rule.ceiling={chosen.ceiling:g} must be above 0: hidden states are kept within it; write rule.ceiling=1, or null "
            "for no bounds"
        )
    if chosen.phases not in (2, 3):
        raise UserError(
            f"rule.phases={chosen.phases}: there are 2 (free, then nudged) or 3 (nudged away as well); write rule.phases=2"
        )
    if chosen.clamped and chosen.phases != 2:
        raise UserError(
            f"rule.phases={chosen.phases} with rule.clamped=true: a clamped output cannot be pushed away from its target; "
            "write rule.phases=2, or rule=eqprop rule.phases=3"
        )
    if chosen.clamped and chosen.loss != EquilibriumOptions.loss:
        raise UserError(
            f"rule.loss={chosen.loss} would change nothing: with rule.clamped=true the output is at its target, whatever the "
            "loss; leave it out, or write rule=eqprop"
        )
    if chosen.clamped and chosen.beta != EquilibriumOptions.beta:
        raise UserError(
            f"rule.beta={chosen.beta:g} would change nothing: with rule.clamped=true the output is at its target, however "
            "strong a nudge; leave it out, or write rule=eqprop"
        )


def refuse_branches(chosen: EquilibriumOptions, segments: Segments, model: str) -> None:
    """Refuse a gain that is discounted by depth where a layer has more than one."""
    if chosen.gamma == 1:
        return
    for state in segments.states:
        if skipping := [child for child in state.children if child != state.index + 1]:
            where = "the output" if state.op is None else state.op.describe()
            far = segments.by_number[skipping[0]].op
            raise UserError(
                f"rule.gamma={chosen.gamma:g} discounts each layer's energy by its depth, which needs one layer "
                f"after the other, but {where} in {model} also leads to "
                f"{'the output' if far is None else far.describe()}; write rule.gamma=1 (rule=eqprop), or use a network "
                "without skips"
            )
