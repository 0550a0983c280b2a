"""Elementwise activations: value, derivative, where they rise (LISP's Pi), and their inverse.

``Pi(z)`` is 1 where the activation is locally strictly increasing and 0 elsewhere (LISP, section 2). Step and sign rise
nowhere; the paper overrides them to 1, the straight-through estimator. GELU, SiLU and hard-swish fall somewhere, so the
paper leaves their Pi undefined: ``rises`` is None and a rule that needs it refuses them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """One elementwise function.

    Attributes:
        value: z, *options -> f(z).
        vjp: signal, kept, *options -> signal * f'(z), where ``kept`` is z or f(z) as ``keeps`` says; None: zero.
        keeps: ``input`` or ``output``.
        rises: ``always``, ``nowhere``, a function (kept, *options) -> bool mask, or None where the function also falls.
        inverse: (h, *options) -> z on the open range ``span``; None where it has none.
        span: (h's lower end, upper end) for the options given.
        gap: (t, f(q + t), f(q), *options) -> f(q + t) - f(q) without the rounding of a difference of near numbers; None where no
            closed form is known.
        gap_: the same, over f(q).
        sound: options -> whether they leave it rising where ``rises`` says: a leaky ReLU of slope 0 or below does not.
        value_: in-place form of ``value``.
    """

    value: Callable[..., Tensor]
    vjp: Callable[..., Tensor] | None
    keeps: str = "input"
    rises: str | Callable[..., Tensor] | None = "always"
    inverse: Callable[..., Tensor] | None = None
    span: Callable[..., tuple[float, float]] = lambda *_: (-math.inf, math.inf)
    value_: Callable[..., Tensor] | None = None
    gap: Callable[..., Tensor] | None = None
    gap_: Callable[..., Tensor] | None = None
    sound: Callable[..., bool] = lambda *_: True


def _inside(low: float, high: float) -> Callable[..., Tensor]:
    return lambda z, *_: (z > low) & (z < high)


def _clip_gap(t: Tensor, p: Tensor, q: Tensor, low: float, high: float) -> Tensor:
    return torch.clamp(t, min=torch.maximum(low - q, p - high), max=torch.minimum(p - low, high - q))


def _relu_gap(t: Tensor, p: Tensor, q: Tensor) -> Tensor:
    return torch.clamp(t, min=-q, max=p)


def _leaky_gap(t: Tensor, p: Tensor, q: Tensor, slope: float) -> Tensor:
    if slope <= 0:
        return p - q  # two arguments may have the same value
    return slope * t + (1 - slope) * _relu_gap(t, p.relu(), q.relu())


def _tanh_gap(t: Tensor, p: Tensor, q: Tensor) -> Tensor:
    return torch.tanh(t) * (1 - p * q)


def _elu_gap(t: Tensor, p: Tensor, q: Tensor, alpha: float, scale: float = 1.0, rate: float = 1.0) -> Tensor:
    # Across 0 both values are small, and their difference loses nothing.
    below, above = (q + scale * alpha) * torch.expm1(t * rate), p - q
    return torch.where((p < 0) & (q < 0), below, torch.where((p > 0) & (q > 0), t * scale, above))


def _softplus_inverse(h: Tensor, beta: float, threshold: float) -> Tensor:
    return torch.where(h * beta > threshold, h, torch.log(torch.expm1(h * beta)) / beta)


def _elu_inverse(h: Tensor, alpha: float, scale: float = 1.0, rate: float = 1.0) -> Tensor:
    return torch.where(h > 0, h / scale, torch.log1p(h.clamp(max=0) / (scale * alpha)) / rate)


_SELU = 1.6732632423543772, 1.0507009873554805
"""Alpha and scale of torch's SELU (Klambauer et al. 2017)."""


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        torch.relu,
        lambda s, a: aten.threshold_backward(s, a, 0),
        "output",
        lambda a: a > 0,
        lambda h: h,
        value_=torch.relu_,
        gap=_relu_gap,
        gap_=lambda t, p, q: torch.clamp(t, min=q.neg_(), max=p),
    ),
    "leaky_relu": Activation(
        F.leaky_relu,
        lambda s, z, slope: aten.leaky_relu_backward(s, z, slope, False),
        inverse=lambda h, slope: torch.where(h > 0, h, h / slope),
        gap=_leaky_gap,
        sound=lambda slope: slope > 0,
    ),
    "relu6": Activation(
        F.relu6,
        lambda s, z: aten.hardtanh_backward(s, z, 0.0, 6.0),
        rises=_inside(0, 6),
        inverse=lambda h: h,
        span=lambda: (0, 6),
        gap=lambda t, p, q: _clip_gap(t, p, q, 0, 6),
    ),
    "hardtanh": Activation(
        F.hardtanh,
        lambda s, z, low, high: aten.hardtanh_backward(s, z, low, high),
        rises=lambda z, low, high: (z > low) & (z < high),
        inverse=lambda h, *_: h,
        span=lambda low, high: (low, high),
        gap=_clip_gap,
    ),
    "hardsigmoid": Activation(
        F.hardsigmoid,
        aten.hardsigmoid_backward,
        rises=_inside(-3, 3),
        inverse=lambda h: 6 * h - 3,
        span=lambda: (0, 1),
        gap=lambda t, p, q: _clip_gap(t / 6, p, q, 0, 1),
    ),
    "elu": Activation(
        F.elu,
        lambda s, z, alpha: aten.elu_backward(s, alpha, 1.0, 1.0, False, z),
        inverse=_elu_inverse,
        span=lambda alpha: (-alpha, math.inf),
        gap=_elu_gap,
        sound=lambda alpha: alpha > 0,
    ),
    "selu": Activation(
        F.selu,
        lambda s, z: aten.elu_backward(s, *_SELU, 1.0, False, z),
        inverse=lambda h: _elu_inverse(h, *_SELU),
        span=lambda: (-_SELU[0] * _SELU[1], math.inf),
        gap=lambda t, p, q: _elu_gap(t, p, q, *_SELU),
    ),
    "celu": Activation(  # rises below 0 with either sign of its constant
        F.celu,
        lambda s, z, alpha: aten.elu_backward(s, alpha, 1.0, 1 / alpha, False, z),
        inverse=lambda h, alpha: _elu_inverse(h, alpha, 1.0, 1 / alpha),
        span=lambda alpha: (-alpha if alpha > 0 else -math.inf, math.inf),
        gap=lambda t, p, q, alpha: _elu_gap(t, p, q, alpha, 1.0, 1 / alpha),
    ),
    "sigmoid": Activation(
        torch.sigmoid,
        aten.sigmoid_backward,
        "output",
        inverse=torch.logit,
        span=lambda: (0, 1),
        gap=lambda t, p, q: 0.5 * _tanh_gap(t / 2, 2 * p - 1, 2 * q - 1),
    ),
    "tanh": Activation(
        torch.tanh, aten.tanh_backward, "output", inverse=torch.atanh, span=lambda: (-1, 1), gap=_tanh_gap
    ),
    "softplus": Activation(
        F.softplus, aten.softplus_backward, inverse=_softplus_inverse, span=lambda *_: (0, math.inf)
    ),
    "identity": Activation(lambda z: z, lambda s, _: s, "output", inverse=lambda h: h, gap=lambda t, p, q: t),
    "gelu": Activation(
        lambda z, kind: F.gelu(z, approximate=kind),
        lambda s, z, kind: aten.gelu_backward(s, z, approximate=kind),
        rises=None,
    ),
    "silu": Activation(F.silu, aten.silu_backward, rises=None),
    "mish": Activation(F.mish, aten.mish_backward, rises=None),
    "hardswish": Activation(F.hardswish, aten.hardswish_backward, rises=None),
    "step": Activation(lambda z: (z > 0).to(z.dtype), None, rises="nowhere"),
    "sign": Activation(torch.sign, None, rises="nowhere"),
}

MONOTONE = tuple(name for name, function in ACTIVATIONS.items() if function.rises is not None)
"""Activations that fall nowhere: gradients of a convex function, as the energies of settling networks ask for."""


class Activate(Op):
    """An elementwise activation; ``args``: ``name`` (a key of ACTIVATIONS) and ``options`` (a tuple).

    ``keeps`` says what the gate needs afterwards: a set of ``input`` and ``output``.
    """

    kind: ClassVar[str] = "activation"
    # A gate may pass the signal on as it is.
    aliases: ClassVar[bool] = True
    fresh: ClassVar[bool] = False
    keeps: frozenset[str] = frozenset()

    @property
    def function(self) -> Activation:
        return ACTIVATIONS[self.args["name"]]

    @property
    def options(self) -> tuple[Any, ...]:
        options: tuple[Any, ...] = self.args["options"]
        return options

    @property
    def monotone(self) -> bool:
        """Return whether the activation is non-decreasing; a leaky ReLU or ELU with a negative slope below 0 is not."""
        bent = self.args["name"] in ("leaky_relu", "elu") and self.options[0] < 0
        return self.args["name"] in MONOTONE and not bent

    def forward(self, run: Run, z: Tensor) -> Tensor:
        function = self.function
        if self.overwrite and function.value_ is not None and "input" not in self.keeps:
            a = function.value_(z, *self.options)
        else:
            a = function.value(z, *self.options)
        self.save(run, (z if "input" in self.keeps else None, a if "output" in self.keeps else None))
        return a

    def pre(self, run: Run) -> Tensor:
        """Return the pre-activation z; saved only where the gate declared that it needs it."""
        z: Tensor = self.load(run)[0]
        return z

    def post(self, run: Run) -> Tensor:
        """Return the activation f(z); saved only where the gate declared that it needs it."""
        a: Tensor = self.load(run)[1]
        return a

    def kept(self, run: Run) -> Tensor:
        """Return the saved value (input or output) that the function's derivative and Pi are computed from."""
        return self.post(run) if self.function.keeps == "output" else self.pre(run)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        vjp = self.function.vjp
        return (torch.zeros_like(signal) if vjp is None else vjp(signal, self.kept(run), *self.options),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return leads(out, inputs[0])

    def pick(self, saved: tuple[Tensor | None, Tensor | None], carried: Carried, rows: Rows) -> Any:
        return tuple(None if value is None else rows.take(value) for value in saved)


def _needs_slope(*_: Any) -> Tensor:
    raise UserError(
        "the rule evaluates activations by themselves, and prelu has a slope that learns: use nn.LeakyReLU, whose slope is fixed"
    )


class LearnedSlope(Activate):
    """PReLU: z above 0 and ``weight * z`` below; the weight has one number, or one a channel (dim 1).

    It may come to fall below 0, so that its Pi is undefined and it has no inverse.
    """

    kind: ClassVar[str] = "activation"

    @property
    def function(self) -> Activation:
        return _LEARNED_SLOPE

    def _slope(self, run: Run, z: Tensor) -> Tensor:
        weight = run.params[self.params["weight"]].to(z.dtype)
        return weight if weight.numel() == 1 else weight.view(-1, *[1] * (z.dim() - 2))

    def forward(self, run: Run, z: Tensor) -> Tensor:
        a = torch.where(z > 0, z, self._slope(run, z) * z)
        self.save(run, (z, a if "output" in self.keeps else None))
        return a

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        z = self.pre(run)
        return (torch.where(z > 0, signal, self._slope(run, z) * signal),)

    def updates(self, run: Run, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        z = self.pre(run)
        weight = run.params[self.params["weight"]]
        for name in self.trains:
            yield (
                name,
                (signal * z.clamp(max=0)).sum_to_size(self._slope(run, z).shape).view(weight.shape).to(weight.dtype),
            )


_LEARNED_SLOPE = Activation(_needs_slope, _needs_slope, rises=None)
