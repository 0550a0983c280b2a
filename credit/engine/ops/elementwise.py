"""Elementwise functions that are no activations: powers, logarithms, bounds, masks.

No gate acts on them and no rule gives them a state: an error signal crosses them by their derivative, or the rule refuses them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, broadcasts, leads, sum_to


@dataclass(frozen=True)
class Function:
    """One elementwise function, with torch's derivative also where it has a bend.

    Attributes:
        value: x, *options -> f(x).
        vjp: signal, kept, *options -> signal * f'(x), a new tensor, where ``kept`` is x or f(x) as ``keeps`` says.
        keeps: ``input`` or ``output``.
    """

    value: Callable[..., Tensor]
    vjp: Callable[..., Tensor]
    keeps: str = "input"


def _clamped(signal: Tensor, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    kept = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        kept = kept & (x >= low)
    if high is not None:
        kept = kept & (x <= high)
    return signal * kept


FUNCTIONS: dict[str, Function] = {
    "abs": Function(torch.abs, lambda s, x: s * x.sign()),
    "clamp": Function(torch.clamp, _clamped),
    "cos": Function(torch.cos, lambda s, x: -s * x.sin()),
    "exp": Function(torch.exp, lambda s, y: s * y, "output"),
    "log": Function(torch.log, lambda s, x: s / x),
    "log1p": Function(torch.log1p, lambda s, x: s / (x + 1)),
    "masked_fill": Function(torch.masked_fill, lambda s, _, mask, value: s.masked_fill(mask, 0), "output"),
    "pow": Function(torch.pow, lambda s, x, p: s * (p * x.pow(p - 1)) if p != 0 else torch.zeros_like(s)),
    "reciprocal": Function(torch.reciprocal, lambda s, y: -s * (y * y), "output"),
    "rsqrt": Function(torch.rsqrt, lambda s, y: -0.5 * s * y.pow(3), "output"),
    "sin": Function(torch.sin, lambda s, x: s * x.cos()),
    "sqrt": Function(torch.sqrt, lambda s, y: s / (2 * y), "output"),
}


class Elementwise(Op):
    """One of ``FUNCTIONS``, by ``args["name"]``; its options, numbers or values computed from shapes, are ``extra``."""

    kind: ClassVar[str] = "elementwise"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, *options: Any) -> Tensor:
        function = FUNCTIONS[self.args["name"]]
        out = function.value(x, *options)
        self.save(run, (x if function.keeps == "input" else out, options))
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        kept, options = self.load(run)
        return (FUNCTIONS[self.args["name"]].vjp(signal, kept, *options),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return leads(out, inputs[0]) and broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return rows.take(saved[0]), saved[1]

    def describe(self) -> str:
        return f"{self.args['name']} '{self.name}'"


def larger(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a == b, 0.5, (a > b).to(a.dtype))


def smaller(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a == b, 0.5, (a < b).to(a.dtype))


def where(a: Tensor, b: Tensor, condition: Tensor) -> Tensor:
    return condition.to(a.dtype)


SHARES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "maximum": (torch.maximum, larger),
    "minimum": (torch.minimum, smaller),
    "where": (lambda a, b, condition: torch.where(condition, a, b), where),
}
"""By name: the value of a choice between two values, and the first one's share of the error signal (of equal ones a half)."""


class Choice(Op):
    """One of two values, entry by entry and broadcasting; ``args["by"]`` is a key of ``SHARES``.

    The second value may be a number or a value computed from shapes; it and a condition are ``extra``.
    """

    kind: ClassVar[str] = "choice"

    def forward(self, run: Run, a: Tensor, b: Any, *rest: Any) -> Tensor:
        value, share = SHARES[self.args["by"]]
        b = torch.as_tensor(b, dtype=a.dtype, device=a.device)
        out = value(a, b, *rest)
        self.save(run, (share(a, b, *rest).expand(out.shape), a.shape, b.shape))
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        share, *shapes = self.load(run)
        parts = (share, 1 - share)
        return tuple(
            sum_to(signal * part, shape) if want else None
            for part, shape, want in zip(parts, shapes, self.wants, strict=False)
        )

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        share, *shapes = saved
        held = (*carried, False)
        return rows.take(share), *(
            rows.shape(shape) if own else shape for shape, own in zip(shapes, held, strict=False)
        )

    def describe(self) -> str:
        return f"{self.args['by']} '{self.name}'"
