"""Rows for layers: weights, activations, pools, dropout. A row's arguments mirror torch's, after the builder."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from credit.core.errors import UserError
from credit.engine.builder import Builder, Row, Val
from credit.engine.ops.activations import Activate, LearnedSlope
from credit.engine.ops.chance import Dropout
from credit.engine.ops.pools import AdaptivePool, AvgPool, MaxPool, PowerPool
from credit.engine.ops.weighted import Conv, ConvTranspose, Embedding, Linear, Pad


def named_params(builder: Builder, module: nn.Module) -> dict[str, str]:
    params = {role: f"{builder.name}.{role}" for role, _ in module.named_parameters(recurse=False)}
    if unknown := set(params) - {"weight", "bias"}:
        raise UserError(
            f"'{builder.name}' ({type(module).__name__}) in {type(builder.model).__name__} has parameters that its forward() does "
            f"not read ({', '.join(sorted(unknown))}): compute weights from others by torch.nn.utils.parametrize"
        )
    return params


def _no_indices(builder: Builder, wanted: bool) -> None:
    if wanted:
        raise UserError(
            f"'{builder.name}' in {type(builder.model).__name__}: max pooling with return_indices=True has no row in "
            "credit/engine/rows/table.py; write return_indices=False there"
        )


def sizes(value: Any, dims: int = 2) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value] * dims


# ---------------------------------------------------------------- weighted


def linear(b: Builder, m: nn.Linear, x: Val) -> Val:
    return b.emit(Linear, x, params=named_params(b, m))


def conv(b: Builder, m: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Val) -> Val:
    x, args = convolved(b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.groups, m.padding_mode)
    return b.emit(Conv, x, params=named_params(b, m), **args)


def conv_transpose(b: Builder, m: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d, x: Val,
                   output_size: Any = None) -> Any:  # fmt: skip
    if output_size is not None:
        return NotImplemented
    args: dict[str, Any] = {
        name: list(getattr(m, name)) for name in ("stride", "padding", "output_padding", "dilation")
    }
    return b.emit(ConvTranspose, x, params=named_params(b, m), groups=m.groups, **args)


def embedding(b: Builder, m: nn.Embedding, x: Val) -> Any:
    if m.max_norm is not None or m.scale_grad_by_freq:
        return NotImplemented
    padding = -1 if m.padding_idx is None else m.padding_idx
    return b.emit(Embedding, x, params=named_params(b, m), padding=padding)


def convolved(b: Builder, x: Val, kernel_size: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: int,
              mode: str = "zeros") -> tuple[Val, dict[str, Any]]:  # fmt: skip
    """Return what a convolution is applied to, padded by an op of its own where need be, and the convolution's arguments."""
    dims = len(kernel_size)
    dilation = sizes(dilation, dims)
    spans = [apart * (size - 1) for apart, size in zip(dilation, kernel_size, strict=True)]
    if padding == "same":
        pads = [(span // 2, span - span // 2) for span in spans]
    elif padding == "valid":
        pads = [(0, 0)] * dims
    else:
        pads = [(p, p) for p in sizes(padding, dims)]
    if mode == "zeros" and all(before == after for before, after in pads):
        padding = [before for before, _ in pads]
    else:
        kind = "constant" if mode == "zeros" else mode
        padding = [0] * dims
        places = [(at + 2, before, after) for at, (before, after) in enumerate(pads) if before or after]
        x = b.emit(Pad, x, suffix=".pad", extra=tuple(places), mode=kind, value=0.0)
    return x, {"stride": sizes(stride, dims), "padding": padding, "dilation": dilation, "groups": groups}


def padded_same(b: Builder, m: Any, x: Val, value: float = 0.0) -> Val:
    """TensorFlow's padding of images for a module with a kernel and a stride: as many windows as strides begin in the image."""
    kernel, stride = sizes(m.kernel_size), sizes(m.stride)
    dilation = sizes(getattr(m, "dilation", 1))
    places = []
    for at in range(2):

        def widths(image: Any, at: int = at) -> tuple[int, int]:
            size, step = image.shape[at - 2], stride[at]
            total = max((math.ceil(size / step) - 1) * step + (kernel[at] - 1) * dilation[at] + 1 - size, 0)
            return total // 2, total - total // 2

        both = b.shape(widths, x)
        places.append((at - 2, b.shape(operator.getitem, both, 0), b.shape(operator.getitem, both, 1)))
    return b.emit(Pad, x, suffix=".pad", extra=tuple(places), mode="constant", value=value)


def same(row: Row, value: float = 0.0) -> Row:
    """Return the row of one of timm's modules with TensorFlow's padding, such as Conv2dSame, from that of its base."""
    return lambda b, m, x: row(b, m, padded_same(b, m, x, value))


def pad(b: Builder, x: Val, pad: Any, mode: str = "constant", value: float | None = None) -> Val:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    # Counted from the last dimension; negative places resolve in the op, which works on 3- and 4-d images alike.
    places = tuple((-1 - at, before, after) for at, (before, after) in enumerate(pairs))
    return b.emit(Pad, x, extra=places, mode=mode, value=value or 0.0)


def pad_module(mode: str) -> Row:
    """Return the row of nn.ZeroPad2d and its like."""
    return lambda b, m, x: pad(b, x, m.padding, mode, getattr(m, "value", 0.0))


# ---------------------------------------------------------------- activations


def _activation(name: str, *options: Any) -> Callable[[Builder, Val], Val]:
    return lambda b, x: b.emit(Activate, x, name=name, options=options)


def activation_module(b: Builder, m: nn.Module, x: Val) -> Val:
    name = ACTIVATION_MODULES[next(kind for kind in type(m).__mro__ if kind in ACTIVATION_MODULES)]
    options: dict[str, tuple[Any, ...]] = {
        "leaky_relu": (getattr(m, "negative_slope", 0.01),),
        "elu": (getattr(m, "alpha", 1.0),),
        "hardtanh": (getattr(m, "min_val", -1.0), getattr(m, "max_val", 1.0)),
        "softplus": (getattr(m, "beta", 1.0), getattr(m, "threshold", 20.0)),
        "gelu": (getattr(m, "approximate", "none"),),
        "celu": (getattr(m, "alpha", 1.0),),
    }
    return b.emit(Activate, x, name=name, options=options.get(name, ()))


ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.ReLU6: "relu6", nn.Hardtanh: "hardtanh", nn.Hardsigmoid: "hardsigmoid",
    nn.ELU: "elu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Softplus: "softplus", nn.Identity: "identity",
    nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Hardswish: "hardswish",
    nn.SELU: "selu", nn.CELU: "celu",
}  # fmt: skip


def prelu_module(b: Builder, m: nn.PReLU, x: Val) -> Val:
    return b.emit(LearnedSlope, x, params=named_params(b, m), name="prelu", options=())


def identity(b: Builder, m: nn.Module, x: Val) -> Val:
    """nn.Identity stands where a layer was left out and leaves no op behind; as an activation see credit.models.activations."""
    return x


# ---------------------------------------------------------------- pools


def max_pool(dims: int) -> Row:
    def row(b: Builder, x: Val, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
            ceil_mode: bool = False, return_indices: bool = False) -> Val:  # fmt: skip
        _no_indices(b, return_indices)
        size = sizes(kernel_size, dims)
        lead, one = [0] * (2 - dims), [1] * (2 - dims)
        return b.emit(
            MaxPool, x, size=one + size, stride=one + (sizes(stride, dims) if stride else size), dims=dims,
            padding=lead + sizes(padding, dims), dilation=one + sizes(dilation, dims), ceil=ceil_mode,
        )  # fmt: skip

    return row


def avg_pool(dims: int) -> Row:
    def row(b: Builder, x: Val, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
            count_include_pad: bool = True, divisor_override: int | None = None) -> Val:  # fmt: skip
        size = sizes(kernel_size, dims)
        lead, one = [0] * (2 - dims), [1] * (2 - dims)
        return b.emit(
            AvgPool, x, size=one + size, stride=one + (sizes(stride, dims) if stride else size), dims=dims,
            padding=lead + sizes(padding, dims), ceil=ceil_mode, include_pad=count_include_pad, divisor=divisor_override,
        )  # fmt: skip

    return row


def max_pool_module(b: Builder, m: Any, x: Val) -> Val:
    return max_pool(_dims(m))(b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


def _dims(m: nn.Module) -> int:
    """Return the number of dimensions of a pool's images, by which torch's class is called."""
    named = next(kind.__name__ for kind in type(m).__mro__ if kind.__module__ == nn.MaxPool2d.__module__)
    return int(named[-2])


def avg_pool_module(b: Builder, m: Any, x: Val) -> Val:
    dims = _dims(m)
    size, stride, padding = (
        v[0] if dims == 1 and isinstance(v, tuple) else v for v in (m.kernel_size, m.stride, m.padding)
    )
    return avg_pool(dims)(
        b, x, size, stride, padding, m.ceil_mode, m.count_include_pad, getattr(m, "divisor_override", None)
    )


def power_pool(dims: int) -> Row:
    def row(b: Builder, x: Val, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Val:
        size = sizes(kernel_size, dims)
        one = [1] * (2 - dims)
        return b.emit(
            PowerPool, x, power=norm_type, size=one + size, stride=one + (sizes(stride, dims) if stride else size),
            ceil=ceil_mode, dims=dims,
        )  # fmt: skip

    return row


def power_pool_module(b: Builder, m: Any, x: Val) -> Val:
    return power_pool(_dims(m))(b, x, m.norm_type, m.kernel_size, m.stride, m.ceil_mode)


def adaptive_pool(mode: str, dims: int) -> Row:
    def row(b: Builder, x: Val, output_size: Any, return_indices: bool = False) -> Val:
        _no_indices(b, return_indices)
        size = [1] * (2 - dims) + sizes(output_size, dims)
        return b.emit(AdaptivePool, x, size=size, mode=mode, dims=dims)

    return row


def adaptive_module(b: Builder, m: Any, x: Val) -> Val:
    mode = "max" if isinstance(m, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d | nn.AdaptiveMaxPool3d) else "avg"
    return adaptive_pool(mode, _dims(m))(b, x, m.output_size, getattr(m, "return_indices", False))


# ---------------------------------------------------------------- chance


def dropout(per: str) -> Row:
    def row(b: Builder, x: Val, p: float = 0.5, training: bool = True, inplace: bool = False) -> Val:
        return b.emit(Dropout, x, p=p, per=per, scale=True) if p > 0.0 and training else x

    return row


def dropout_module(b: Builder, m: Any, x: Val) -> Val:
    per = "element" if type(m) is nn.Dropout else "channel"
    return dropout(per)(b, x, m.p, training=not b.frozen(m))


def drop_path(b: Builder, m: Any, x: Val) -> Val:
    p = 0.0 if b.frozen(m) else float(m.drop_prob or 0.0)
    return b.emit(Dropout, x, p=p, per="sample", scale=bool(m.scale_by_keep)) if p > 0.0 else x


def stochastic_depth(b: Builder, m: Any, x: Val) -> Val:
    """torchvision's StochasticDepth."""
    per = "sample" if m.mode == "row" else "batch"
    return b.emit(Dropout, x, p=m.p, per=per, scale=True) if m.p > 0.0 and not b.frozen(m) else x


def leaky_relu(b: Builder, x: Val, negative_slope: float = 0.01, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="leaky_relu", options=(negative_slope,))


def gelu(b: Builder, x: Val, approximate: str = "none") -> Val:
    return b.emit(Activate, x, name="gelu", options=(approximate,))


def elu(b: Builder, x: Val, alpha: float = 1.0, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="elu", options=(alpha,))


def celu(b: Builder, x: Val, alpha: float = 1.0, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="celu", options=(alpha,))


def hardtanh(b: Builder, x: Val, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="hardtanh", options=(min_val, max_val))


def softplus(b: Builder, x: Val, beta: float = 1.0, threshold: float = 20.0) -> Val:
    return b.emit(Activate, x, name="softplus", options=(beta, threshold))


def plain(name: str) -> Row:
    return lambda b, x, inplace=False: b.emit(Activate, x, name=name, options=())


def step(b: Builder, x: Val, values: Any = None) -> Val:
    return b.emit(Activate, x, name="step", options=())
