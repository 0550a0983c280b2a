"""Rows for functions of torchvision's Swin transformers that cannot be traced: they compute with an image's size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.engine.builder import Builder, Val
from credit.engine.ops.arithmetic import Affine, MatMul, Softmax
from credit.engine.ops.shapes import FixedMap, Permute, View
from credit.engine.rows import elementwise, layers
from credit.engine.rows.functional import linear
from credit.engine.rows.values import add, cat, mul, select, transpose

Sizes = tuple[int, int]


def merged(b: Builder, x: Val) -> Val:
    """``_patch_merging_pad``: the four entries of each window of 2x2 of an image (..., H, W, C) side by side."""
    rows, columns = (b.shape(lambda t, dim=dim: t.shape[dim] % 2, x) for dim in (-3, -2))
    x = layers.pad(b, x, (0, 0, 0, columns, 0, rows))
    parts = [select(b, x, (..., slice(at, None, 2), slice(to, None, 2), slice(None))) for to in (0, 1) for at in (0, 1)]
    return cat(b, parts, -1)


def position_bias(b: Builder, table: Val, index: Val, window_size: list[int]) -> Val:
    """``_get_relative_position_bias``: a table's entries (1, heads, places, places), by the difference of two places."""
    places = window_size[0] * window_size[1]
    bias = b.emit(View, select(b, table, index), call=lambda t: t.reshape(1, places, places, -1))
    return b.emit(Permute, bias, dims=lambda n: [0, 3, 1, 2])


def window_attention(
    b: Builder, input: Val, qkv_weight: Val, proj_weight: Val, relative_position_bias: Val, window_size: list[int], num_heads: int,
    shift_size: list[int], attention_dropout: float = 0.0, dropout: float = 0.0, qkv_bias: Val | None = None,
    proj_bias: Val | None = None, logit_scale: Val | None = None, training: bool = True,
) -> Val:  # fmt: skip
    """``shifted_window_attention`` of an image (B, H, W, C) within windows; with ``logit_scale`` by cosine (Swin V2)."""
    size, shift, shape = (
        (window_size[0], window_size[1]),
        (shift_size[0], shift_size[1]),
        b.shape(getattr, input, "shape"),
    )

    def into(t: Tensor, shape: torch.Size) -> Tensor:
        return _windows(t, shape, size, shift)

    def back(t: Tensor, shape: torch.Size) -> Tensor:
        return _image(t, shape, size, shift)

    x = b.emit(FixedMap, input, extra=(shape,), suffix=".windows", call=into, back=back, dims=(1, 2))
    if logit_scale is not None and qkv_bias is not None:  # keys have no bias
        qkv_bias = mul(b, qkv_bias, b.shape(_without_keys, qkv_bias))
    made = b.emit(View, linear(b, x, qkv_weight, qkv_bias), call=lambda t: t.unflatten(-1, (3, num_heads, -1)))
    made = b.emit(Permute, made, dims=lambda n: [2, 0, 3, 1, 4])
    q, k, v = (select(b, made, at) for at in range(3))
    if logit_scale is None:
        q = mul(b, q, b.shape(lambda t: t.shape[-1] ** -0.5, q))
    else:
        q, k = (elementwise.normalize(b, part, dim=-1) for part in (q, k))
    scores = b.emit(MatMul, q, transpose(b, k, -2, -1), suffix=".scores")
    if logit_scale is not None:
        scale = elementwise.clamp_max(b, logit_scale, math.log(100.0))
        scores = mul(b, scores, elementwise.pointwise("exp")(b, scale))
    scores = add(b, scores, relative_position_bias)
    if any(shift):
        mask = b.shape(lambda shape, like: _apart(shape, size, shift).to(like), shape, scores)
        scores = b.emit(View, scores, extra=(mask,), call=lambda t, mask: t.unflatten(0, (-1, len(mask))))
        scores = b.emit(View, b.emit(Affine, scores, extra=(None, mask)), call=lambda t: t.flatten(0, 1))
    weights = b.emit(Softmax, scores, dim=-1, form="plain", suffix=".weights")
    weights = layers.dropout("element")(b, weights, attention_dropout, training)
    x = transpose(b, b.emit(MatMul, weights, v, suffix=".values"), 1, 2)
    x = linear(b, b.emit(View, x, call=lambda t: t.flatten(-2)), proj_weight, proj_bias)
    x = layers.dropout("element")(b, x, dropout, training)
    return b.emit(FixedMap, x, extra=(shape,), suffix=".image", call=back, back=into, dims=(1, 2))


def _padded(shape: torch.Size, size: Sizes, shift: Sizes) -> tuple[Sizes, Sizes]:
    """Return the sizes of an image (B, H, W, C) padded to whole windows, and the shifts: none where one window covers it."""
    height, width = (-(-have // of) * of for have, of in zip(shape[1:3], size, strict=True))
    moves = tuple(0 if of >= have else by for of, have, by in zip(size, (height, width), shift, strict=True))
    return (height, width), (moves[0], moves[1])


def _windows(x: Tensor, shape: torch.Size, size: Sizes, shift: Sizes) -> Tensor:
    """Return the windows (B * windows, places, C) of an image (B, H, W, C), padded with zeros and rolled by the shift."""
    (height, width), (down, right) = _padded(shape, size, shift)
    x = F.pad(x, (0, 0, 0, width - shape[2], 0, height - shape[1])).roll((-down, -right), (1, 2))
    return x.unflatten(2, (-1, size[1])).unflatten(1, (-1, size[0])).transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _image(x: Tensor, shape: torch.Size, size: Sizes, shift: Sizes) -> Tensor:
    """Return the image that windows come from: what `_windows` does, undone."""
    (height, width), (down, right) = _padded(shape, size, shift)
    x = x.unflatten(1, size).unflatten(0, (-1, height // size[0], width // size[1]))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2).roll((down, right), (1, 2))
    return x[:, : shape[1], : shape[2]]


def _apart(shape: torch.Size, size: Sizes, shift: Sizes) -> Tensor:
    """Return what is added to the scores (windows, 1, places, places): -100 between places that the roll brought together."""
    (height, width), moves = _padded(shape, size, shift)
    regions = torch.zeros(1, height, width, 1)
    if any(moves):
        cuts = [((0, -of), (-of, -by), (-by, None)) for of, by in zip(size, moves, strict=True)]
        for number, (rows, columns) in enumerate((r, c) for r in cuts[0] for c in cuts[1]):
            regions[0, slice(*rows), slice(*columns)] = number
    laid = _windows(regions, regions.shape, size, (0, 0)).squeeze(-1)
    return torch.where(laid.unsqueeze(1) == laid.unsqueeze(2), 0.0, -100.0).unsqueeze(1)


def _without_keys(bias: Tensor) -> Tensor:
    third = len(bias) // 3
    return torch.cat([bias.new_ones(third), bias.new_zeros(third), bias.new_ones(third)])
