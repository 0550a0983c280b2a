"""Pooling: max (the maximum receives the error signal), average, power means, and adaptive forms.

``args["dims"]`` is 1, 2 or 3; one-dimensional pools run as 2-d ones.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads

aten = torch.ops.aten


class Pool(Op):
    """Shared by all: each image is pooled by itself; ``args["dims"]``: dimensions of an image."""

    kind: ClassVar[str] = "pool"

    @property
    def flat(self) -> bool:
        return bool(self.args["dims"] == 1)

    def torchs(self, name: str) -> Any:
        """Return torch's kernel for images of 2 or 3 dimensions; its name is given for 2."""
        return getattr(aten, name.replace("2d", "3d") if self.args["dims"] == 3 else name)

    def follow(self, run: Run, value: Tensor) -> Tensor:
        """Take another tensor, shaped like the input, the way this one went: to the winners' places, or averaged."""
        raise AssertionError(f"{self.kind} takes no other tensor its way")

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() == self.args["dims"] + 2 and leads(out, inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        # The input is kept for its shape alone, beside the winners where they are the maxima's.
        return rows.stand_in(saved) if isinstance(saved, Tensor) else (rows.stand_in(saved[0]), rows.take(saved[1]))


def _quarters(run: Run, x: Tensor, geometry: tuple[Any, ...]) -> bool:
    """Return whether windows are 2x2, adjacent and cover the image, and the step runs eagerly on the CPU."""
    even = x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0
    plain = geometry[:3] == ([2, 2], [2, 2], [0, 0])
    return plain and even and run.overwrite and x.device.type == "cpu" and x.is_contiguous()


class MaxPool(Pool):
    """Max pooling; ``args``: ``size stride padding dilation ceil`` (one number a dimension).

    Windows of 2x2 side by side, the usual ones, are compared column by column, then row by row: on the CPU that takes a tenth
    of the time of torch's pooling forwards and a half of it both ways, with the same winners (the first of equal ones).
    """

    kind: ClassVar[str] = "max_pool"

    def _halves(self, run: Run, x: Tensor) -> bool:
        return self.args["dilation"] == [1, 1] and _quarters(run, x, self._geometry())

    def _geometry(self) -> tuple[list[int], list[int], list[int], list[int], bool]:
        args = self.args
        return args["size"], args["stride"], args["padding"], args["dilation"], args["ceil"]

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.flat else x
        if self._halves(run, x):
            half = torch.maximum(x[..., 0::2], x[..., 1::2])
            out = torch.maximum(half[..., 0::2, :], half[..., 1::2, :])
            self.save(run, (x, None, half))
        else:
            out, winners = self.torchs("max_pool2d_with_indices")(x, *self._geometry())
            self.save(run, (x, winners, None))
        return out.squeeze(-2) if self.flat else out

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        x, winners, half = saved
        if half is None:
            return rows.stand_in(x), rows.take(winners), None
        half = rows.take(half)  # before x, which the activation that made it asks for next
        return rows.take(x), None, half

    def follow(self, run: Run, value: Tensor) -> Tensor:
        x, winners, half = self.load(run)
        if half is None:
            return _gathered(value, winners, self.args["dims"])
        value = torch.where(x[..., 0::2] >= x[..., 1::2], value[..., 0::2], value[..., 1::2])
        return torch.where(half[..., 0::2, :] >= half[..., 1::2, :], value[..., 0::2, :], value[..., 1::2, :])

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        x, winners, half = self.load(run)
        if half is not None:
            self.save(run, None)  # so that the half is free while the whole is made
            signal = _to_larger(signal, half, -2)
            del half
            return (_to_larger(signal, x, -1),)
        flat = self.flat
        signal = signal.unsqueeze(-2) if flat else signal
        back = self.torchs("max_pool2d_with_indices_backward")(signal, x, *self._geometry(), winners)
        return (back.squeeze(-2) if flat else back,)


class AvgPool(Pool):
    """Average pooling; ``args``: ``size stride padding ceil include_pad divisor``.

    Windows of 2x2 side by side are added row by row, then column by column: on the CPU a sixth of the time of torch's
    pooling forwards and a third of it backwards, equal to rounding.
    """

    kind: ClassVar[str] = "avg_pool"

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, bool, int | None]:
        args = self.args
        return args["size"], args["stride"], args["padding"], args["ceil"], args["include_pad"], args["divisor"]

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.flat else x
        if self.args["divisor"] is None and _quarters(run, x, self._geometry()):
            self.save(run, x.shape)
            return _sums(x).mul_(0.25)
        self.save(run, x)
        out = self.torchs("avg_pool2d")(x, *self._geometry())
        return out.squeeze(-2) if self.flat else out

    def follow(self, run: Run, value: Tensor) -> Tensor:
        out = self.torchs("avg_pool2d")(value.unsqueeze(-2) if self.flat else value, *self._geometry())
        return out.squeeze(-2) if self.flat else out

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return rows.stand_in(saved) if isinstance(saved, Tensor) else rows.shape(saved)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        saved = self.load(run)
        if not isinstance(saved, Tensor):
            return (_spread(signal * 0.25, saved),)
        flat = self.flat
        signal = (signal.unsqueeze(-2) if flat else signal).contiguous()
        back = self.torchs("avg_pool2d_backward")(signal, saved, *self._geometry())
        return (back.squeeze(-2) if flat else back,)


class PowerPool(Pool):
    """``(sum x^p)^(1/p)`` over windows, torch's LPPool; ``args``: ``power size stride ceil``.

    Where the sum is zero there is no derivative, and the adjoint is 0 (as torch defines it).
    """

    kind: ClassVar[str] = "power_pool"
    fresh: ClassVar[bool] = False

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, bool, None]:
        size = self.args["size"]
        return size, self.args["stride"], [0] * len(size), self.args["ceil"], True, None

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.flat else x
        power, count = self.args["power"], math.prod(self.args["size"])
        raised = x * x if power == 2 else x.pow(power)
        if _quarters(run, raised, self._geometry()):
            total = _sums(raised)
        else:
            total = self.torchs("avg_pool2d")(raised, *self._geometry()) * count
        out = total.sqrt() if power == 2 else total.pow(1 / power)
        self.save(run, (x, out))
        return out.squeeze(-2) if self.flat else out

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return tuple(rows.take(value) for value in saved)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        x, out = self.load(run)
        flat, power, count = self.flat, self.args["power"], math.prod(self.args["size"])
        signal = signal.unsqueeze(-2) if flat else signal
        share = signal / (out if power == 2 else out.pow(power - 1))
        share = torch.where(out == 0, 0.0, share).contiguous()
        if _quarters(run, x, self._geometry()):
            back = _spread(share, x.shape).mul_(x if power == 2 else x.pow(power - 1))
        else:
            share = share * count
            back = self.torchs("avg_pool2d_backward")(share, x, *self._geometry()) * (
                x if power == 2 else x.pow(power - 1)
            )
        return (back.squeeze(-2) if flat else back,)


class AdaptivePool(Pool):
    """Adaptive pooling; ``args``: ``mode`` ``avg`` or ``max``, and the result's size.

    ``size`` has one number a dimension (None keeps it); or, with ``least`` instead, dimensions smaller than that grow to it.
    """

    kind: ClassVar[str] = "adaptive_pool"

    def _size(self, x: Tensor) -> list[int]:
        if "least" in self.args:
            return [max(self.args["least"], have) for have in x.shape[-2:]]
        return [
            have if want is None else want
            for want, have in zip(self.args["size"], x.shape[-len(self.args["size"]) :], strict=True)
        ]

    def _average(self, x: Tensor, size: list[int]) -> Tensor:
        call: Any = F.adaptive_avg_pool3d if self.args["dims"] == 3 else F.adaptive_avg_pool2d
        out: Tensor = call(x, size)
        return out

    def follow(self, run: Run, value: Tensor) -> Tensor:
        if self.args["mode"] == "max":
            return _gathered(value, self.load(run)[1], self.args["dims"])
        value = value.unsqueeze(-2) if self.flat else value
        size = self._size(value)
        out = self._average(value, size)
        return out.squeeze(-2) if self.flat else out

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.flat else x
        size = self._size(x)
        if self.args["mode"] == "avg":
            self.save(run, x)
            out = self._average(x, size)
        else:
            out, winners = self.torchs("adaptive_max_pool2d")(x, size)
            self.save(run, (x, winners))
        return out.squeeze(-2) if self.flat else out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        flat = self.flat
        signal = (signal.unsqueeze(-2) if flat else signal).contiguous()
        if self.args["mode"] == "avg":
            back = self.torchs("_adaptive_avg_pool2d_backward")(signal, self.load(run))
        else:
            back = self.torchs("adaptive_max_pool2d_backward")(signal, *self.load(run))
        return (back.squeeze(-2) if flat else back,)


def _gathered(value: Tensor, winners: Tensor, dims: int) -> Tensor:
    """Return the elements of ``value`` at the places that the maxima came from."""
    out = value.flatten(-dims).gather(-1, winners.flatten(-max(dims, 2))).view(winners.shape)
    return out.squeeze(-2) if dims == 1 else out


def _sums(x: Tensor) -> Tensor:
    """Sum windows of 2x2 side by side."""
    rows = x.unflatten(-2, (x.shape[-2] // 2, 2))
    pairs = rows.select(-2, 0) + rows.select(-2, 1)
    return pairs[..., 0::2] + pairs[..., 1::2]


def _spread(signal: Tensor, shape: torch.Size) -> Tensor:
    """Give each element of a window of 2x2 the window's own value."""
    wide = signal.new_empty((*signal.shape, 2))
    wide[..., 0] = signal
    wide[..., 1] = signal
    rows = wide.view(*shape[:-2], shape[-2] // 2, 1, shape[-1])
    return rows.expand(*shape[:-2], shape[-2] // 2, 2, shape[-1]).contiguous().view(shape)


def _to_larger(signal: Tensor, compared: Tensor, dim: int) -> Tensor:
    """Send the signal at the larger of each two neighbours along ``dim`` (the first, where equal) to that one.

    All numbers are finite: of others not even torch's choice would help, and a run with them is stopped.
    """
    sent = torch.empty_like(compared, dtype=signal.dtype)
    size = compared.shape[dim] // 2
    first, second = (compared.unflatten(dim, (size, 2)).select(dim, at) for at in (0, 1))
    to_first, to_second = (sent.unflatten(dim, (size, 2)).select(dim, at) for at in (0, 1))
    torch.mul(signal, first >= second, out=to_first)
    torch.sub(signal, to_first, out=to_second)
    return sent
