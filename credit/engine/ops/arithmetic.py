"""Sums, products and reductions. Broadcasting is undone by summing; a constant operand receives no error signal."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, broadcasts, sum_to

aten = torch.ops.aten


class Add(Op):
    """``a + factor * b``, broadcasting; both branches of a residual sum receive the same error signal."""

    kind: ClassVar[str] = "add"
    aliases: ClassVar[bool] = True

    def forward(self, run: Run, a: Tensor, b: Tensor) -> Tensor:
        self.save(run, (a.shape, b.shape))
        return torch.add(a, b, alpha=self.args.get("factor", 1))

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        a, b = self.load(run)
        factor = self.args.get("factor", 1)
        to_b = signal if factor == 1 else signal * factor
        return (
            sum_to(signal, a) if self.wants[0] else None,
            sum_to(to_b, b) if self.wants[1] else None,
        )

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return tuple(rows.shape(shape) if held else shape for shape, held in zip(saved, carried, strict=True))


class Mul(Op):
    """``a * b``, broadcasting."""

    kind: ClassVar[str] = "mul"

    def forward(self, run: Run, a: Tensor, b: Tensor) -> Tensor:
        self.save(run, (a, b))
        return a * b

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        a, b = self.load(run)
        return (
            sum_to(signal * b, a.shape) if self.wants[0] else None,
            sum_to(signal * a, b.shape) if self.wants[1] else None,
        )

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return _pick(saved, carried, rows)


class Div(Op):
    """``a / b``, broadcasting; ``a`` may be a number or a value computed from shapes, given as ``extra``."""

    kind: ClassVar[str] = "div"

    def forward(self, run: Run, *operands: Any) -> Tensor:
        # With one tensor, it is the divisor.
        a, b = operands if len(self.inputs) == 2 else operands[::-1]
        self.save(run, (a, b))
        out: Tensor = a / b
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        a, b = self.load(run)
        to_b = sum_to(-signal * a / (b * b), b.shape) if self.wants[-1] else None
        if len(self.inputs) == 1:
            return (to_b,)
        return (sum_to(signal / b, a.shape) if self.wants[0] else None, to_b)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return _pick(saved, carried if len(carried) == 2 else (False, *carried), rows)


class Affine(Op):
    """``scale * a / divisor + shift`` with constants (numbers or values computed from shapes)."""

    kind: ClassVar[str] = "affine"

    def forward(self, run: Run, a: Tensor, scale: Any = None, shift: Any = None, divisor: Any = None) -> Tensor:
        self.save(run, (scale, divisor, a.shape))
        out = a if scale is None else a * scale
        out = out if divisor is None else out / divisor
        return out if shift is None else out + shift

    fresh: ClassVar[bool] = False
    aliases: ClassVar[bool] = True

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        scale, divisor, shape = self.load(run)
        signal = signal if scale is None else signal * scale
        return (sum_to(signal if divisor is None else signal / divisor, shape),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        scale, divisor, shape = saved
        return scale, divisor, rows.shape(shape)


class Cat(Op):
    """Concatenation along ``args["dim"]``."""

    kind: ClassVar[str] = "cat"
    aliases: ClassVar[bool] = True

    def forward(self, run: Run, *parts: Tensor) -> Tensor:
        dim = self.args["dim"]
        self.save(run, [part.shape[dim] for part in parts])
        return torch.cat(parts, dim)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        parts = signal.split(self.load(run), self.args["dim"])
        return tuple(part if wanted else None for part, wanted in zip(parts, self.wants, strict=True))

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return all(carried) and self.args["dim"] % out.dim() > 0

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return saved


class Mean(Op):
    """Mean or sum over ``args["dims"]`` (None: all), with ``keepdim``; ``mode`` is ``mean`` or ``sum``."""

    kind: ClassVar[str] = "mean"
    expands: ClassVar[bool] = True

    def forward(self, run: Run, x: Tensor) -> Tensor:
        dims = _listed(self.args["dims"], x)
        self.save(run, x.shape)
        return x.mean(dims, self.args["keepdim"]) if self.args["mode"] == "mean" else x.sum(dims, self.args["keepdim"])

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        shape = self.load(run)
        dims = self.args["dims"]
        every = range(len(shape)) if dims is None else [dims] if isinstance(dims, int) else dims
        reduced = sorted(dim % len(shape) for dim in every)
        if not self.args["keepdim"]:
            for dim in reduced:
                signal = signal.unsqueeze(dim)
        if self.args["mode"] == "mean":
            count = 1
            for dim in reduced:
                count *= shape[dim]
            signal = signal / count
        return (signal.expand(shape),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return 0 not in _listed(self.args["dims"], inputs[0])

    def pick(self, saved: torch.Size, carried: Carried, rows: Rows) -> torch.Size:
        return rows.shape(saved)


class Largest(Op):
    """The largest entry over ``args["dims"]`` (None: all), with ``keepdim``.

    Of equal ones each receives its share of the error signal, or (``args["first"]``) the first receives all of it.
    """

    kind: ClassVar[str] = "largest"

    def forward(self, run: Run, x: Tensor) -> Tensor:
        dims = _listed(self.args["dims"], x)
        out = x.amax(dims, keepdim=True)
        if self.args["first"]:
            share = torch.zeros_like(x).scatter_(dims[0], x.argmax(dims[0], keepdim=True), 1.0)
        else:
            share = (x == out).to(x.dtype)
            share = share / share.sum(dims, keepdim=True)
        self.save(run, (share, out.shape))
        return out if self.args["keepdim"] else out.squeeze(dims)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        share, shape = self.load(run)
        return (share * signal.reshape(shape),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return 0 not in _listed(self.args["dims"], inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return rows.take(saved[0]), rows.shape(saved[1])


def _listed(dims: Any, x: Tensor) -> list[int]:
    """Return dimensions, given as a number, several or none for all, as numbers from 0."""
    if dims is None or dims == ():
        return list(range(x.dim()))
    return [dims % x.dim()] if isinstance(dims, int) else [dim % x.dim() for dim in dims]


class Length(Op):
    """Euclidean length over ``args["dims"]`` (None: all), with ``keepdim``; where it is zero, the error signal is 0."""

    kind: ClassVar[str] = "length"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor) -> Tensor:
        dims = _listed(self.args["dims"], x)
        out = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
        self.save(run, (x, out))
        return out if self.args["keepdim"] else out.squeeze(dims)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        x, out = self.load(run)
        return (x * torch.where(out == 0, 0.0, signal.reshape(out.shape) / out),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return 0 not in _listed(self.args["dims"], inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return tuple(map(rows.take, saved))


class MatMul(Op):
    """Product of two activations, as in attention written out."""

    kind: ClassVar[str] = "matmul"

    def forward(self, run: Run, a: Tensor, b: Tensor) -> Tensor:
        if a.dim() < 2 or b.dim() < 2:
            raise UserError(
                f"{self.describe()} multiplies values of shapes {tuple(a.shape)} and {tuple(b.shape)}, one of them a vector: give "
                "it a second dimension, for example (x @ v.unsqueeze(-1)).squeeze(-1)"
            )
        self.save(run, (a, b))
        return a @ b

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        a, b = self.load(run)
        return (
            sum_to(signal @ b.mT, a.shape) if self.wants[0] else None,
            sum_to(a.mT @ signal, b.shape) if self.wants[1] else None,
        )

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        if out.dim() == 2:  # (B, n) @ (n, m): the samples are the rows of the first alone
            return carried == (True, False) and inputs[1].dim() == 2
        return out.dim() > 2 and min(x.dim() for x in inputs) > 1 and broadcasts(inputs, carried, out)

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return _pick(saved, carried, rows)


class Softmax(Op):
    """Softmax inside a network over ``args["dim"]``; its adjoint is the ordinary Jacobian.

    ``args["form"]``: ``plain``; ``log``, its logarithm; ``masked``, which is 0 rather than NaN where every entry is minus infinity.
    """

    kind: ClassVar[str] = "softmax"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor) -> Tensor:
        dim = self.args["dim"]
        if self.args["form"] == "log":
            out = x.log_softmax(dim)
        else:
            out = aten._safe_softmax(x, dim) if self.args["form"] == "masked" else x.softmax(dim)
        self.save(run, out)
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        out = self.load(run)
        back = aten._log_softmax_backward_data if self.args["form"] == "log" else aten._softmax_backward_data
        return (back(signal, out, self.args["dim"], out.dtype),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return bool(self.args["dim"] % out.dim() > 0)

    def pick(self, saved: Tensor, carried: Carried, rows: Rows) -> Tensor:
        return rows.take(saved)


def _pick(saved: Any, carried: Carried, rows: Rows) -> Any:
    return tuple(rows.take(value) if held else value for value, held in zip(saved, carried, strict=True))
