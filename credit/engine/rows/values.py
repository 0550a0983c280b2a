"""Rows for what has no parameters: sums and products, views, slices."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.builder import Builder, Row, Val, local_call, local_piece
from credit.engine.ops.activations import Activate
from credit.engine.ops.arithmetic import Add, Affine, Cat, Div, Largest, Length, Mean, Mul, Softmax
from credit.engine.ops.shapes import Expand, FixedMap, Permute, Select, Shape, Split, Stack, View

# ---------------------------------------------------------------- arithmetic


def add(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Add, x, y, factor=alpha)
    if not tensors:
        return b.shape(operator.add, x, y)
    constant = y if tensors[0] is x else x
    if alpha != 1:
        constant = b.shape(operator.mul, constant, alpha)
    return b.emit(Affine, tensors[0], extra=(None, constant))


def sub(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Add, x, y, factor=-alpha)
    if not tensors:
        return b.shape(operator.sub, x, y)
    if tensors[0] is x:
        return add(b, x, b.shape(operator.mul, y, -alpha))
    return b.emit(Affine, y, extra=(-alpha, x))


def mul(b: Builder, x: Any, y: Any) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Mul, x, y)
    if not tensors:
        return b.shape(operator.mul, x, y)
    return b.emit(Affine, tensors[0], extra=(y if tensors[0] is x else x, None))


def addcmul(b: Builder, input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Val:
    product = mul(b, tensor1, tensor2)
    return add(b, input, product if value == 1 else mul(b, product, value))


def divide(b: Builder, x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if not tensors:
        return (
            b.shape(torch.div, x, y, rounding_mode=rounding_mode) if rounding_mode else b.shape(operator.truediv, x, y)
        )
    if rounding_mode:
        return local_call(b, torch.div, (x, y), {"rounding_mode": rounding_mode})
    if len(tensors) == 2:
        return b.emit(Div, x, y)
    if tensors[0] is y:
        return b.emit(Div, y, extra=(x,))
    return b.emit(Affine, x, extra=(None, None, y))


def _no_row(b: Builder, what: str) -> NoReturn:
    raise UserError(f"'{b.name}' in {type(b.model).__name__}: {what} has no row in credit/engine/rows/table.py")


def mean(b: Builder, x: Val, dim: Any = None, keepdim: bool = False) -> Val:
    return b.emit(Mean, x, dims=dim, keepdim=keepdim, mode="mean")


def total(b: Builder, x: Val, dim: Any = None, keepdim: bool = False) -> Val:
    return b.emit(Mean, x, dims=dim, keepdim=keepdim, mode="sum")


def amax(b: Builder, x: Val, dim: Any = (), keepdim: bool = False) -> Val:
    return b.emit(Largest, x, dims=dim, keepdim=keepdim, first=False)


def amin(b: Builder, x: Val, dim: Any = (), keepdim: bool = False) -> Val:
    return mul(b, amax(b, mul(b, x, -1), dim, keepdim), -1)


class Extremes(NamedTuple):
    """What torch's max and min return over one dimension."""

    values: Val
    indices: Val


def peak(sign: int) -> Row:
    """Return the row of max (1) or min (-1): of all entries, or over one dimension with their places."""

    def row(b: Builder, x: Val, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is not None and not isinstance(dim, int):
            raise UserError(
                f"'{b.name}' in {type(b.model).__name__}: max and min of two tensors have no row in "
                "credit/engine/rows/table.py; write torch.maximum or torch.minimum"
            )
        made = x if sign > 0 else mul(b, x, -1)
        made = b.emit(Largest, made, dims=dim, keepdim=keepdim, first=dim is not None)
        made = made if sign > 0 else mul(b, made, -1)
        if dim is None:
            return made
        places = torch.argmax if sign > 0 else torch.argmin
        return Extremes(made, b.emit(Shape, extra=(x, dim, keepdim), call=places, of_values=True))

    return row


def cat(b: Builder, tensors: list[Val], dim: int = 0) -> Val:
    return b.emit(Cat, *tensors, dim=dim)


def stack(b: Builder, tensors: list[Val], dim: int = 0) -> Val:
    return b.emit(Stack, *tensors, dim=dim)


def softmax(form: str) -> Row:
    name = "log_softmax" if form == "log" else "softmax"

    def row(b: Builder, x: Val, dim: int, dtype: Any = None) -> Val:
        if dtype is not None:
            _no_row(b, f"{name} with dtype=")
        return b.emit(Softmax, x, dim=dim, form=form)

    return row


def softmax_function(form: str) -> Row:
    return lambda b, x, dim, _stacklevel=3, dtype=None: softmax(form)(b, x, dim, dtype)


def softmax_module(b: Builder, m: nn.Softmax | nn.LogSoftmax, x: Val) -> Val:
    if m.dim is None:
        _no_row(b, f"{type(m).__name__} without dim")
    made: Val = softmax("log" if isinstance(m, nn.LogSoftmax) else "plain")(b, x, m.dim)
    return made


def length(b: Builder, x: Val, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Val:
    if dtype is not None or p not in ("fro", 2, None):
        return local_call(b, torch.norm, (x, p, dim, keepdim), {"dtype": dtype})
    return b.emit(Length, x, dims=dim, keepdim=keepdim)


# ---------------------------------------------------------------- views


def view(call: Callable[..., Any]) -> Row:
    return lambda b, x, *rest, **named: b.emit(
        View, x, extra=(rest, named), call=lambda t, rest, named: call(t, *rest, **named)
    )


def flatten(b: Builder, x: Val, start_dim: int = 0, end_dim: int = -1) -> Val:
    return b.emit(View, x, extra=(start_dim, end_dim), call=torch.flatten)


def flatten_module(b: Builder, m: nn.Flatten, x: Val) -> Val:
    return flatten(b, x, m.start_dim, m.end_dim)


def unflatten_module(b: Builder, m: nn.Unflatten, x: Val) -> Val:
    return b.emit(View, x, call=lambda t: t.unflatten(m.dim, m.unflattened_size))


def permute(b: Builder, x: Val, *dims: Any) -> Val:
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return b.emit(Permute, x, dims=lambda n: [dim % n for dim in order])


def permute_module(b: Builder, m: Any, x: Val) -> Val:
    return permute(b, x, m.dims)


def transpose(b: Builder, x: Val, dim0: int, dim1: int) -> Val:
    def order(n: int) -> list[int]:
        dims = list(range(n))
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
        return dims

    return b.emit(Permute, x, dims=order)


def select(b: Builder, x: Any, index: Any) -> Any:
    if not (isinstance(x, Val) and x.tensor):
        return x[index] if isinstance(x, tuple | list) else b.shape(operator.getitem, x, index)
    if (piece := local_piece(b, x, index)) is not None:
        return piece
    return b.emit(Select, x, extra=(index,))


def matrix_transpose(b: Builder, input: Val) -> Val:
    return transpose(b, input, 0, 1)


def expand(b: Builder, x: Val, *sizes: Any) -> Val:
    return b.emit(Expand, x, extra=sizes)


class Pieces:
    """The result of chunk, split and unbind; each piece becomes an op when it is indexed."""

    def __init__(self, b: Builder, x: Val, call: Callable[..., Any], rest: tuple[Any, ...]) -> None:
        self.b, self.x, self.call, self.rest = b, x, call, rest

    def __iter__(self) -> Any:
        _no_row(self.b, "taking all pieces at once (write a, b = ... and list the names)")

    def __getitem__(self, piece: Any) -> Val:
        if not isinstance(piece, int):
            _no_row(self.b, "a slice of the pieces (write a, b = ... and list the names)")
        return self.b.emit(Split, self.x, extra=self.rest, call=self.call, piece=piece)


def chunk(b: Builder, x: Val, chunks: int, dim: int = 0) -> Pieces:
    return Pieces(b, x, torch.chunk, (chunks, dim))


def split(b: Builder, x: Val, split_size: Any, dim: int = 0) -> Pieces:
    return Pieces(b, x, torch.split, (split_size, dim))


def unbind(b: Builder, x: Val, dim: int = 0) -> Pieces:
    return Pieces(b, x, torch.unbind, (dim,))


def gated(b: Builder, input: Val, dim: int = -1) -> Val:
    """``F.glu``: the first half times the sigmoid of the second."""
    halves = chunk(b, input, 2, dim)
    return mul(b, halves[0], b.emit(Activate, halves[1], name="sigmoid", options=()))


def get_item(b: Builder, x: Any, index: Any) -> Any:
    return x[index] if isinstance(x, Pieces) else select(b, x, index)


def get_attribute(b: Builder, x: Any, name: str) -> Any:
    if isinstance(x, Extremes):
        return getattr(x, name)
    if name in ("shape", "ndim", "dtype", "device"):
        return b.shape(getattr, x, name)
    if name in ("mT", "T"):
        return transpose(b, x, -2, -1)
    _no_row(b, f"tensor attribute '{name}'")


def of_shape(call: Callable[..., Any]) -> Row:
    return lambda b, *args, **kwargs: b.shape(call, *args, **kwargs)


def repeat(b: Builder, x: Val, *sizes: Any) -> Val:
    """``x.repeat(*sizes)``: every dimension gets one before it, which is expanded and merged with it."""
    counts = b.shape(lambda *given: list(given[0]) if isinstance(given[0], tuple | list) else list(given), *sizes)

    def parts(t: Tensor, counts: list[int]) -> list[tuple[int, int]]:
        shape = [1] * (len(counts) - t.dim()) + list(t.shape)
        return list(zip(counts, shape, strict=True))

    parted = b.shape(parts, x, counts)
    apart = b.emit(
        View, x, extra=(parted,), call=lambda t, pairs: t.reshape([n for _, side in pairs for n in (1, side)])
    )
    wide = expand(b, apart, b.shape(lambda pairs: [n for pair in pairs for n in pair], parted))
    return b.emit(View, wide, extra=(parted,), call=lambda t, pairs: t.reshape([count * side for count, side in pairs]))


def expand_as(b: Builder, x: Val, other: Val) -> Val:
    return expand(b, x, b.shape(getattr, other, "shape"))


def reshape_as(b: Builder, x: Val, other: Val) -> Val:
    made: Val = view(torch.Tensor.reshape)(b, x, b.shape(getattr, other, "shape"))
    return made


def movedim(b: Builder, x: Val, source: int, destination: int) -> Val:
    def order(n: int) -> list[int]:
        dims = [dim for dim in range(n) if dim != source % n]
        dims.insert(destination % n, source % n)
        return dims

    return b.emit(Permute, x, dims=order)


def flip(b: Builder, x: Val, *dims: Any) -> Val:
    dims = tuple(dims[0]) if isinstance(dims[0], tuple | list) else dims
    return b.emit(FixedMap, x, call=lambda t: t.flip(dims), back=lambda t: t.flip(dims), dims=dims)


def roll(b: Builder, x: Val, shifts: Any, dims: Any = None) -> Val:
    def back(t: Tensor, shifts: Any, dims: Any) -> Tensor:
        return t.roll([-shift for shift in shifts] if isinstance(shifts, tuple | list) else -shifts, dims)

    moved = (0,) if dims is None else dims if isinstance(dims, tuple | list) else (dims,)
    return b.emit(FixedMap, x, extra=(shifts, dims), call=torch.roll, back=back, dims=moved)


def pixel_shuffle(b: Builder, x: Val, upscale_factor: int) -> Val:
    def back(t: Tensor) -> Tensor:
        return F.pixel_unshuffle(t, upscale_factor)

    return b.emit(FixedMap, x, call=lambda t: F.pixel_shuffle(t, upscale_factor), back=back, dims=(1,))


def pixel_unshuffle(b: Builder, x: Val, downscale_factor: int) -> Val:
    def back(t: Tensor) -> Tensor:
        return F.pixel_shuffle(t, downscale_factor)

    return b.emit(FixedMap, x, call=lambda t: F.pixel_unshuffle(t, downscale_factor), back=back, dims=(1,))


def unchanged(b: Builder, x: Val, *_: Any, **__: Any) -> Val:
    return x


def detach(b: Builder, x: Val) -> Val:
    """``x.detach()``: the value passes, a gradient does not."""
    before, b.stopped = b.stopped, True
    out = b.emit(View, x, call=lambda t: t)
    b.stopped = before
    return out
