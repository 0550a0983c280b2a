"""Rows for changes of an image's size by interpolation, and for its patches."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.engine.builder import Builder, Val, local_call
from credit.engine.ops.images import KERNELS, Resize
from credit.engine.ops.shapes import Cast, FixedMap, Permute, View
from credit.engine.rows.values import cat, select


def interpolate(b: Builder, input: Val, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Val:  # fmt: skip
    if mode not in KERNELS:
        named = {
            "size": size,
            "scale_factor": scale_factor,
            "mode": mode,
            "recompute_scale_factor": recompute_scale_factor,
        }
        return local_call(b, F.interpolate, (input,), named)
    return b.emit(
        Resize, input, extra=(size, scale_factor), mode=mode, corners=align_corners, antialias=antialias,
        exact=bool(recompute_scale_factor),
    )  # fmt: skip


def upsample(b: Builder, m: nn.Upsample, x: Val) -> Val:
    return interpolate(b, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor)


def unfold(b: Builder, input: Val, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Val:
    geometry = (kernel_size, dilation, padding, stride)
    return b.emit(
        FixedMap, input, extra=(b.shape(getattr, input, "shape"),), dims=(1, 2),
        call=lambda t, shape: F.unfold(t, *geometry), back=lambda t, shape: F.fold(t, shape[-2:], *geometry),
    )  # fmt: skip


def fold(b: Builder, input: Val, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Val:  # fmt: skip
    geometry = (kernel_size, dilation, padding, stride)
    return b.emit(
        FixedMap, input, extra=(output_size,), dims=(1, 2),
        call=lambda t, size: F.fold(t, size, *geometry), back=lambda t, size: F.unfold(t, *geometry),
    )  # fmt: skip


def unfold_module(b: Builder, m: nn.Unfold, x: Val) -> Val:
    return unfold(b, x, m.kernel_size, m.dilation, m.padding, m.stride)


def fold_module(b: Builder, m: nn.Fold, x: Val) -> Val:
    return fold(b, x, m.output_size, m.kernel_size, m.dilation, m.padding, m.stride)


def position_embedding(b: Builder, posemb: Val, new_size: Any, old_size: Any = None, num_prefix_tokens: int = 1,
                       interpolation: str = "bicubic", antialias: bool = True, verbose: bool = False,
                       align_corners: bool | None = None) -> Val:  # fmt: skip
    """timm's ``resample_abs_pos_embed``: embeddings (1, prefix + H * W, C) for images of other sizes, in single precision."""

    def lowered(t: Tensor, old: Any, new: Any) -> Tensor:
        return t if tuple(old) == tuple(new) else t.float()

    if old_size is None:
        old_size = b.shape(lambda t: (round((t.shape[1] - num_prefix_tokens) ** 0.5),) * 2, posemb)
    grid = select(b, posemb, (slice(None), slice(num_prefix_tokens, None)))
    grid = b.emit(Cast, grid, extra=(old_size, new_size), call=lowered)
    grid = b.emit(View, grid, extra=(old_size,), call=lambda t, sides: t.unflatten(1, tuple(sides)))
    grid = b.emit(Permute, grid, dims=lambda n: [0, 3, 1, 2])
    grid = interpolate(b, grid, new_size, None, interpolation, align_corners, antialias=antialias)
    grid = b.emit(View, b.emit(Permute, grid, dims=lambda n: [0, 2, 3, 1]), call=lambda t: torch.flatten(t, 1, 2))
    grid = b.emit(Cast, grid, extra=(posemb,), call=lambda t, like: t.to(like.dtype))
    return cat(b, [select(b, posemb, (slice(None), slice(num_prefix_tokens))), grid], 1) if num_prefix_tokens else grid
