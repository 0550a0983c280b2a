"""Options of rules that settle states: dual propagation (kind ``dual``), equilibrium propagation (``equilibrium``). No torch.

Legend: s+ and s- the two states of a unit, s_k states, W weights, y targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from credit.core.errors import UserError
from credit.core.options import opt
from credit.core.registry import component
from credit.rules.backward.options import ce_or_half_sse
from credit.rules.options import RuleOptions


def _feedback_weights() -> Any:
    return opt("transpose", "weights by which feedback crosses a layer", family="feedback_weights", was="transport")


def _pool_first() -> Any:
    return opt(True, "max pools change places with the activation before them, which leaves the network as it is: a state stands "
               "for a window, as in the authors' code")  # fmt: skip


def _batchnorm() -> Any:
    return opt("refuse", "refuse BatchNorm, or take it frozen: in its running statistics, which steps then never move")


@component("rule", "dual", "credit.rules.energy.dual:DualRule")
@dataclass(frozen=True)
class DualOptions(RuleOptions):
    """Dual propagation: two states a unit, driven apart by a nudge of the output."""

    variant: Literal["original", "adjoint", "lpom"] = opt(
        "original", "original (Eq. 2, 3), adjoint (DP^T, Eq. 19, 22), or lpom (alpha = 1, s- in closed form, Eq. 45)"
    )
    alpha: float | Sequence[float] = opt(
        0.5, "weight of s+ in a unit's value, that of s- being 1 - alpha; a list gives one to each layer, the output's last", ge=0,
        le=1, source="Eq. 2",
    )  # fmt: skip
    beta: float | Sequence[float] = opt(
        0.01, "strength of the nudge, by which updates are divided (the paper: 0.01 to 1); a list gives one to each layer, the "
        "output's last", gt=0, source="Eq. 12",
    )  # fmt: skip
    loss: Literal["auto", "ce", "half_sse"] = ce_or_half_sse("auto")
    schedule: Literal["fwbw", "fw", "random"] = opt(
        "fwbw",
        "order of the states' updates: fwbw (with one pass as cheap as backprop), fw (needs as many passes as layers), random",
    )
    passes: int = opt(1, "how often all states are updated; without a pass no state is nudged", ge=1)
    nudge: Literal["current", "frozen", "prox"] = opt(
        "current", "the loss's gradient at the current prediction, or frozen: at the one before any nudge (the authors' code of "
        "DP^T), or prox: the exact minimiser of least squares (Eq. 3; not of DP^T)",
    )  # fmt: skip
    damped: bool = opt(False, "stabilise repeated passes", source="Eq. 50")
    damping: Literal["norm", "half_excess"] = opt(
        "norm", "how strongly: L = |W|^2 (the paper), or half_excess: max(0, (|W|^2 - 1) / 2) (the authors' code)", when="damped",
        symbol="L",
    )  # fmt: skip
    power_iterations: int = opt(
        5, "power iterations that find the damping's |W^T W| (the paper: 5)", ge=1, when="damped"
    )
    feedback_weights: str = _feedback_weights()
    input_robustness: bool = opt(False, "give the input a state too, E_0 = 1/2 |s_0 - x|^2")
    pool_first: bool = _pool_first()
    switches: Literal["mean", "plus"] = opt(
        "mean", "inputs of a max pool that feedback goes to: largest at the states' values when the pool was last evaluated, or "
        "plus: largest at the current s+ (the authors' code)",
    )  # fmt: skip
    batchnorm: Literal["refuse", "frozen"] = _batchnorm()

    def __post_init__(self) -> None:
        for alpha in _each(self.alpha) if self.variant == "lpom" else ():
            if alpha != 1:
                raise UserError(
                    f"rule.alpha={alpha:g} is not lpom, which is dual propagation at alpha = 1 with s- in closed form (Eq. 45); "
                    "write rule.alpha=1, or rule=dp"
                )
        if self.nudge == "prox":
            self._check_prox()

    def _check_prox(self) -> None:
        """Refuse an exact nudge where there is none."""
        if self.variant == "adjoint":
            raise UserError(
                "rule.nudge=prox belongs to the original dual propagation (Eq. 3); DP^T's output is its loss's gradient (Eq. 22): "
                "write rule.nudge=current or frozen, or rule=dp"
            )
        if self.loss != "half_sse":
            raise UserError(
                f"rule.nudge=prox is the exact minimiser of least squares, and rule.loss={self.loss} has none in closed "
                "form; write rule.loss=half_sse, or rule.nudge=current, which is linear in the loss"
            )
        if [] in (self.alpha, self.beta):
            return  # refused where the number of layers is known
        alpha, beta = _each(self.alpha)[-1], _each(self.beta)[-1]  # the output's
        if (1 - alpha) * beta >= 1:
            raise UserError(
                f"rule.nudge=prox with alpha={alpha:g} and beta={beta:g} diverges: s- is pushed away from the target by "
                f"(1 - alpha) beta = {(1 - alpha) * beta:g} times the squared distance, but pulled back by 1 times it, so that "
                "there is no minimum at 1 or above; lower rule.beta or raise rule.alpha, or write rule.nudge=current"
            )


@component("rule", "equilibrium", "credit.rules.energy.equilibrium:EquilibriumRule")
@dataclass(frozen=True)
class EquilibriumOptions(RuleOptions):
    """Equilibrium propagation and contrastive Hebbian learning: a network that settles freely, then nudged."""

    phases: int = opt(2, "2: free, then nudged towards the target; 3: also nudged away from it, from the free states again", ge=2,
                      le=3, source="Laborieux et al. 2021")  # fmt: skip
    free_steps: int = opt(
        30, "steps of all states in the free phase, of the order of the number of layers or more", ge=1
    )
    nudged_steps: int = opt(
        10, "steps of all states in each nudged phase, of the order of the number of layers or more", ge=1
    )
    beta: float = opt(0.5, "strength of the nudge, by which updates are divided", gt=0, when="clamp_output=false",
                      source="Scellier and Bengio 2017")  # fmt: skip
    clamp_output: bool = opt(
        False,
        "clamp the output to the target in the second phase, in place of a nudge",
        was="clamped",
        source="Xie and Seung 2003",
    )
    gamma: float = opt(
        1.0, "gain of feedback; the update of layer k is multiplied by gamma^(k - L). 1 is equilibrium propagation's, contrastive "
        "Hebbian learning comes close to backprop as it gets small", gt=0, le=1, source="Xie and Seung 2003",
    )  # fmt: skip
    activation_bound: float | None = opt(
        1.0, "largest size of a hidden state; null: no bound, where feedback and weights of ReLU networks soon amplify each other",
        gt=0, was="ceiling",
    )  # fmt: skip
    loss: Literal["half_sse", "ce"] = ce_or_half_sse("half_sse", when="clamp_output=false")
    initial_state: Literal["zeros", "forward"] = opt(
        "zeros", "states before the free phase: zeros, or those of the forward pass", was="begin"
    )
    feedback_weights: str = _feedback_weights()
    pool_first: bool = _pool_first()
    batchnorm: Literal["refuse", "frozen"] = _batchnorm()

    def __post_init__(self) -> None:
        if self.clamp_output and self.phases != 2:
            raise UserError(
                f"rule.phases={self.phases} with rule.clamp_output=true: a clamped output cannot be pushed away from its target; "
                "write rule.phases=2, or rule=eqprop rule.phases=3"
            )


def _each(value: float | Sequence[float]) -> Sequence[float]:
    return value if isinstance(value, Sequence) else [value]
