"""Ops that move values without changing them: views, permutations, slices; and values computed from shapes alone."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads


class View(Op):
    """Reshape (view, reshape, flatten, unflatten, squeeze, unsqueeze, contiguous): the adjoint reshapes back.

    ``args``: ``call``, a function (x, *rest) -> view, and ``rest``, which may hold shape values.
    """

    kind: ClassVar[str] = "view"
    aliases: ClassVar[bool] = True
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, *rest: Any) -> Tensor:
        self.save(run, x.shape)
        out: Tensor = self.args["call"](x, *rest)
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (signal.reshape(self.load(run)),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        # Reshaping keeps the order of the entries: with as many rows as samples, each row is a sample's.
        return leads(out, inputs[0])

    def pick(self, saved: torch.Size, carried: Carried, rows: Rows) -> torch.Size:
        return rows.shape(saved)


class Cast(Op):
    """Another type or device (``args["call"]``, a function (x, *rest)): the error signal takes the input's again.

    The signal of a result that is no floating-point number is zero.
    """

    kind: ClassVar[str] = "cast"
    aliases: ClassVar[bool] = True
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, *rest: Any) -> Tensor:
        out: Tensor = self.args["call"](x, *rest)
        self.save(run, (x.dtype, x.device, out.dtype))
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        dtype, device, own = self.load(run)
        if not own.is_floating_point:
            return (torch.zeros_like(signal, dtype=dtype, device=device),)
        return (signal.to(own).to(device, dtype),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return leads(out, inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return saved


class FixedMap(Op):
    """A linear map without weights that learn: flip, roll, pixel shuffle, windows, unfold, a convolution with a constant kernel.

    ``args``: ``call`` and its adjoint ``back``, functions (x, *rest) where ``extra`` is the rest; ``dims``, whose entries it mixes.
    """

    kind: ClassVar[str] = "fixed_map"
    aliases: ClassVar[bool] = True
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, *rest: Any) -> Tensor:
        self.save(run, rest)
        out: Tensor = self.args["call"](x, *rest)
        return out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (self.args["back"](signal, *self.load(run)),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return leads(out, inputs[0]) and all(dim % out.dim() for dim in self.args["dims"])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return saved


class Permute(Op):
    """Reorder dimensions: ``args["dims"]`` maps the number of dimensions to a permutation."""

    kind: ClassVar[str] = "permute"
    aliases: ClassVar[bool] = True
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor) -> Tensor:
        return x.permute(self.args["dims"](x.dim()))

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        order = self.args["dims"](signal.dim())
        back = [0] * len(order)
        for at, dim in enumerate(order):
            back[dim] = at
        return (signal.permute(back),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return bool(self.args["dims"](out.dim())[0] == 0)


class Select(Op):
    """Indexing: the adjoint writes into zeros, or adds where tensors or lists may name an entry more than once."""

    kind: ClassVar[str] = "select"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, index: Any) -> Tensor:
        self.save(run, (x.shape, index))
        return x[index]

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        shape, index = self.load(run)
        whole = signal.new_zeros(shape)
        if _plain(index):
            whole[index] = signal
            return (whole,)
        places = torch.arange(whole.numel(), device=signal.device).view(shape)[index]
        return (whole.view(-1).index_add(0, places.reshape(-1), signal.reshape(-1)).view(shape),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        index = inputs[1]
        if not isinstance(index, tuple) or not index or not _plain(index):
            return False
        taken = sum(isinstance(part, int | slice) for part in index)
        return index[0] == slice(None) or (index[0] is Ellipsis and taken < inputs[0].dim())

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        shape, index = saved
        return rows.shape(shape), index


def _plain(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts)


class Expand(Op):
    """Broadcast to a larger shape: the adjoint sums."""

    kind: ClassVar[str] = "expand"
    fresh: ClassVar[bool] = False
    aliases: ClassVar[bool] = True

    def forward(self, run: Run, x: Tensor, *sizes: Any) -> Tensor:
        self.save(run, x.shape)
        return x.expand(*sizes)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (signal.sum_to_size(self.load(run)),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() == inputs[0].dim() and leads(out, inputs[0])

    def pick(self, saved: torch.Size, carried: Carried, rows: Rows) -> torch.Size:
        return rows.shape(saved)


class Split(Op):
    """One piece of chunk, split or unbind: ``args["piece"]`` of what ``args["call"]`` gives."""

    kind: ClassVar[str] = "split"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, x: Tensor, *rest: Any) -> Tensor:
        self.save(run, (x.shape, rest))
        piece: Tensor = self.args["call"](x, *rest)[self.args["piece"]]
        return piece

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        shape, rest = self.load(run)
        whole = signal.new_zeros(shape)
        self.args["call"](whole, *rest)[self.args["piece"]].copy_(signal)
        return (whole,)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        dim = inputs[-1]
        return isinstance(dim, int) and dim % inputs[0].dim() > 0

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        shape, rest = saved
        return rows.shape(shape), rest


class Stack(Op):
    """Stack along a new dimension ``args["dim"]``."""

    kind: ClassVar[str] = "stack"
    aliases: ClassVar[bool] = True

    def forward(self, run: Run, *parts: Tensor) -> Tensor:
        return torch.stack(parts, self.args["dim"])

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return signal.unbind(self.args["dim"])

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return all(carried) and self.args["dim"] % out.dim() > 0


class Shape(Op):
    """A value computed from shapes, types or constants; nothing is sent back through it.

    ``args["of_values"]``: it is a comparison of values, or whole numbers made of them.
    """

    kind: ClassVar[str] = "shape"

    def forward(self, run: Run, *values: Any) -> Any:
        call: Callable[..., Any] = self.args["call"]
        return call(*values)


class Value(Op):
    """A parameter or buffer used directly (a class token, a layer scale); a parameter's error signal is its update.

    A tensor that is neither, written in the model's code or kept as a plain attribute, is ``args["constant"]``.
    """

    kind: ClassVar[str] = "value"
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, *_: Any) -> Tensor:
        name = self.args["tensor"]
        value = run.params[name] if name in run.params else run.buffers.get(name, self.args["constant"])
        if run.dtype is None or not value.is_floating_point():
            return value
        return value.to(run.dtype)

    def updates(self, run: Run, signal: Tensor) -> Any:
        for name in self.trains:
            update = signal.to(run.params[name].dtype).contiguous()
            # Who else holds this signal must not see what an optimizer does to the gradient.
            yield name, update.clone() if update is signal and not self.exclusive else update
