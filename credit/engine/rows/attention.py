"""Rows for attention: written out in products, masks and a softmax, so that every weight of a module is a layer of its own.

Source: the definition in torch's documentation of ``scaled_dot_product_attention``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.builder import Builder, Val, local_call
from credit.engine.ops.arithmetic import Affine, MatMul, Softmax
from credit.engine.ops.chance import Dropout
from credit.engine.ops.shapes import Permute, Split, Value, View
from credit.engine.ops.weighted import Linear
from credit.engine.reach import constants
from credit.engine.rows import layers, norms
from credit.engine.rows.functional import weighted
from credit.engine.rows.values import add, mean, mul, transpose


class Masks(NamedTuple):
    """What attention may not look at.

    Attributes:
        given: masks (..., queries, keys): true where it looks, or numbers that are added to the scores.
        causal: whether a query looks at the keys up to its own place alone.
    """

    given: tuple[Any, ...] = ()
    causal: bool = False


def attention(b: Builder, query: Val, key: Val, value: Val, attn_mask: Any = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: Any = None, enable_gqa: bool = False) -> Val:  # fmt: skip
    """``F.scaled_dot_product_attention``."""
    if enable_gqa:
        named = {
            "attn_mask": attn_mask,
            "dropout_p": dropout_p,
            "is_causal": is_causal,
            "scale": scale,
            "enable_gqa": True,
        }
        return local_call(b, F.scaled_dot_product_attention, (query, key, value), named)
    masks = Masks(() if attn_mask is None else (attn_mask,), is_causal)
    return _weighed(b, _weights(b, query, key, masks, dropout_p, scale), value)


def _weights(b: Builder, query: Val, key: Val, masks: Masks, dropout: float, scale: Any = None) -> Val:
    """Append the weights (..., queries, keys) that attention gives the values."""
    if scale is None:
        scale = b.shape(lambda t: 1 / math.sqrt(t.shape[-1]), query)
    scores = mul(b, b.emit(MatMul, query, transpose(b, key, -2, -1), suffix=".scores"), scale)
    for mask in masks.given:
        if _constant(b, mask):
            mask = b.shape(_numbers, mask, scores)
        scores = add(b, scores, mask)
    if masks.causal:
        scores = b.emit(Affine, scores, extra=(None, b.shape(_causal, scores)))
    made = b.emit(Softmax, scores, dim=-1, form="masked" if masks.given else "plain", suffix=".weights")
    return b.emit(Dropout, made, p=dropout, per="element", scale=True) if dropout else made


def _weighed(b: Builder, weights: Val, value: Val) -> Val:
    return b.emit(MatMul, weights, value, suffix=".values")


def _constant(b: Builder, mask: Val) -> bool:
    """Return whether a mask takes no error signal: a buffer, or computed from buffers, shapes or comparisons."""
    return not mask.tensor or constants(b.ops, {n for n, _ in b.model.named_parameters()}).get(mask.slot) == frozenset()


def _numbers(mask: Tensor, scores: Tensor) -> Tensor:
    """Return what a mask adds to scores."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -math.inf)
    return mask.to(scores.dtype)


def _causal(scores: Tensor) -> Tensor:
    return _numbers(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(), scores)


# ---------------------------------------------------------------- torch's modules


def multihead(b: Builder, m: nn.MultiheadAttention, query: Val, key: Val, value: Val, key_padding_mask: Any = None,
              need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
              is_causal: bool = False) -> Any:  # fmt: skip
    """``nn.MultiheadAttention``: three maps of the input, attention, and one map of its result.

    Query, key and value of one tensor are made by one layer (its weight is ``in_proj_weight``), other ones by a layer each.
    """
    if m.bias_k is not None or m.add_zero_attn:
        return NotImplemented
    heads, order = m.num_heads, _heads_first(m.batch_first)
    parts = [
        b.emit(Permute, b.emit(View, part, extra=((-1, (heads, m.head_dim)),), call=_unflatten), dims=order)
        for part in _projected(b, m, query, key, value)
    ]
    laid = ((attn_mask, _of_heads(heads)), (key_padding_mask, _of_keys))
    given = tuple(_module_mask(b, mask, lay) for mask, lay in laid if mask is not None)
    weights = _weights(b, parts[0], parts[1], Masks(given), 0.0 if b.frozen(m) else m.dropout)
    back = _heads_last(m.batch_first)
    out = b.emit(View, b.emit(Permute, _weighed(b, weights, parts[2]), dims=back), call=lambda t: t.flatten(-2))
    out = b.inside(layers.linear, m.out_proj, out, "out_proj")
    if not need_weights:
        return out, None
    return out, mean(b, weights, -3) if average_attn_weights else weights


def _projected(b: Builder, m: nn.MultiheadAttention, *inputs: Val) -> list[Val]:
    """Append the maps that make query, key and value."""
    if m.in_proj_weight is not None and len({x.slot for x in inputs}) == 1:
        params = {"weight": f"{b.name}.in_proj_weight"}
        if m.in_proj_bias is not None:
            params["bias"] = f"{b.name}.in_proj_bias"
        made = b.emit(Linear, inputs[0], params=params, suffix=".in_proj")
        return [b.emit(Split, made, extra=(3, -1), call=torch.chunk, piece=at) for at in range(3)]
    whole = None if m.in_proj_weight is None else _own(b, "in_proj_weight")
    shifts = None if m.in_proj_bias is None else _own(b, "in_proj_bias")
    found = []
    for at, (x, letter) in enumerate(zip(inputs, "qkv", strict=True)):
        weight = _own(b, f"{letter}_proj_weight") if whole is None else _third(b, whole, at)
        found.append(weighted(b, Linear, x, weight, None if shifts is None else _third(b, shifts, at)))
    return found


def _own(b: Builder, role: str) -> Val:
    return b.emit(Value, suffix=f".{role}", tensor=f"{b.name}.{role}", constant=None)


def _third(b: Builder, value: Val, at: int) -> Val:
    return b.emit(Split, value, extra=(3, 0), call=torch.chunk, piece=at)


def _unflatten(t: Tensor, sizes: tuple[int, tuple[int, int]]) -> Tensor:
    return t.unflatten(*sizes)


def _heads_first(batch_first: bool) -> Any:
    """Return the order of dimensions from (batch, positions, heads, size), or (positions, batch, heads, size), to heads first."""
    return lambda n: [1, 0, 2] if n == 3 else [0, 2, 1, 3] if batch_first else [1, 2, 0, 3]


def _heads_last(batch_first: bool) -> Any:
    return lambda n: [1, 0, 2] if n == 3 else [0, 2, 1, 3] if batch_first else [2, 0, 1, 3]


def _module_mask(b: Builder, mask: Val, lay: Callable[[Tensor], Tensor]) -> Val:
    """Return a mask of nn.MultiheadAttention, whose true entries are the places not looked at, as `Masks` has it."""
    if not _constant(b, mask):
        raise UserError(
            f"'{b.name}' in {type(b.model).__name__}: a mask of nn.MultiheadAttention that is computed from parameters or from "
            "the input has no row in credit/engine/rows/table.py; give it to F.scaled_dot_product_attention"
        )
    return b.shape(lambda mask: ~lay(mask) if mask.dtype == torch.bool else lay(mask), mask)


def _of_heads(heads: int) -> Callable[[Tensor], Tensor]:
    """Lay a mask (queries, keys) or (batch * heads, queries, keys) for scores (batch, heads, queries, keys)."""
    return lambda mask: mask if mask.dim() == 2 else mask.unflatten(0, (-1, heads))


def _of_keys(mask: Tensor) -> Tensor:
    """Lay a mask (batch, keys) or (keys,) for scores (batch, heads, queries, keys)."""
    return mask[..., None, None, :] if mask.dim() == 2 else mask


def encoder_layer(b: Builder, m: nn.TransformerEncoderLayer, src: Val, src_mask: Any = None, src_key_padding_mask: Any = None,
                  is_causal: bool = False) -> Any:  # fmt: skip
    act = _act(m)
    if act is None or m.self_attn.bias_k is not None:
        return NotImplemented

    def attend(b: Builder, attn: nn.MultiheadAttention, x: Val) -> Val:
        made = multihead(b, attn, x, x, x, src_key_padding_mask, False, src_mask)
        out: Val = made[0]
        return out

    def first(x: Val) -> Val:
        return b.inside(layers.dropout_module, m.dropout1, b.inside(attend, m.self_attn, x, "self_attn"), "dropout1")

    def second(x: Val) -> Val:
        x = act(b, b.inside(layers.linear, m.linear1, x, "linear1"))
        x = b.inside(layers.dropout_module, m.dropout, x, "dropout")
        return b.inside(layers.dropout_module, m.dropout2, b.inside(layers.linear, m.linear2, x, "linear2"), "dropout2")

    for part, norm in ((first, "norm1"), (second, "norm2")):
        module = getattr(m, norm)
        if m.norm_first:
            src = add(b, src, part(b.inside(norms.layer_norm, module, src, norm)))
        else:
            src = b.inside(norms.layer_norm, module, add(b, src, part(src)), norm)
    return src


def _act(m: nn.TransformerEncoderLayer) -> Any:
    """Return the row of an encoder layer's activation; None where it is another than ReLU and GELU."""
    if m.activation is F.relu or isinstance(m.activation, nn.ReLU):
        return layers.plain("relu")
    if m.activation is F.gelu:
        return layers.gelu
    if isinstance(m.activation, nn.GELU):
        return lambda b, x: layers.gelu(b, x, m.activation.approximate)
    return None


def encoder(b: Builder, m: nn.TransformerEncoder, src: Val, mask: Any = None, src_key_padding_mask: Any = None,
            is_causal: bool | None = None) -> Any:  # fmt: skip
    for at, layer in enumerate(m.layers):
        if not isinstance(layer, nn.TransformerEncoderLayer) or _act(layer) is None:
            return NotImplemented
        src = b.inside(lambda b, m, x: encoder_layer(b, m, x, mask, src_key_padding_mask), layer, src, f"layers.{at}")
    if m.norm is not None:
        src = b.inside(norms.layer_norm, m.norm, src, "norm")
    return src
