"""Ops with weights: linear layers, convolutions and embeddings; and padding.

Sources: the adjoints are the transposes of the maps; ``aten::convolution_backward`` computes a convolution's.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads
from credit.engine.ops.products import linear


class Weighted(Op):
    """A linear map with weights; a rule may replace the weights in the backward pass by feedback weights.

    The weight and the bias are named parameters (``params``) or values that forward() computes from parameters: then
    ``args["operands"]`` gives, by role, which of the op's inputs carries the value, and the op returns that input's gradient,
    summed over the samples, instead of updating a parameter. Input 0 is what the map is applied to.
    """

    kind: ClassVar[str] = "weighted"

    @property
    def operands(self) -> dict[str, int]:
        """Return the index of the input that carries the weight or the bias, by role; empty where both are named parameters."""
        operands: dict[str, int] = self.args.get("operands", {})
        return operands

    def weight(self, run: Run) -> Tensor:
        weight = self._value(run, "weight")
        assert weight is not None
        return weight

    def bias(self, run: Run) -> Tensor | None:
        return self._value(run, "bias")

    def _value(self, run: Run, role: str) -> Tensor | None:
        if role in self.params:
            value: Tensor = run.params[self.params[role]]
        elif role in self.operands:
            value = run.saved[self.index][self.operands[role]]
        else:
            return None
        return value if run.dtype is None else value.to(run.dtype)

    def enter(self, run: Run, x: Tensor, *operands: Tensor) -> Tensor:
        x = x if run.dtype is None else x.to(run.dtype)
        self.save(run, (x, *operands) if operands else x)
        return x

    def load(self, run: Run) -> Any:
        """Return the input of the forward pass."""
        saved = run.saved[self.index]
        return saved[0] if self.operands else saved

    def cast(self, run: Run, signal: Tensor) -> Tensor:
        return signal if run.dtype is None else signal.to(run.dtype)

    def input_shape(self, run: Run) -> torch.Size:
        """Return the shape of the input of the forward pass."""
        shape: torch.Size = self.load(run).shape
        return shape

    def forward(self, run: Run, x: Tensor, *operands: Tensor) -> Tensor:
        if "weight" in self.operands and operands[self.operands["weight"] - 1].dim() < 2:
            raise UserError(
                f"{self.describe()} has a weight computed in forward() that is a vector: give it a second dimension, for example "
                "F.linear(x, v.unsqueeze(0)).squeeze(-1)"
            )
        return self.map(run, self.enter(run, x, *operands), self.weight(run), self.bias(run))

    def map(self, run: Run, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply the op to x with another weight and bias, shaped like its own."""
        raise AssertionError

    def back(self, run: Run, signal: Tensor, weight: Tensor, x: Tensor | None = None) -> Tensor:
        """Backproject an error signal through ``weight`` (shaped like the op's own) to the input, or to another x like it."""
        raise AssertionError

    def products(
        self, run: Run, signal: Tensor, roles: Collection[str], x: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield, by role, the products of an error signal with the input or with x: the gradients of weight and bias."""
        raise AssertionError

    def updates(self, run: Run, signal: Tensor, x: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield the named parameters' updates: the products of an error signal with the input or with x."""
        roles = [role for role, name in self.params.items() if name in self.trains]
        for role, value in self.products(run, signal, roles, x):
            yield self.params[role], value

    def shares(self, run: Run, signal: Tensor) -> Signals:
        """Return the error signals of the inputs after the first: the gradients of a weight and bias computed in forward()."""
        if not self.operands:
            return ()
        wanted = [role for role, at in self.operands.items() if self.wants[at]]
        made = dict(self.products(run, signal, wanted)) if wanted else {}
        return tuple(made.get(role) for role in sorted(self.operands, key=self.operands.__getitem__))

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        sent = self.back(run, signal, self.weight(run)) if self.wants[0] else None
        return (sent, *self.shares(run, signal))

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return (rows.take(saved[0]), *saved[1:]) if self.operands else rows.take(saved)

    def fans(self, run: Run) -> tuple[int, int]:
        """Return (fan in, fan out) of the weight."""
        shape = self.weight(run).shape
        field = math.prod(shape[2:])
        return shape[1] * field, shape[0] * field


class Linear(Weighted):
    """``x W^T + b`` over the last dimension; W is (out, in)."""

    kind: ClassVar[str] = "linear"

    def map(self, run: Run, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias, run.overwrite)

    def back(self, run: Run, signal: Tensor, weight: Tensor, x: Tensor | None = None) -> Tensor:
        return linear(self.cast(run, signal), weight.t(), None, run.overwrite)

    def products(
        self, run: Run, signal: Tensor, roles: Collection[str], x: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        signal = self.cast(run, signal).flatten(0, -2)
        x = self.load(run) if x is None else x
        for role in roles:
            if role == "weight":
                yield role, linear(signal.t(), x.flatten(0, -2).t(), None, run.overwrite)
            else:
                yield role, signal.sum(0)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() > 1 and leads(out, inputs[0])


class Conv(Weighted):
    """Convolution over 1, 2 or 3 spatial dimensions; weight (out, in / groups, *kernel).

    Arguments: ``stride padding dilation groups`` as in torch, ``mode`` the padding mode.
    """

    kind: ClassVar[str] = "conv"

    def map(self, run: Run, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(x, weight, bias, *self._geometry())

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        args = self.args
        return args["stride"], args["padding"], args["dilation"], False, [0] * len(args["stride"]), args["groups"]

    def _backward(self, signal: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        outs: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            signal, x, weight, [signal.shape[1]], *self._geometry(), mask
        )
        return outs

    def back(self, run: Run, signal: Tensor, weight: Tensor, x: Tensor | None = None) -> Tensor:
        x = self.load(run) if x is None else x
        return self._backward(self.cast(run, signal), x, weight, [True, False, False])[0]

    def products(
        self, run: Run, signal: Tensor, roles: Collection[str], x: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        x = self.load(run) if x is None else x
        mask = [False, "weight" in roles, "bias" in roles]
        outs = self._backward(self.cast(run, signal), x, self.weight(run), mask)
        for role, value in (("weight", outs[1]), ("bias", outs[2])):
            if role in roles:
                yield role, value

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return len(self.args["stride"]) + 2 == out.dim() and leads(out, inputs[0])


class ConvTranspose(Conv):
    """Transposed convolution; weight (in, out / groups, *kernel). ``args["output_padding"]`` beside a convolution's."""

    kind: ClassVar[str] = "conv_transpose"

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        args = self.args
        return args["stride"], args["padding"], args["dilation"], True, args["output_padding"], args["groups"]

    def fans(self, run: Run) -> tuple[int, int]:
        return super().fans(run)[::-1]


class Embedding(Op):
    """Rows of a table (``params["weight"]``) by integer tokens (B, ...).

    No error signal reaches the tokens, so no feedback weights take the table's place; a row's update is the sum of its tokens'
    signals. ``args["padding"]``: the row that learns nothing, or -1.
    """

    kind: ClassVar[str] = "embedding"

    def forward(self, run: Run, tokens: Tensor) -> Tensor:
        if tokens.is_floating_point():
            raise UserError(
                f"{self.describe()} looks up integer tokens, and was given {tokens.dtype}: give tokens of torch.int64, x.long()"
            )
        self.save(run, tokens)
        weight = run.params[self.params["weight"]]
        return F.embedding(tokens, weight if run.dtype is None else weight.to(run.dtype))

    def updates(self, run: Run, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        tokens = self.load(run)
        for name in self.trains:
            weight = run.params[name]
            padding = self.args["padding"]
            yield (
                name,
                torch.ops.aten.embedding_dense_backward(signal.to(weight.dtype), tokens, len(weight), padding, False),
            )

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (signal.new_zeros(self.load(run).shape),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return leads(out, inputs[0])

    def pick(self, saved: Tensor, carried: Carried, rows: Rows) -> Tensor:
        return rows.take(saved)


class Pad(Op):
    """Padding by repeating entries of the input (reflect, replicate, circular) or with a constant.

    Arguments: ``mode``, ``value``; ``extra``: one (dimension, before, after) each, numbers or computed from shapes. Each mode but
    the constant is an index map per dimension, whose adjoint adds every padded entry's signal to the entry it was copied from.
    """

    kind: ClassVar[str] = "pad"
    aliases: ClassVar[bool] = True

    def forward(self, run: Run, x: Tensor, *pads: tuple[int, int, int]) -> Tensor:
        self.save(run, (x.shape, pads))
        for dim, before, after in _places(pads, x.dim()):
            if self.args["mode"] == "constant":
                widths = [0, 0] * (x.dim() - 1 - dim) + [before, after]
                x = F.pad(x, widths, value=self.args["value"])
            else:
                x = x.index_select(dim, self._source(x.shape[dim], before, after, x.device))
        return x

    def _source(self, size: int, before: int, after: int, device: torch.device) -> Tensor:
        at = torch.arange(-before, size + after, device=device)
        if self.args["mode"] == "circular":
            return at % size
        if self.args["mode"] == "replicate":
            return at.clamp(0, size - 1)
        at = at.abs()
        return torch.where(at > size - 1, 2 * (size - 1) - at, at)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        shape, pads = self.load(run)
        for dim, before, after in reversed(_places(pads, signal.dim())):
            if self.args["mode"] == "constant":
                # A negative width cuts entries off: their signal is zero.
                widths = [0, 0] * (signal.dim() - 1 - dim)
                signal = signal.narrow(dim, max(before, 0), signal.shape[dim] - max(before, 0) - max(after, 0))
                if before < 0 or after < 0:
                    signal = F.pad(signal, [*widths, max(-before, 0), max(-after, 0)])
            else:
                source = self._source(shape[dim], before, after, signal.device)
                into = list(signal.shape)
                into[dim] = shape[dim]
                signal = signal.new_zeros(into).index_add(dim, source, signal)
        return (signal,)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return all(dim > 0 for dim, _, _ in _places(inputs[1:], out.dim()))

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return rows.shape(saved[0]), saved[1]


def _places(pads: tuple[Any, ...], dims: int) -> list[tuple[int, int, int]]:
    return [(dim % dims, before, after) for dim, before, after in pads]
