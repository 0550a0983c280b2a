"""Rows for normalisation layers, as modules and as functions whose gains and shifts are parameters or computed from them."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from credit.engine.builder import Builder, Val, local_call
from credit.engine.ops.norms import BatchNorm, GroupNorm, LayerNorm, Norm, RMSNorm
from credit.engine.ops.shapes import Value, View
from credit.engine.rows.functional import maker, parameter
from credit.engine.rows.layers import named_params
from credit.engine.rows.values import add, mul


def batch_norm(b: Builder, m: Any, x: Val) -> Val:
    buffers = {role: f"{b.name}.{role}" for role, value in m.named_buffers(recurse=False) if value is not None}
    args = {"eps": m.eps, "momentum": m.momentum, "buffers": buffers, "frozen": b.frozen(m)}
    return b.emit(BatchNorm, x, params=named_params(b, m), **args)


def layer_norm(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(LayerNorm, x, params=named_params(b, m), shape=list(m.normalized_shape), eps=m.eps, channels=False)


def layer_norm_2d(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(LayerNorm, x, params=named_params(b, m), shape=list(m.normalized_shape), eps=m.eps, channels=True)


def group_norm(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(GroupNorm, x, params=named_params(b, m), groups=m.num_groups, eps=m.eps)


def rms_norm(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(RMSNorm, x, params=named_params(b, m), shape=list(m.normalized_shape), eps=m.eps)


def instance_norm(b: Builder, m: Any, x: Val) -> Any:
    if m.track_running_stats:
        return NotImplemented
    return b.emit(GroupNorm, x, params=named_params(b, m), groups=None, eps=m.eps)


# ---------------------------------------------------------------- functions


def _called(
    b: Builder, kind: type[Norm], x: Val, weight: Val | None, bias: Val | None, per_channel: bool, **args: Any
) -> Val:
    """Append a norm whose gain and shift, one a channel or (``per_channel`` false) for the last dimensions, are any values."""
    given = {role: value for role, value in (("weight", weight), ("bias", bias)) if value is not None}
    named = {role: parameter(b, value) for role, value in given.items()}
    if all(named.values()):
        return b.emit(kind, x, params=named, **args)
    made, dims = b.emit(kind, x, **args), b.shape(Tensor.dim, x)
    for role, value in given.items():
        value = b.emit(View, value, extra=(dims,), call=_by_channel) if per_channel else value
        made = mul(b, made, value) if role == "weight" else add(b, made, value)
    return made


def _by_channel(t: Tensor, dims: int) -> Tensor:
    return t.reshape(1, -1, *[1] * (dims - 2))


def layer_norm_function(b: Builder, input: Val, normalized_shape: Any, weight: Val | None = None, bias: Val | None = None,
                        eps: float = 1e-5, cudnn_enable: bool = True) -> Val:  # fmt: skip
    shape = list(normalized_shape)
    return _called(b, LayerNorm, input, weight, bias, False, shape=shape, eps=eps, channels=False)


def rms_norm_function(
    b: Builder, input: Val, normalized_shape: Any, weight: Val | None = None, eps: float | None = None
) -> Val:
    return _called(b, RMSNorm, input, weight, None, False, shape=list(normalized_shape), eps=eps)


def group_norm_function(b: Builder, input: Val, num_groups: int, weight: Val | None = None, bias: Val | None = None,
                        eps: float = 1e-5, cudnn_enabled: bool = True) -> Val:  # fmt: skip
    return _called(b, GroupNorm, input, weight, bias, True, groups=num_groups, eps=eps)


def instance_norm_function(b: Builder, input: Val, running_mean: Val | None = None, running_var: Val | None = None,
                           weight: Val | None = None, bias: Val | None = None, use_input_stats: bool = True,
                           momentum: float = 0.1, eps: float = 1e-5) -> Val:  # fmt: skip
    if running_mean is not None:
        given = (input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        return local_call(b, F.instance_norm, given, {})
    return _called(b, GroupNorm, input, weight, bias, True, groups=None, eps=eps)


def batch_norm_function(b: Builder, input: Val, running_mean: Val | None, running_var: Val | None, weight: Val | None = None,
                        bias: Val | None = None, training: bool = False, momentum: float = 0.1,
                        eps: float = 1e-5) -> Val:  # fmt: skip
    buffers = {}
    for role, value in (("running_mean", running_mean), ("running_var", running_var)):
        op = None if value is None else maker(b, value)
        if isinstance(op, Value) and op.args["tensor"] in dict(b.model.named_buffers()):
            buffers[role] = op.args["tensor"]
        elif value is not None:
            return local_call(
                b, F.batch_norm, (input, running_mean, running_var, weight, bias, training, momentum, eps), {}
            )
    return _called(
        b, BatchNorm, input, weight, bias, True, eps=eps, momentum=momentum, buffers=buffers, frozen=not training
    )
