"""Pooling: max (the winner takes the signal), average, and adaptive forms. One-dimensional pools run as 2-d ones."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads

aten = torch.ops.aten


class Pool(Op):
    """Shared by the three: each image is pooled by itself."""

    kind: ClassVar[str] = "pool"

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() == (3 if self.args["flat"] else 4) and leads(out, inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        # The input is kept for its shape alone, beside the winners where they are the maxima's.
        return rows.stand_in(saved) if isinstance(saved, Tensor) else (rows.stand_in(saved[0]), rows.take(saved[1]))


class MaxPool(Pool):
    """Max pooling; ``args``: ``size stride padding dilation ceil`` (pairs), ``flat`` for 1-d input."""

    kind: ClassVar[str] = "max_pool"

    def _geometry(self) -> tuple[list[int], list[int], list[int], list[int], bool]:
        args = self.args
        return args["size"], args["stride"], args["padding"], args["dilation"], args["ceil"]

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.args["flat"] else x
        out, winners = torch.ops.aten.max_pool2d_with_indices(x, *self._geometry())
        self.save(run, (x, winners))
        return out.squeeze(-2) if self.args["flat"] else out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        x, winners = self.load(run)
        flat = self.args["flat"]
        signal = signal.unsqueeze(-2) if flat else signal
        back = aten.max_pool2d_with_indices_backward(signal, x, *self._geometry(), winners)
        return (back.squeeze(-2) if flat else back,)


class AvgPool(Pool):
    """Average pooling; ``args``: ``size stride padding ceil include_pad divisor``, ``flat`` for 1-d input."""

    kind: ClassVar[str] = "avg_pool"

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, bool, int | None]:
        args = self.args
        return args["size"], args["stride"], args["padding"], args["ceil"], args["include_pad"], args["divisor"]

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.args["flat"] else x
        self.save(run, x)
        out = aten.avg_pool2d(x, *self._geometry())
        return out.squeeze(-2) if self.args["flat"] else out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        flat = self.args["flat"]
        signal = (signal.unsqueeze(-2) if flat else signal).contiguous()
        back = aten.avg_pool2d_backward(signal, self.load(run), *self._geometry())
        return (back.squeeze(-2) if flat else back,)


class AdaptivePool(Pool):
    """Adaptive pooling; ``args``: ``mode`` ``avg`` or ``max``, ``flat`` for 1-d, and the result's size.

    ``size`` is a pair, None keeping a dimension; or, with ``least`` instead, dimensions smaller than that grow to it.
    """

    kind: ClassVar[str] = "adaptive_pool"

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if self.args["flat"] else x
        if "least" in self.args:
            size = [max(self.args["least"], have) for have in x.shape[-2:]]
        else:
            size = [have if want is None else want for want, have in zip(self.args["size"], x.shape[-2:], strict=True)]
        if self.args["mode"] == "avg":
            self.save(run, x)
            out = F.adaptive_avg_pool2d(x, (size[0], size[1]))
        else:
            out, winners = aten.adaptive_max_pool2d(x, size)
            self.save(run, (x, winners))
        return out.squeeze(-2) if self.args["flat"] else out

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        flat = self.args["flat"]
        signal = (signal.unsqueeze(-2) if flat else signal).contiguous()
        if self.args["mode"] == "avg":
            back = aten._adaptive_avg_pool2d_backward(signal, self.load(run))
        else:
            back = aten.adaptive_max_pool2d_backward(signal, *self.load(run))
        return (back.squeeze(-2) if flat else back,)
