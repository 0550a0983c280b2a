"""Check Theorem 4 of LISP (paper 1, section 3.2) at a training step: its assumptions, its bound, and the descent.

S      squared hinge over all violations (Eq. 2), mean over the batch
W_l    parameters of layer l: weight and bias (the two parameters of a normalization are a layer too); L: the output layer
D_l    the optimizer's change of layer l; the theorem's eta dW_l
eta    the step's learning rate
eps    rule.clip; without clipping the smallest number for which (A1) is true
L_S    Lipschitz constant of the gradient of S along the step

    (A1) |D_l| <= eta eps |W_l|, l < L     (A2) eta <= 1 / L_S     (A3) <grad_l S, D_l> <= 0, l < L
    (5)  S(W + D) <= S(W) - eta/2 |grad_L S|^2 + L_S eta^2 eps^2 / 2 sum_{l<L} |W_l|^2

The proof also requires D_L = -eta grad_L S: the raw error signal of all violations, plain SGD without momentum or weight decay,
and an output layer that is not clipped (``rule.clip_output=false``). If all of this is true, (5) must be true.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.diagnostics.base import Diagnostic, Watched
from credit.diagnostics.networks import layers
from credit.engine.draws import Draws
from credit.rules import api
from credit.rules.base import Step
from credit.rules.transforms import output_layer

_EXACT = 1e-3  # relative tolerance: several times the rounding of float32's long sums in a norm or an update


@dataclass
class Point:
    """S and its gradient at a point of weight space, in float64.

    Attributes:
        weights: trainable parameters by name.
        value: S.
        gradient: gradient of S by parameter name.
    """

    weights: dict[str, Tensor]
    value: float
    gradient: dict[str, Tensor]


class _StepsOwnDraws(Draws):
    """The random numbers of the step (dropout masks), drawn in the network's precision and converted to float64."""

    drawn_as: torch.dtype = torch.float32

    def get(
        self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype, rows: bool = False
    ) -> Tensor:
        return super().get(name, distribution, shape, self.drawn_as, rows).to(dtype)


class Descent(Diagnostic):
    """The diagnostic ``descent``: see `theorem_4` for the numbers. S is computed on the step's batch, in train mode."""

    tasks = ("classification", "binary")

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        rule = run.rule
        # The margin of S is the rule's, or 1 for a rule without a margin.
        margin = float(getattr(getattr(rule, "loss", None), "margin", 1.0))
        settings = api.read("lisp_raw") | {"gate": "derivative", "margin": margin, "local_autograd": True}
        try:
            example = None if rule.plan.sample is None else rule.plan.sample.batch()
            self._hinge = api.build(settings, rule.model, seed=rule.seed, example=example)
        except UserError as refusal:
            raise UserError(f"trainer.measure=[descent] needs the gradient of S: {refusal}") from None
        grouped = layers(rule.plan)
        last = output_layer(rule.plan)
        self._output = [name for name in rule.plan.trainable if name in last]
        self._hidden = {layer: names for layer, names in grouped.items() if not last & set(names)}
        self._dtype = next(p.dtype for p in rule.model.parameters() if p.is_floating_point())
        self._before: Point | None = None

    def before(self, x: Tensor, y: Tensor) -> None:
        """Compute S and its gradient before the step."""
        self._hinge.position = self.run.rule.position
        self._before = self._point(x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return `theorem_4` of the step."""
        start, self._before = self._before, None
        assert start is not None
        rate = float(self.run.optimizer.param_groups[0]["lr"])
        rounding = torch.finfo(self._dtype).eps
        end = self._point(x, y)
        return theorem_4(start, end, rate, self.run.rule.options.clip, self._hidden, self._output, rounding)

    def _point(self, x: Tensor, y: Tensor) -> Point:
        model, draws = self.run.rule.model, _StepsOwnDraws(self._hinge.seed, self._hinge.position, x.device)
        draws.drawn_as = self._dtype
        # Copies, also of float64 tensors: the step changes the weights, and BatchNorm its buffers.
        weights = {name: p.detach().to(torch.float64, copy=True) for name, p in model.named_parameters()}
        buffers = {
            name: b.to(torch.float64 if b.is_floating_point() else b.dtype, copy=True)
            for name, b in model.named_buffers()
        }
        with torch.no_grad():
            found = self._hinge.computed(weights, buffers, x.double(), y, draws)
        names = self._hinge.plan.trainable
        return Point(
            {name: weights[name] for name in names}, float(found.loss), {name: found.updates[name] for name in names}
        )


def theorem_4(
    start: Point,
    end: Point,
    rate: float,
    clip: float | None,
    hidden: dict[str, list[str]],
    output: list[str],
    rounding: float,
) -> dict[str, Any]:
    """Return the quantities of Theorem 4 at a step, and whether its assumptions and its bound are true.

    Args:
        start, end: S before and after the step.
        rate: eta.
        clip: eps; None for no clipping.
        hidden: parameter names by hidden layer.
        output: parameter names of the output layer.
        rounding: machine epsilon of the weights' dtype; differences that rounding explains violate no assumption.

    Returns:
        ``S``, ``S_after``, ``descends`` (1 or 0); ``bound``, the right side of (5), ``holds``, whether S_after is below it;
        ``eta``, ``epsilon``; ``A1``, the largest |D_l| / (eta |W_l|) of a hidden layer; ``A2``, eta L_S; ``A3``, the fraction of
        hidden layers with <grad_l S, D_l> <= 0; ``A3_worst``, the largest cosine of D_l and grad_l S; ``A1_holds``, ``A2_holds``,
        ``A3_holds``; ``output_gap``, |D_L + eta grad_L S| / |eta grad_L S|; ``output_holds``, whether rounding explains it;
        ``applies``, whether all four are true; ``smoothness``, L_S, the larger of ``curvature``,
        2 (S_after - S - <grad S, D>) / |D|^2, and ``gradient_change``, |grad S(W + D) - grad S(W)| / |D|; ``layers``: ``ratio``
        (as in A1) and ``cosine`` by hidden layer.
    """
    step = {name: end.weights[name] - start.weights[name] for name in start.weights}
    smooth = _smoothness(start, end, step)
    inside = _hidden_layers(start, step, hidden, rate, clip, rounding)
    last = _output_layer(start, step, output, rate, rounding)
    sharp = rate * smooth["smoothness"]
    bound, slack = _bound(start, step, hidden, output, rate, inside["epsilon"], smooth["smoothness"], rounding)
    return {
        "S": start.value,
        "S_after": end.value,
        "descends": int(end.value <= start.value),
        "bound": bound,
        "holds": int(end.value <= bound + slack),
        "applies": int(inside["A1_holds"] and sharp <= 1 and inside["A3_holds"] and last["output_holds"]),
        "eta": rate,
        "A2": sharp,
        "A2_holds": int(sharp <= 1),
        **inside,
        **last,
        **smooth,
    }


def _hidden_layers(
    start: Point, step: dict[str, Tensor], hidden: dict[str, list[str]], rate: float, clip: float | None, rounding: float
) -> dict[str, Any]:  # fmt: skip
    """Return eps and the quantities of (A1) and (A3), over the hidden layers and by layer."""
    by_layer = {layer: _hidden_layer(start, step, names, rate) for layer, names in hidden.items()}
    falls = [found.pop("falls") for found in by_layer.values()]
    largest = max((found["ratio"] for found in by_layer.values()), default=0.0)
    epsilon = largest if clip is None else clip
    allowed = math.hypot(epsilon, rounding / rate if rate else 0.0)
    return {
        "epsilon": epsilon,
        "A1": largest,
        "A1_holds": int(largest <= (1 + _EXACT) * allowed),
        "A3": sum(falls) / len(falls) if falls else 1.0,
        "A3_holds": int(all(falls)),
        "A3_worst": max((found["cosine"] for found in by_layer.values()), default=-1.0),
        "layers": by_layer,
    }


def _output_layer(
    start: Point, step: dict[str, Tensor], output: list[str], rate: float, rounding: float
) -> dict[str, Any]:
    """Return |D_L + eta grad_L S| / |eta grad_L S|, and whether rounding explains it."""
    slope = _norm(start.gradient, output)
    gap = _norm({name: step[name] + rate * start.gradient[name] for name in output}, output)
    allowed = min(_EXACT * rate * slope + rounding * _norm(start.weights, output), 0.01 * rate * slope)
    return {"output_gap": _quotient(gap, rate * slope), "output_holds": int(gap <= allowed)}


def _bound(
    start: Point, step: dict[str, Tensor], hidden: dict[str, list[str]], output: list[str],
    rate: float, epsilon: float, smoothness: float, rounding: float,
) -> tuple[float, float]:  # fmt: skip
    """Return the right side of (5), and the excess of S over it that rounding explains."""
    slope = _norm(start.gradient, output)
    weights = sum(_norm(start.weights, names) ** 2 for names in hidden.values())
    # Rounding of the stored weights, by its effect on S, and rounding of S's own sum.
    stored = {name: start.weights[name] * start.gradient[name] for name in step}
    slack = rounding * (8 * start.value + _norm(stored, step))
    return start.value - rate / 2 * slope**2 + smoothness * (rate * epsilon) ** 2 / 2 * weights, slack


def _hidden_layer(start: Point, step: dict[str, Tensor], names: list[str], rate: float) -> dict[str, float]:
    size, slope, weight = _norm(step, names), _norm(start.gradient, names), _norm(start.weights, names)
    inner = _inner(start.gradient, step, names)
    return {
        "ratio": _quotient(size, rate * weight),
        "cosine": _quotient(inner, size * slope),
        "falls": inner <= 0,
    }


def _smoothness(start: Point, end: Point, step: dict[str, Tensor]) -> dict[str, float]:
    """Return L_S estimated from both ends of the step; each number is a lower bound of the Lipschitz constant on the segment."""
    length = _norm(step, step)
    straight = start.value + _inner(start.gradient, step, step)
    curvature = _quotient(2 * (end.value - straight), length**2)
    change = {name: end.gradient[name] - start.gradient[name] for name in step}
    lipschitz = _quotient(_norm(change, step), length)
    return {"smoothness": max(curvature, lipschitz), "curvature": curvature, "gradient_change": lipschitz}


def _norm(values: dict[str, Tensor], names: Any) -> float:
    return float(sum(float(values[name].square().sum()) for name in names)) ** 0.5


def _inner(a: dict[str, Tensor], b: dict[str, Tensor], names: Any) -> float:
    return float(sum(float((a[name] * b[name]).sum()) for name in names))


def _quotient(a: float, b: float) -> float:
    """Return a / b; 0 if both are zero, inf if only b is zero."""
    if b:
        return a / b
    return float("inf") if a else 0.0
