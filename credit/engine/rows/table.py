"""The table: which row a torch module, function or method takes. To teach the engine a new op, add its row here.

Rows are functions of the other files of this folder, which emit ops and return the result's value.
"""

import math
import operator
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from credit.engine.builder import Builder, Row, Val, function_name
from credit.engine.ops.activations import Activate
from credit.engine.ops.pools import AdaptivePool
from credit.engine.rows import attention as attend
from credit.engine.rows import contractions, images, windows
from credit.engine.rows import elementwise as pointwise
from credit.engine.rows import functional as weighted
from credit.engine.rows import layers as layer
from credit.engine.rows import norms as norm
from credit.engine.rows import values as value
from credit.engine.rows.spiking import SPIKING

FUNCTIONS: dict[Any, Row] = {
    operator.add: value.add,
    operator.iadd: value.add,
    torch.add: value.add,
    operator.sub: value.sub,
    operator.isub: value.sub,
    torch.sub: value.sub,
    operator.mul: value.mul,
    operator.imul: value.mul,
    torch.mul: value.mul,
    torch.addcmul: value.addcmul,
    operator.truediv: value.divide,
    torch.div: value.divide,
    operator.matmul: weighted.matmul,
    torch.matmul: weighted.matmul,
    torch.mm: weighted.matmul,
    torch.bmm: weighted.matmul,
    torch.mv: weighted.matmul,
    torch.addmm: weighted.addmm,
    torch.einsum: contractions.einsum,
    F.linear: weighted.linear,
    **{call: weighted.conv(call, dims) for dims, call in enumerate((F.conv1d, F.conv2d, F.conv3d), start=1)},
    **{
        call: weighted.conv_transpose(call, dims)
        for dims, call in enumerate((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), start=1)
    },
    operator.getitem: value.get_item,
    getattr: value.get_attribute,
    torch.cat: value.cat,
    torch.concat: value.cat,
    torch.stack: value.stack,
    torch.mean: value.mean,
    torch.sum: value.total,
    torch.amax: value.amax,
    torch.amin: value.amin,
    torch.max: value.peak(1),
    torch.min: value.peak(-1),
    torch.flatten: value.flatten,
    torch.permute: value.permute,
    torch.transpose: value.transpose,
    torch.t: value.matrix_transpose,
    torch.chunk: value.chunk,
    torch.split: value.split,
    torch.unbind: value.unbind,
    torch.reshape: value.view(torch.reshape),
    torch.squeeze: value.view(torch.squeeze),
    torch.unsqueeze: value.view(torch.unsqueeze),
    torch.detach: value.detach,
    torch.flip: value.flip,
    torch.roll: value.roll,
    torch.movedim: value.movedim,
    torch.swapaxes: value.transpose,
    torch.norm: value.length,
    torch.linalg.vector_norm: value.length,
    F.normalize: pointwise.normalize,
    F.pixel_shuffle: value.pixel_shuffle,
    F.pixel_unshuffle: value.pixel_unshuffle,
    **dict.fromkeys((operator.neg, torch.neg), pointwise.negative),
    **dict.fromkeys((operator.pow, torch.pow), pointwise.power),
    **dict.fromkeys((operator.abs, torch.abs), pointwise.pointwise("abs", abs)),
    **{getattr(torch, name): pointwise.pointwise(name) for name in pointwise.PLAIN},
    torch.square: pointwise.square,
    torch.clamp: pointwise.clamp,
    torch.clamp_min: pointwise.clamp_min,
    torch.clamp_max: pointwise.clamp_max,
    torch.maximum: pointwise.extreme("maximum"),
    torch.minimum: pointwise.extreme("minimum"),
    torch.masked_fill: pointwise.masked_fill,
    torch.where: pointwise.where,
    **{getattr(operator, name): pointwise.compared(getattr(operator, name)) for name in pointwise.COMPARISONS},
    **{getattr(torch, name): pointwise.compared(getattr(torch, name)) for name in pointwise.COMPARISONS},
    torch._assert: value.of_shape(lambda ok, message: None),
    F.relu: layer.plain("relu"),
    torch.relu: layer.plain("relu"),
    F.relu6: layer.plain("relu6"),
    F.silu: layer.plain("silu"),
    F.mish: layer.plain("mish"),
    F.hardswish: layer.plain("hardswish"),
    F.hardsigmoid: layer.plain("hardsigmoid"),
    torch.sigmoid: layer.plain("sigmoid"),
    torch.tanh: layer.plain("tanh"),
    F.leaky_relu: layer.leaky_relu,
    F.gelu: layer.gelu,
    F.elu: layer.elu,
    F.hardtanh: layer.hardtanh,
    F.selu: layer.plain("selu"),
    torch.selu: layer.plain("selu"),
    F.celu: layer.celu,
    torch.celu: layer.celu,
    F.embedding: weighted.embedding,
    F.prelu: weighted.prelu,
    F.glu: value.gated,
    F.softplus: layer.softplus,
    torch.sign: layer.plain("sign"),
    torch.heaviside: layer.step,
    F.softmax: value.softmax_function("plain"),
    torch.softmax: value.softmax("plain"),
    F.log_softmax: value.softmax_function("log"),
    torch.log_softmax: value.softmax("log"),
    F.layer_norm: norm.layer_norm_function,
    F.group_norm: norm.group_norm_function,
    F.instance_norm: norm.instance_norm_function,
    F.batch_norm: norm.batch_norm_function,
    F.rms_norm: norm.rms_norm_function,
    F.dropout: layer.dropout("element"),
    **dict.fromkeys((F.dropout1d, F.dropout2d, F.dropout3d), layer.dropout("channel")),
    torch.max_pool2d: layer.max_pool(2),
    **{getattr(F, f"max_pool{dims}d"): layer.max_pool(dims) for dims in (1, 2, 3)},
    **{getattr(F, f"avg_pool{dims}d"): layer.avg_pool(dims) for dims in (1, 2, 3)},
    **{getattr(F, f"lp_pool{dims}d"): layer.power_pool(dims) for dims in (1, 2, 3)},
    **{
        getattr(F, f"adaptive_{mode}_pool{dims}d"): layer.adaptive_pool(mode, dims)
        for mode in ("avg", "max")
        for dims in (1, 2, 3)
    },
    F.pad: layer.pad,
    F.interpolate: images.interpolate,
    F.unfold: images.unfold,
    F.fold: images.fold,
    F.scaled_dot_product_attention: attend.attention,
}

_SWIN = "torchvision.models.swin_transformer"
BY_NAME: dict[str, Row] = {
    "timm.layers.pos_embed.resample_abs_pos_embed": images.position_embedding,
    f"{_SWIN}._patch_merging_pad": windows.merged,
    f"{_SWIN}._get_relative_position_bias": windows.position_bias,
    f"{_SWIN}.shifted_window_attention": windows.window_attention,
}
"""Rows of functions that packages keep out of tracing (``torch.fx.wrap``), by module and name, as importing them takes seconds."""

METHODS: dict[str, Row] = {
    "add": value.add,
    "add_": value.add,
    "sub": value.sub,
    "mul": value.mul,
    "mul_": value.mul,
    "addcmul": value.addcmul,
    "div": value.divide,
    "matmul": weighted.matmul,
    "mm": weighted.matmul,
    "bmm": weighted.matmul,
    "mv": weighted.matmul,
    "addmm": weighted.addmm,
    "mean": value.mean,
    "sum": value.total,
    "amax": value.amax,
    "amin": value.amin,
    "max": value.peak(1),
    "min": value.peak(-1),
    "relu": layer.plain("relu"),
    "relu_": layer.plain("relu"),
    "sigmoid": layer.plain("sigmoid"),
    "sigmoid_": layer.plain("sigmoid"),
    "tanh": layer.plain("tanh"),
    "sign": layer.plain("sign"),
    "softmax": value.softmax("plain"),
    "log_softmax": value.softmax("log"),
    "flatten": value.flatten,
    "permute": value.permute,
    "transpose": value.transpose,
    "t": value.matrix_transpose,
    "chunk": value.chunk,
    "split": value.split,
    "unbind": value.unbind,
    "view": value.view(torch.Tensor.reshape),
    "reshape": value.view(torch.Tensor.reshape),
    "squeeze": value.view(torch.Tensor.squeeze),
    "unsqueeze": value.view(torch.Tensor.unsqueeze),
    "unflatten": value.view(torch.Tensor.unflatten),
    "contiguous": value.view(torch.Tensor.contiguous),
    "clone": value.unchanged,
    "detach": value.detach,
    "expand": value.expand,
    "repeat": value.repeat,
    "expand_as": value.expand_as,
    "reshape_as": value.reshape_as,
    "view_as": value.reshape_as,
    "flip": value.flip,
    "roll": value.roll,
    "movedim": value.movedim,
    "swapaxes": value.transpose,
    "norm": value.length,
    "neg": pointwise.negative,
    "pow": pointwise.power,
    "abs": pointwise.pointwise("abs", abs),
    **{name: pointwise.pointwise(name) for name in pointwise.PLAIN},
    "square": pointwise.square,
    "clamp": pointwise.clamp,
    "clamp_min": pointwise.clamp_min,
    "clamp_max": pointwise.clamp_max,
    "maximum": pointwise.extreme("maximum"),
    "minimum": pointwise.extreme("minimum"),
    **{name: pointwise.compared(getattr(torch.Tensor, name)) for name in ("long", "int", "bool")},
    "masked_fill": pointwise.masked_fill,
    "where": lambda b, x, condition, other: pointwise.where(b, condition, x, other),
    **{name: pointwise.compared(getattr(torch, name)) for name in pointwise.COMPARISONS},
    **{
        name: pointwise.cast(getattr(torch.Tensor, name))
        for name in ("to", "type_as", "float", "double", "half", "bfloat16")
    },
    "size": value.of_shape(torch.Tensor.size),
    "dim": value.of_shape(torch.Tensor.dim),
    "numel": value.of_shape(torch.Tensor.numel),
}


def _as_module(row: Row) -> Row:
    return lambda b, m, x: row(b, x)


def _modules() -> dict[type[nn.Module], Row]:
    # A model can have timm's layers only where timm is imported already; importing it for others costs a second.
    return _rows("timm.layers" in sys.modules, "torchvision.ops" in sys.modules)


@cache
def _rows(with_timm: bool, with_torchvision: bool) -> dict[type[nn.Module], Row]:
    rows: dict[type[nn.Module], Row] = {
        nn.Linear: layer.linear,
        nn.Embedding: layer.embedding,
        **_sized("Conv", layer.conv),
        **_sized("ConvTranspose", layer.conv_transpose),
        **_sized("BatchNorm", norm.batch_norm),
        nn.LayerNorm: norm.layer_norm,
        nn.GroupNorm: norm.group_norm,
        nn.RMSNorm: norm.rms_norm,
        **_sized("InstanceNorm", norm.instance_norm),
        **_sized("MaxPool", layer.max_pool_module),
        **_sized("AvgPool", layer.avg_pool_module),
        **_sized("LPPool", layer.power_pool_module),
        **_sized("AdaptiveAvgPool", layer.adaptive_module),
        **_sized("AdaptiveMaxPool", layer.adaptive_module),
        **_sized("ZeroPad", layer.pad_module("constant")),
        **_sized("ConstantPad", layer.pad_module("constant")),
        **_sized("ReflectionPad", layer.pad_module("reflect")),
        **_sized("ReplicationPad", layer.pad_module("replicate")),
        **_sized("CircularPad", layer.pad_module("circular")),
        nn.Dropout: layer.dropout_module,
        nn.Dropout1d: layer.dropout_module,
        nn.Dropout2d: layer.dropout_module,
        nn.Dropout3d: layer.dropout_module,
        nn.PReLU: layer.prelu_module,
        nn.GLU: lambda b, m, x: value.gated(b, x, m.dim),
        nn.Flatten: value.flatten_module,
        nn.Unflatten: value.unflatten_module,
        nn.MultiheadAttention: attend.multihead,
        nn.TransformerEncoderLayer: attend.encoder_layer,
        nn.TransformerEncoder: attend.encoder,
        nn.Softmax: value.softmax_module,
        nn.LogSoftmax: value.softmax_module,
        nn.Upsample: images.upsample,
        nn.Unfold: images.unfold_module,
        nn.Fold: images.fold_module,
        nn.PixelShuffle: lambda b, m, x: value.pixel_shuffle(b, x, m.upscale_factor),
        nn.PixelUnshuffle: lambda b, m, x: value.pixel_unshuffle(b, x, m.downscale_factor),
    }
    rows |= dict.fromkeys(layer.ACTIVATION_MODULES, layer.activation_module) | {nn.Identity: layer.identity}
    if with_torchvision:
        from torchvision.ops import StochasticDepth

        rows[StochasticDepth] = layer.stochastic_depth
    return rows | _timm_rows() if with_timm else rows


def _sized(name: str, row: Row) -> dict[type[nn.Module], Row]:
    """Return the row by torch's three modules of one name, for 1 to 3 dimensions."""
    return {getattr(nn, f"{name}{dims}d"): row for dims in (1, 2, 3)}


def _timm_rows() -> dict[type[nn.Module], Row]:
    from timm import layers as timm_layers
    from timm.layers.pool2d_same import MaxPool2dSame
    from timm.models.vgg import ConvMlp

    return {
        timm_layers.DropPath: layer.drop_path,
        timm_layers.BatchNormAct2d: batch_norm_act,
        timm_layers.LayerNorm: norm.layer_norm,
        timm_layers.LayerNorm2d: norm.layer_norm_2d,
        timm_layers.GroupNorm: norm.group_norm,
        ConvMlp: vgg_head,
        timm_layers.GELU: _as_module(layer.gelu),
        timm_layers.GELUTanh: _as_module(lambda b, x: layer.gelu(b, x, "tanh")),
        timm_layers.Linear: layer.linear,
        timm_layers.Conv2dSame: layer.same(layer.conv),
        timm_layers.AvgPool2dSame: layer.same(layer.avg_pool_module),
        MaxPool2dSame: layer.same(layer.max_pool_module, -math.inf),
    }


def batch_norm_act(b: Builder, m: Any, x: Val) -> Val:
    """timm's BatchNormAct2d: norm, dropout, activation in one module."""
    x = norm.batch_norm(b, m, x)
    for role in ("drop", "act"):
        x = b.inside(module_row(getattr(m, role)), getattr(m, role), x, role)
    return x


def vgg_head(b: Builder, m: Any, x: Val) -> Val:
    """timm's VGG ConvMlp: its forward branches on the image's size, which the adaptive pool settles at run time."""
    x = b.emit(AdaptivePool, x, suffix=".pool", least=m.input_kernel_size, mode="avg", dims=2)
    for role in ("fc1", "act1", "drop", "fc2", "act2"):
        x = b.inside(module_row(getattr(m, role)), getattr(m, role), x, role)
    return x


def function_row(function: Callable[..., Any]) -> Row | None:
    """Return the row of a function; None where it has none."""
    return FUNCTIONS.get(function) or BY_NAME.get(function_name(function))


def module_row(module: nn.Module) -> Row | None:
    """Return the row of a leaf module: its own class's or, where its forward is inherited, its base's.

    A module of any class that names its function in ``activation_kind`` (a key of ACTIVATIONS) is that activation, and one that
    calls itself a key of SPIKING in ``spiking_kind`` is that.
    """
    if hasattr(module, "activation_kind"):
        return lambda b, m, x: b.emit(Activate, x, name=m.activation_kind, options=())
    if hasattr(module, "spiking_kind"):
        return SPIKING[str(module.spiking_kind)]
    for kind in type(module).__mro__:
        if kind in _modules():
            own = "forward" in vars(module) or any(_method(type(module), m) is not _method(kind, m) for m in _COMPUTE)
            return None if own else _modules()[kind]
    return None


_COMPUTE = ("forward", "_conv_forward")
"""Methods of torch's modules that compute: a subclass with one of its own is not what the row says."""


def _method(kind: type, name: str) -> Any:
    return getattr(kind, name, None)


def leaves() -> tuple[type[nn.Module], ...]:
    """Module classes that the tracer does not look into."""
    return tuple(_modules())


def functions() -> tuple[Callable[..., Any], ...]:
    """Functions that the tracer does not look into, because they need concrete numbers."""
    if "timm.layers" not in sys.modules:
        return (math.prod,)
    from timm.layers import resample_abs_pos_embed

    return (math.prod, resample_abs_pos_embed)
