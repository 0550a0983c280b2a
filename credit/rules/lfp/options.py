"""Options of layer-wise feedback propagation (kind ``lfp``), its relevance rules and feedback functions. Imports no torch.

Legend: z_j outputs and z_ij contributions of a layer, r_j an output's feedback, o logits.
"""

from dataclasses import dataclass
from typing import Any, Literal

from credit.core.errors import UserError
from credit.core.options import opt
from credit.core.registry import component, declare
from credit.rules.options import RuleOptions

_FEEDBACKS = "credit.rules.lfp.feedbacks"
_RELEVANCE = "credit.rules.lfp.relevance"


def _epsilon() -> Any:
    return opt(1e-6, "stabiliser that keeps denominators from 0, of sums and averages too; rule=lfp_0 has none", gt=0,
               source="LFP, Eqs. 8, 9")  # fmt: skip


@component("rule", "lfp", "credit.rules.lfp.rule:LfpRule")
@dataclass(frozen=True)
class LfpOptions(RuleOptions):
    """A feedback at the outputs, shared among the contributions of each layer."""

    relevance: str = opt("epsilon", "relevance rule: how a layer's outputs share their feedback", family="relevance")
    composite: dict[str, str] | None = opt(
        {}, "other relevance rules for some layers: linear, conv, first, last, a position from 0 (negative: from the end) or a "
        "pattern of names, to a rule's name; of several that fit, the later counts", family="relevance", same={None: {}},
        source="LFP, section 2.5",
    )  # fmt: skip
    feedback: Literal["auto"] | str = opt(
        "auto", "feedback function at the output; auto: spiking where the logits are counts of spikes, else sigmoid (Eq. 7)",
        family="feedback",
    )  # fmt: skip
    normalizer: Literal["auto", "none", "max_abs"] = opt(
        "auto", "max_abs: divide what arrives at a layer by its largest absolute value in the batch, in a spiking network at each "
        "time step (the authors' norm_backward); auto: on spiking networks",
    )  # fmt: skip
    reduction: Literal["mean", "sum"] = opt(
        "mean", "of the samples' updates: mean, or sum (an earlier version of the authors' code)"
    )
    dropout: Literal["pass", "gradient"] = opt(
        "pass",
        "a kept unit's feedback: unchanged, or gradient: once more times mask / (1 - p), as in the authors' code",
    )
    batchnorm: Literal["refuse", "epsilon", "folded"] = opt(
        "refuse", "BatchNorm as one more layer under LFP-epsilon, the batch's statistics part of its map (the authors' code), or "
        "folded into one layer with the weights before it",
    )  # fmt: skip
    epsilon: float = _epsilon()


# ------------------------------------------------------------ relevance rules

declare("relevance", {"zero": f"{_RELEVANCE}:Zero", "zpm": f"{_RELEVANCE}:SizeShare"})


@component("relevance", "epsilon", f"{_RELEVANCE}:Epsilon")
@dataclass(frozen=True)
class EpsilonOptions:
    """Options of LFP-epsilon."""

    epsilon: float = _epsilon()


@component("relevance", "alphabeta", f"{_RELEVANCE}:AlphaBeta")
@dataclass(frozen=True)
class AlphaBetaOptions(EpsilonOptions):
    """Options of LFP-alpha-beta."""

    alpha: float = opt(2.0, "weight of positive contributions; alpha - beta must be 1", source="LFP, Eqs. 10, 11")
    beta: float = opt(1.0, "weight of negative contributions; alpha - beta must be 1", ge=0, source="LFP, Eqs. 10, 11")

    def __post_init__(self) -> None:
        if abs(self.alpha - self.beta - 1) > 1e-6:
            raise UserError(
                f"rule.alpha={self.alpha:g} rule.beta={self.beta:g}: alpha - beta must be 1 and beta not below 0, or a layer would "
                "not conserve feedback (Eq. 11); for example rule.alpha=2 rule.beta=1, the paper's"
            )


@component("relevance", "gamma", f"{_RELEVANCE}:Gamma")
@dataclass(frozen=True)
class GammaOptions(EpsilonOptions):
    """Options of LFP-gamma."""

    gamma: float = opt(0.25, "extra weight of contributions that have the output's sign; 0 is LFP-epsilon", ge=0)


# ------------------------------------------------------------ feedback functions

declare(
    "feedback",
    {"sigmoid": f"{_FEEDBACKS}:Sigmoid", "softmax": f"{_FEEDBACKS}:Softmax", "spiking": f"{_FEEDBACKS}:Spiking"},
)


@component("feedback", "bounded_softmax", f"{_FEEDBACKS}:BoundedSoftmax")
@dataclass(frozen=True)
class BoundedSoftmaxOptions:
    """Options of the softmax that is cut off at both ends."""

    lower_bound: float = opt(0.0, "probabilities below it count as 0", ge=0, le=1)
    upper_bound: float = opt(1.0, "probabilities above it count as 1", ge=0, le=1)
    sign_only: bool = opt(False, "the logit's sign in place of the logit")

    def __post_init__(self) -> None:
        if self.lower_bound > self.upper_bound:
            raise UserError(
                f"rule.lower_bound={self.lower_bound:g} and rule.upper_bound={self.upper_bound:g} bound a probability: give "
                "0 <= lower_bound <= upper_bound <= 1, for example rule.lower_bound=0.05 rule.upper_bound=0.95"
            )


@component("feedback", "misclassification", f"{_FEEDBACKS}:Misclassification")
@component("feedback", "reward", f"{_FEEDBACKS}:Reward")
@dataclass(frozen=True)
class RewardOptions:
    """Options of rewards."""

    reward_sign: bool = opt(
        True, "multiply the reward by the logit's sign: feedback asks a logit to keep its sign and grow, so that a plain reward "
        "encourages a class only where its logit is positive; false: the paper to the letter", source="LFP, Appendix A.1",
    )  # fmt: skip
