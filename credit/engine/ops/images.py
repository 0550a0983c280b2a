"""Changes of an image's size by interpolation: linear maps, whose adjoints are torch's own kernels."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads

KERNELS = {
    "nearest": "upsample_nearest{}d", "nearest-exact": "_upsample_nearest_exact{}d", "linear": "upsample_linear{}d",
    "bilinear": "upsample_bilinear{}d", "bicubic": "upsample_bicubic{}d", "trilinear": "upsample_trilinear{}d",
}  # fmt: skip
"""torch's kernels by the mode of ``F.interpolate``, without the number of an image's dimensions."""


class Resize(Op):
    """``F.interpolate``; ``args``: ``mode`` (a key of ``KERNELS``), ``corners``, ``antialias``, ``exact``.

    ``extra`` is (size, scale), one of them None. ``exact``: the scale is the quotient of the sizes instead of the one given.
    """

    kind: ClassVar[str] = "resize"

    def forward(self, run: Run, x: Tensor, size: Any, scale: Any) -> Tensor:
        dims = x.dim() - 2
        sides = x.shape[2:]
        scales = None if scale is None else list(scale) if isinstance(scale, tuple | list) else [scale] * dims
        if scales is not None:
            sizes = [math.floor(side * by) for side, by in zip(sides, scales, strict=True)]
        else:
            sizes = list(size) if isinstance(size, tuple | list) else [size] * dims
        given = [None] * dims if scales is None or self.args["exact"] else scales
        rest = given if self.args["mode"].startswith("nearest") else [bool(self.args["corners"]), *given]
        self.save(run, (x.shape, sizes, rest))
        out: Tensor = self._kernel(dims)(x, sizes, *rest)
        return out

    def _kernel(self, dims: int, suffix: str = "") -> Any:
        name = KERNELS[self.args["mode"]].format(dims)
        return getattr(torch.ops.aten, (f"_{name}_aa" if self.args["antialias"] else name) + suffix)

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        shape, sizes, rest = self.load(run)
        return (self._kernel(len(sizes), "_backward")(signal.contiguous(), sizes, list(shape), *rest),)

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() > 2 and leads(out, inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        return rows.shape(saved[0]), *saved[1:]
