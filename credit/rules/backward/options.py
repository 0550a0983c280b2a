"""Options of the backward pass (kind ``sweep``) and of its components: losses, gates, feedback weights, normalizers. No torch.

Legend: z pre-activation, f activation, h = f(z), W weight, B feedback weight, o outputs, y labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from credit.core.errors import UserError
from credit.core.options import opt
from credit.core.registry import component, declare, rename
from credit.rules.options import RuleOptions

_LOSSES = "credit.rules.backward.losses"
_GATES = "credit.rules.backward.gates"
_UNTIED = "credit.rules.backward.untied"
_FEEDBACK = "credit.rules.backward.feedback_weights"
_NORMALIZERS = "credit.rules.backward.normalizers"


@component("rule", "sweep", "credit.rules.backward.rule:BackwardRule")
@dataclass(frozen=True)
class BackwardOptions(RuleOptions):
    """One forward pass, one backward pass: four components, and what belongs to the backward pass itself."""

    MOVED: ClassVar[Mapping[str, str]] = {
        "fgsm_epsilon": "examples are moved by the trainer, for any rule; write trainer.adversarial_epsilon={value}",
        "adversarial_share": "examples are moved by the trainer, for any rule; write trainer.adversarial_share={value}",
    }

    loss: str = opt(
        "auto", "the loss whose gradient at the output is the error signal; auto: cross-entropy (ce) of classes and tokens, mse of "
        "numbers", family="loss", was="signal", same={"ce": "auto"},
    )  # fmt: skip
    gate: str = opt("derivative", "what happens to the error signal at an activation", family="gate")
    feedback_weights: str = opt(
        "transpose", "weights by which the error signal crosses a layer", family="feedback_weights", was="transport"
    )
    normalizer: str = opt(
        "none", "what happens to the error signal on arrival at a layer of weights", family="normalizer"
    )
    signal_dropout: float = opt(
        0.0, "share of the error signal's elements zeroed on arrival at each layer of weights, the rest scaled up by "
        "1 / (1 - share)", ge=0, lt=1, source="LISP, Appendix B (constraint dropout)",
    )  # fmt: skip
    sparse: Literal["auto"] | bool = opt(
        "auto", "leave samples without an error signal out of the backward pass, which is exact up to the order of summation; "
        "auto: where it pays (on the CPU) and the network does not couple samples; true: everywhere, or refused", speed=True,
    )  # fmt: skip


rename(
    "rule",
    {"bp_fgsm": "examples are moved by the trainer, for any rule; write rule=bp trainer.adversarial_epsilon=0.01"},
)

# ------------------------------------------------------------ losses


@component("loss", "auto", f"{_LOSSES}:Usual")
@component("loss", "ce", f"{_LOSSES}:CrossEntropy")
@dataclass(frozen=True)
class CrossEntropyOptions:
    """Options of cross-entropy."""

    label_smoothing: float = opt(
        0.0, "share of the target that is spread evenly over all classes", ge=0, lt=1, source="Szegedy et al. 2016"
    )
    class_weights: list[float] | None = opt(
        None, "factors of the classes' terms of the loss, one a class; null: 1 for each", ge=0, symbol="w_c"
    )


@component("loss", "worst_violation", f"{_LOSSES}:WorstViolation")
@component("loss", "violations", f"{_LOSSES}:Violations")
@dataclass(frozen=True)
class MarginOptions:
    """Options of the losses that ask for a margin between the true class's output and the others'."""

    margin: float = opt(
        1.0, "margin m of the violations max(0, m - (o_y - o_j)); at 0 all-equal outputs would have none", gt=0, symbol="m",
        source="LISP, Eq. 1",
    )  # fmt: skip


declare(
    "loss",
    {
        "ce_rate": f"{_LOSSES}:CrossEntropyRate",
        "mse": f"{_LOSSES}:SquaredError",
        "half_sse": f"{_LOSSES}:HalfSquaredError",
    },
)

HALF_SSE: Mapping[str, str] = {
    "mse": "half the sum over outputs, 1/2 sum_j (o_j - y_j)^2, is rule.loss=half_sse, with the same numbers as before; mse is the "
    "mean over outputs of (o_j - y_j)^2 (rule=bp rule.loss=mse)"
}
"""Refusal of the earlier name of the loss ``half_sse``, of kinds of rules with states or targets."""


def ce_or_half_sse(default: str, **more: Any) -> Any:
    """Return the option ``loss`` of a kind of rules that has these two."""
    return opt(
        default,
        "ce: cross-entropy; half_sse: 1/2 sum over outputs of (o - y)^2, the mean over samples; auto: ce of classes and tokens, "
        "half_sse of numbers",
        renamed=HALF_SSE,
        same={"ce": "auto"},
        **more,
    )


# ------------------------------------------------------------ gates

declare("gate", {"derivative": f"{_GATES}:Derivative"})


@component("gate", "responsive", f"{_GATES}:Responsive")
@dataclass(frozen=True)
class ResponsiveOptions:
    """Options of LISP's responsiveness."""

    override: bool = opt(
        True, "let step and sign pass the error signal, though they rise nowhere", source="LISP, Appendix A"
    )


@component("gate", "inverse", f"{_GATES}:Inverse")
@dataclass(frozen=True)
class InverseOptions:
    """Options of inverse propagation."""

    inverse_scale: float = opt(
        1.0, "size s of the desired change of h; 1 is the paper's form", gt=0, source="LISP, Appendix G"
    )
    inverse_clamp: float = opt(
        1e-3, "share of the activation's range that h, and h after the change, are kept from its ends", gt=0, lt=0.5
    )


@component("gate", "straight_through", f"{_GATES}:StraightThrough")
@dataclass(frozen=True)
class StraightThroughOptions:
    """Options of the straight-through estimator."""

    ste_window: Literal["none", "clipped"] = opt(
        "none",
        "where step and sign pass the error signal: everywhere, or clipped: where |z| <= 1",
        source="Hubara et al. 2016",
    )


def _height() -> Any:
    return opt(None, "largest factor of the gate, by which error signals are multiplied; null: the gate's own", ge=0)


def _width() -> Any:
    return opt(None, "whole width of the interval |z| <= width/2 in which the gate is open; null: the gate's own", gt=0)


@component("gate", "untied_constant", f"{_UNTIED}:Constant")
@dataclass(frozen=True)
class ConstantOptions:
    """Options of a constant factor; its own height is 1."""

    height: float | None = _height()


@component("gate", "untied_rectangle", f"{_UNTIED}:Rectangle")
@dataclass(frozen=True)
class RectangleOptions:
    """Options of a rectangle; its own height and width are 1, those of the authors' package."""

    height: float | None = _height()
    width: float | None = _width()
    low: float | None = opt(None, "lower end of the interval of z, with rule.high in place of a width; null: -width/2")
    high: float | None = opt(None, "upper end of the interval of z, with rule.low in place of a width; null: width/2")

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            return
        given = " ".join(f"rule.{name}={getattr(self, name):g}" for name in ("low", "high", "width")
                         if getattr(self, name) is not None)  # fmt: skip
        if self.low is None or self.high is None or self.width is not None:
            raise UserError(
                f"{given}: untied_rectangle passes signals where low <= z <= high, so it needs both ends and no width (which is "
                "the interval from -width/2 to width/2), for example rule.low=-0.2 rule.high=1"
            )
        if self.low >= self.high:
            raise UserError(
                f"{given} leaves untied_rectangle no interval to pass signals in: low must be below high, for example "
                "rule.low=-0.2 rule.high=1"
            )


@component("gate", "untied_triangle", f"{_UNTIED}:Triangle")
@dataclass(frozen=True)
class TriangleOptions:
    """Options of a triangle around z = 0."""

    height: float | None = _height()
    width: float | None = _width()
    shape: Literal["paper", "freegrad"] = opt(
        "paper", "height and width where they are null: 1/4 and 8 (the logistic derivative's size), or freegrad: 1 and 2 (the "
        "authors' package)", source="Untied gradients, Figure 6d",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.shape != "paper" and self.height is not None and self.width is not None:
            raise UserError(
                f"rule.shape={self.shape} would change nothing: rule.height={self.height:g} rule.width={self.width:g} say both of "
                "what it stands for; leave out the shape, or one of them"
            )


declare("gate", {"untied_logistic": f"{_UNTIED}:Logistic"})


@component("gate", "jam_positive", f"{_UNTIED}:PositiveJam")
@component("gate", "jam_full", f"{_UNTIED}:FullJam")
@dataclass(frozen=True)
class JamOptions:
    """Options of noise, drawn afresh for every step, sample and unit."""

    noise_low: float = opt(0.0, "least noise", ge=0, lt=1, was="low", source="Untied gradients, Figure 8")
    noise_high: float = opt(1.0, "largest noise", gt=0, le=1, was="high", source="Untied gradients, Figure 8")
    match_mean: bool = opt(
        False, "scale the noise, layer by layer, to the mean of the activation's derivative over the batch (the paper's text; not "
        "the authors' package)", source="Untied gradients, section 3",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.noise_low < self.noise_high:
            raise UserError(
                f"rule.noise_low={self.noise_low:g} rule.noise_high={self.noise_high:g}: a jam gate draws its noise between them, "
                "so they must satisfy 0 <= noise_low < noise_high <= 1; the paper's are rule.noise_low=0 rule.noise_high=1"
            )


@component("gate", "jam_rectangle", f"{_UNTIED}:RectangleJam")
@dataclass(frozen=True)
class RectangleJamOptions(JamOptions):
    """Options of noise in an interval; its own width is 10."""

    width: float | None = _width()


# ------------------------------------------------------------ feedback weights

declare("feedback_weights", {"transpose": f"{_FEEDBACK}:Transpose"})


@dataclass(frozen=True)
class ReplacingOptions:
    """Options of feedback weights that take the place of the layers' own weights."""

    unreached: Literal["refuse", "backprop"] = opt(
        "refuse", "what to do with ops that multiply the error signal by parameters and have no weight to replace (nn.LSTM, "
        "nn.Bilinear, products with a reshaped parameter); backprop: their adjoints, named in the run's notes",
    )  # fmt: skip
    feedback_scale: Literal["matched", "xavier"] = opt(
        "matched", "size of the feedback weights: matched (error signals begin at the size of those they replace) or xavier "
        "(root mean square sqrt(2 / (fan_in + fan_out)), as in biotorch)",
    )  # fmt: skip


@component("feedback_weights", "direct", f"{_FEEDBACK}:Direct")
@dataclass(frozen=True)
class DirectOptions(ReplacingOptions):
    """Options of direct feedback."""

    dfa_map: Literal["dense", "channels"] = opt(
        "dense", "what the output error is mapped to: every element of a layer's input, or channels: one value for all positions "
        "of a convolution's channel", source="Nokland 2016",
    )  # fmt: skip


declare(
    "feedback_weights",
    {
        "fixed_random": f"{_FEEDBACK}:FixedRandom",
        "kolen_pollack": f"{_FEEDBACK}:KolenPollack",
        "sign": f"{_FEEDBACK}:UniformSign",
        "sign_fixed_random": f"{_FEEDBACK}:FixedSign",
        "sign_random": f"{_FEEDBACK}:FreshSign",
    },
    ReplacingOptions,
)

# ------------------------------------------------------------ normalizers

declare(
    "normalizer",
    {"none": f"{_NORMALIZERS}:Unchanged", "rms": f"{_NORMALIZERS}:RootMeanSquare", "max_abs": f"{_NORMALIZERS}:MaxAbs"},
)
