"""The rows: which op a torch module, function or method becomes. To teach the engine a new op, add its row here.

A row is a function whose arguments mirror torch's own, after the builder: it emits ops and returns the result's value.
"""

import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from credit.engine.ops.activations import Activate
from credit.engine.ops.arithmetic import Add, Affine, Cat, MatMul, Mean, Mul, Softmax
from credit.engine.ops.chance import Dropout
from credit.engine.ops.norms import BatchNorm, GroupNorm, LayerNorm
from credit.engine.ops.pools import AdaptivePool, AvgPool, MaxPool
from credit.engine.ops.shapes import Expand, Permute, Select, Split, Stack, View
from credit.engine.ops.weighted import Conv, Linear, Pad
from credit.engine.trace import Builder, Val

Row = Callable[..., Any]


def _params(builder: Builder, module: nn.Module) -> dict[str, str]:
    return {role: f"{builder.name}.{role}" for role, p in module.named_parameters(recurse=False) if p is not None}


def _pair(value: Any, dims: int = 2) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value] * dims


# ---------------------------------------------------------------- weighted


def linear(b: Builder, m: nn.Linear, x: Val) -> Val:
    return b.emit(Linear, x, params=_params(b, m))


def conv(b: Builder, m: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Val) -> Val:
    dims = len(m.kernel_size)
    spans = [dilation * (size - 1) for dilation, size in zip(m.dilation, m.kernel_size, strict=True)]
    if m.padding == "same":
        pads = [(span // 2, span - span // 2) for span in spans]
    elif m.padding == "valid":
        pads = [(0, 0)] * dims
    else:
        pads = [(p, p) for p in m.padding if isinstance(p, int)]
    if m.padding_mode == "zeros" and all(before == after for before, after in pads):
        padding = [before for before, _ in pads]
    else:
        mode = "constant" if m.padding_mode == "zeros" else m.padding_mode
        padding = [0] * dims
        places = [(at + 2, before, after) for at, (before, after) in enumerate(pads) if before or after]
        x = b.emit(Pad, x, suffix=".pad", pads=places, mode=mode, value=0.0)
    return b.emit(
        Conv,
        x,
        params=_params(b, m),
        stride=list(m.stride),
        padding=padding,
        dilation=list(m.dilation),
        groups=m.groups,
    )


def pad(b: Builder, x: Val, pad: Any, mode: str = "constant", value: float | None = None) -> Val:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    # Counted from the last dimension; negative places resolve in the op, which works on 3- and 4-d images alike.
    places = [(-1 - at, before, after) for at, (before, after) in enumerate(pairs)]
    return b.emit(Pad, x, pads=places, mode=mode, value=value or 0.0)


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
    }
    return b.emit(Activate, x, name=name, options=options.get(name, ()))


ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.ReLU6: "relu6", nn.Hardtanh: "hardtanh", nn.Hardsigmoid: "hardsigmoid",
    nn.ELU: "elu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Softplus: "softplus", nn.Identity: "identity",
    nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Hardswish: "hardswish",
}  # fmt: skip


def identity(b: Builder, m: nn.Module, x: Val) -> Val:
    """Identity modules leave no op behind: an ``activation: identity`` is a linear network."""
    return x


# ---------------------------------------------------------------- norms


def batch_norm(b: Builder, m: Any, x: Val) -> Val:
    buffers = {role: f"{b.name}.{role}" for role, value in m.named_buffers(recurse=False) if value is not None}
    return b.emit(BatchNorm, x, params=_params(b, m), eps=m.eps, momentum=m.momentum, buffers=buffers, frozen=False)


def batch_norm_act(b: Builder, m: Any, x: Val) -> Val:
    """timm's BatchNormAct2d: norm, dropout, activation in one module."""
    x = batch_norm(b, m, x)
    return _then(b, _then(b, x, m.drop, "drop"), m.act, "act")


def _then(b: Builder, x: Val, module: nn.Module, role: str) -> Val:
    row, outer = module_row(module), b.name
    if row is None:
        raise AssertionError(f"{type(module).__name__} inside {outer} has no row")
    b.name = f"{outer}.{role}"
    out: Val = row(b, module, x)
    b.name = outer
    return out


def layer_norm(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(LayerNorm, x, params=_params(b, m), shape=list(m.normalized_shape), eps=m.eps, channels=False)


def layer_norm_2d(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(LayerNorm, x, params=_params(b, m), shape=list(m.normalized_shape), eps=m.eps, channels=True)


def group_norm(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(GroupNorm, x, params=_params(b, m), groups=m.num_groups, eps=m.eps)


# ---------------------------------------------------------------- pools


def _max_pool(dims: int) -> Row:
    def row(b: Builder, x: Val, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
            ceil_mode: bool = False, return_indices: bool = False) -> Val:  # fmt: skip
        size = _pair(kernel_size, dims)
        lead, one = [0] * (2 - dims), [1] * (2 - dims)
        return b.emit(
            MaxPool, x, size=one + size, stride=one + (_pair(stride, dims) if stride else size), flat=dims == 1,
            padding=lead + _pair(padding, dims), dilation=one + _pair(dilation, dims), ceil=ceil_mode,
        )  # fmt: skip

    return row


def _avg_pool(dims: int) -> Row:
    def row(b: Builder, x: Val, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
            count_include_pad: bool = True, divisor_override: int | None = None) -> Val:  # fmt: skip
        size = _pair(kernel_size, dims)
        lead, one = [0] * (2 - dims), [1] * (2 - dims)
        return b.emit(
            AvgPool, x, size=one + size, stride=one + (_pair(stride, dims) if stride else size), flat=dims == 1,
            padding=lead + _pair(padding, dims), ceil=ceil_mode, include_pad=count_include_pad, divisor=divisor_override,
        )  # fmt: skip

    return row


def max_pool_module(b: Builder, m: Any, x: Val) -> Val:
    return _max_pool(1 if isinstance(m, nn.MaxPool1d) else 2)(
        b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode
    )


def avg_pool_module(b: Builder, m: Any, x: Val) -> Val:
    flat = isinstance(m, nn.AvgPool1d)
    size, stride, padding = (v[0] if flat and isinstance(v, tuple) else v for v in (m.kernel_size, m.stride, m.padding))
    return _avg_pool(1 if flat else 2)(
        b, x, size, stride, padding, m.ceil_mode, m.count_include_pad, getattr(m, "divisor_override", None)
    )


def _adaptive(mode: str, dims: int) -> Row:
    def row(b: Builder, x: Val, output_size: Any) -> Val:
        size = [1] * (2 - dims) + _pair(output_size, dims)
        return b.emit(AdaptivePool, x, size=size, mode=mode, flat=dims == 1)

    return row


def adaptive_module(b: Builder, m: Any, x: Val) -> Val:
    mode = "max" if isinstance(m, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d) else "avg"
    flat = isinstance(m, nn.AdaptiveAvgPool1d | nn.AdaptiveMaxPool1d)
    return _adaptive(mode, 1 if flat else 2)(b, x, m.output_size)


def vgg_head(b: Builder, m: Any, x: Val) -> Val:
    """timm's VGG ConvMlp: its forward branches on the image's size, which the adaptive pool settles at run time."""
    x = b.emit(AdaptivePool, x, suffix=".pool", least=m.input_kernel_size, mode="avg", flat=False)
    for role in ("fc1", "act1", "drop", "fc2", "act2"):
        x = _then(b, x, getattr(m, role), role)
    return x


# ---------------------------------------------------------------- chance


def _dropout(per: str) -> Row:
    def row(b: Builder, x: Val, p: float = 0.5, training: bool = True, inplace: bool = False) -> Val:
        return b.emit(Dropout, x, p=p, per=per, scale=True) if p > 0.0 and training else x

    return row


def dropout_module(b: Builder, m: Any, x: Val) -> Val:
    per = "element" if type(m) is nn.Dropout else "channel"
    return _dropout(per)(b, x, m.p)


def drop_path(b: Builder, m: Any, x: Val) -> Val:
    p = float(m.drop_prob or 0.0)
    return b.emit(Dropout, x, p=p, per="sample", scale=bool(m.scale_by_keep)) if p > 0.0 else x


# ---------------------------------------------------------------- arithmetic


def add(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Add, x, y, factor=alpha)
    if not tensors:
        return b.shape(operator.add, x, y)
    constant = y if tensors[0] is x else x
    if alpha != 1:
        constant = b.shape(operator.mul, constant, alpha)
    return b.emit(Affine, tensors[0], extra=(None, constant))


def sub(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Add, x, y, factor=-alpha)
    if not tensors:
        return b.shape(operator.sub, x, y)
    if tensors[0] is x:
        return add(b, x, b.shape(operator.mul, y, -alpha))
    return b.emit(Affine, y, extra=(-alpha, x))


def mul(b: Builder, x: Any, y: Any) -> Val:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if len(tensors) == 2:
        return b.emit(Mul, x, y)
    if not tensors:
        return b.shape(operator.mul, x, y)
    return b.emit(Affine, tensors[0], extra=(y if tensors[0] is x else x, None))


def divide(b: Builder, x: Any, y: Any) -> Any:
    tensors = [v for v in (x, y) if isinstance(v, Val) and v.tensor]
    if not tensors:
        return b.shape(operator.truediv, x, y)
    if len(tensors) == 2 or tensors[0] is y:
        _no_row(b, "division by a tensor that carries a signal")
    return b.emit(Affine, x, extra=(b.shape(operator.truediv, 1.0, y), None))


def _no_row(b: Builder, what: str) -> None:
    from credit.errors import UserError

    raise UserError(f"'{b.name}' in {type(b.model).__name__}: {what} has no row in credit/engine/table.py")


def mean(b: Builder, x: Val, dim: Any = None, keepdim: bool = False) -> Val:
    return b.emit(Mean, x, dims=dim, keepdim=keepdim, mode="mean")


def total(b: Builder, x: Val, dim: Any = None, keepdim: bool = False) -> Val:
    return b.emit(Mean, x, dims=dim, keepdim=keepdim, mode="sum")


def cat(b: Builder, tensors: list[Val], dim: int = 0) -> Val:
    return b.emit(Cat, *tensors, dim=dim)


def stack(b: Builder, tensors: list[Val], dim: int = 0) -> Val:
    return b.emit(Stack, *tensors, dim=dim)


def matmul(b: Builder, x: Val, y: Val) -> Val:
    return b.emit(MatMul, x, y)


def softmax(b: Builder, x: Val, dim: int = -1) -> Val:
    return b.emit(Softmax, x, dim=dim)


def softmax_module(b: Builder, m: nn.Softmax, x: Val) -> Val:
    return softmax(b, x, -1 if m.dim is None else m.dim)


# ---------------------------------------------------------------- views


def _view(call: Callable[..., Any]) -> Row:
    return lambda b, x, *rest: b.emit(View, x, extra=rest, call=call)


def flatten(b: Builder, x: Val, start_dim: int = 0, end_dim: int = -1) -> Val:
    return b.emit(View, x, call=lambda t: t.flatten(start_dim, end_dim))


def flatten_module(b: Builder, m: nn.Flatten, x: Val) -> Val:
    return flatten(b, x, m.start_dim, m.end_dim)


def unflatten_module(b: Builder, m: nn.Unflatten, x: Val) -> Val:
    return b.emit(View, x, call=lambda t: t.unflatten(m.dim, m.unflattened_size))


def permute(b: Builder, x: Val, *dims: Any) -> Val:
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return b.emit(Permute, x, dims=lambda n: [dim % n for dim in order])


def permute_module(b: Builder, m: Any, x: Val) -> Val:
    return permute(b, x, m.dims)


def transpose(b: Builder, x: Val, dim0: int, dim1: int) -> Val:
    def order(n: int) -> list[int]:
        dims = list(range(n))
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
        return dims

    return b.emit(Permute, x, dims=order)


def select(b: Builder, x: Any, index: Any) -> Any:
    if not (isinstance(x, Val) and x.tensor):
        return x[index] if isinstance(x, tuple | list) else b.shape(operator.getitem, x, index)
    return b.emit(Select, x, extra=(index,))


def expand(b: Builder, x: Val, *sizes: Any) -> Val:
    return b.emit(Expand, x, extra=sizes)


class Pieces:
    """What chunk, split and unbind return: each piece becomes an op when it is asked for."""

    def __init__(self, b: Builder, x: Val, call: Callable[..., Any], rest: tuple[Any, ...]) -> None:
        self.b, self.x, self.call, self.rest = b, x, call, rest

    def __getitem__(self, piece: int) -> Val:
        return self.b.emit(Split, self.x, extra=self.rest, call=self.call, piece=piece)


def chunk(b: Builder, x: Val, chunks: int, dim: int = 0) -> Pieces:
    return Pieces(b, x, lambda t: t.chunk(chunks, dim), ())


def split(b: Builder, x: Val, split_size: Any, dim: int = 0) -> Pieces:
    return Pieces(b, x, lambda t, size: t.split(size, dim), (split_size,))


def unbind(b: Builder, x: Val, dim: int = 0) -> Pieces:
    return Pieces(b, x, lambda t: t.unbind(dim), ())


def get_item(b: Builder, x: Any, index: Any) -> Any:
    return x[index] if isinstance(x, Pieces) else select(b, x, index)


def get_attribute(b: Builder, x: Any, name: str) -> Any:
    if name in ("shape", "ndim", "dtype", "device"):
        return b.shape(getattr, x, name)
    if name in ("mT", "T"):
        return transpose(b, x, -2, -1)
    _no_row(b, f"tensor attribute '{name}'")


def _of_shape(call: Callable[..., Any]) -> Row:
    return lambda b, *args, **kwargs: b.shape(call, *args, **kwargs)


def unchanged(b: Builder, x: Val, *_: Any, **__: Any) -> Val:
    return x


# ---------------------------------------------------------------- the rows


def _leaky(b: Builder, x: Val, negative_slope: float = 0.01, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="leaky_relu", options=(negative_slope,))


def _gelu(b: Builder, x: Val, approximate: str = "none") -> Val:
    return b.emit(Activate, x, name="gelu", options=(approximate,))


def _elu(b: Builder, x: Val, alpha: float = 1.0, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="elu", options=(alpha,))


def _hardtanh(b: Builder, x: Val, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Val:
    return b.emit(Activate, x, name="hardtanh", options=(min_val, max_val))


def _softplus(b: Builder, x: Val, beta: float = 1.0, threshold: float = 20.0) -> Val:
    return b.emit(Activate, x, name="softplus", options=(beta, threshold))


def _plain(name: str) -> Row:
    return lambda b, x, inplace=False: b.emit(Activate, x, name=name, options=())


def _step(b: Builder, x: Val, values: Any = None) -> Val:
    return b.emit(Activate, x, name="step", options=())


def attention(b: Builder, q: Val, k: Val, v: Val, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
              scale: float | None = None) -> Any:  # fmt: skip
    """Scaled-dot-product attention has no row of its own: it takes the road of local autograd, on request."""
    from credit.engine.trace import local_call

    if dropout_p:
        _no_row(b, "attention with dropout inside (its mask cannot be drawn twice; set attn_drop=0)")
    kwargs = {"attn_mask": attn_mask, "is_causal": is_causal, "scale": scale}
    return local_call(b, F.scaled_dot_product_attention, (q, k, v), kwargs)


FUNCTIONS: dict[Any, Row] = {
    operator.add: add, operator.iadd: add, torch.add: add, operator.sub: sub, operator.isub: sub, torch.sub: sub,
    operator.mul: mul, operator.imul: mul, torch.mul: mul, operator.truediv: divide, torch.div: divide,
    operator.matmul: matmul, torch.matmul: matmul, torch.bmm: matmul,
    operator.getitem: get_item, getattr: get_attribute,
    torch.cat: cat, torch.concat: cat, torch.stack: stack, torch.mean: mean, torch.sum: total,
    torch.flatten: flatten, torch.permute: permute, torch.transpose: transpose, torch.chunk: chunk, torch.split: split,
    torch.unbind: unbind, torch.reshape: _view(torch.reshape), torch.squeeze: _view(torch.squeeze),
    torch.unsqueeze: _view(torch.unsqueeze), torch._assert: _of_shape(lambda ok, message: None),
    F.relu: _plain("relu"), torch.relu: _plain("relu"), F.relu6: _plain("relu6"), F.silu: _plain("silu"),
    F.mish: _plain("mish"), F.hardswish: _plain("hardswish"), F.hardsigmoid: _plain("hardsigmoid"),
    F.sigmoid: _plain("sigmoid"), torch.sigmoid: _plain("sigmoid"), F.tanh: _plain("tanh"), torch.tanh: _plain("tanh"),
    F.leaky_relu: _leaky, F.gelu: _gelu, F.elu: _elu, F.hardtanh: _hardtanh, F.softplus: _softplus,
    torch.sign: _plain("sign"), torch.heaviside: _step,
    F.softmax: lambda b, x, dim=-1, **_: softmax(b, x, dim), torch.softmax: softmax,
    F.dropout: _dropout("element"), F.dropout2d: _dropout("channel"),
    F.max_pool2d: _max_pool(2), F.max_pool1d: _max_pool(1), torch.max_pool2d: _max_pool(2),
    F.avg_pool2d: _avg_pool(2), F.avg_pool1d: _avg_pool(1),
    F.adaptive_avg_pool2d: _adaptive("avg", 2), F.adaptive_avg_pool1d: _adaptive("avg", 1),
    F.adaptive_max_pool2d: _adaptive("max", 2), F.adaptive_max_pool1d: _adaptive("max", 1),
    F.pad: pad, F.scaled_dot_product_attention: attention,
}  # fmt: skip

METHODS: dict[str, Row] = {
    "add": add, "add_": add, "sub": sub, "mul": mul, "mul_": mul, "div": divide, "matmul": matmul, "bmm": matmul,
    "mean": mean, "sum": total, "relu": _plain("relu"), "relu_": _plain("relu"), "sigmoid": _plain("sigmoid"),
    "sigmoid_": _plain("sigmoid"), "tanh": _plain("tanh"), "sign": _plain("sign"), "softmax": softmax,
    "flatten": flatten, "permute": permute, "transpose": transpose, "chunk": chunk, "split": split, "unbind": unbind,
    "view": _view(lambda x, *shape: x.reshape(*shape)), "reshape": _view(lambda x, *shape: x.reshape(*shape)),
    "squeeze": _view(lambda x, *dim: x.squeeze(*dim)), "unsqueeze": _view(lambda x, dim: x.unsqueeze(dim)),
    "unflatten": _view(lambda x, dim, sizes: x.unflatten(dim, sizes)),
    "contiguous": _view(lambda x: x.contiguous()), "clone": unchanged, "expand": expand,
    "size": _of_shape(lambda x, *dim: x.size(*dim)), "dim": _of_shape(lambda x: x.dim()), "numel": _of_shape(lambda x: x.numel()),
}  # fmt: skip


def _as_module(row: Row) -> Row:
    return lambda b, m, x: row(b, x)


@cache
def _modules() -> dict[type[nn.Module], Row]:
    from timm import layers as timm_layers
    from timm.models.vgg import ConvMlp

    rows: dict[type[nn.Module], Row] = {
        nn.Linear: linear, nn.Conv1d: conv, nn.Conv2d: conv, nn.Conv3d: conv,
        nn.BatchNorm1d: batch_norm, nn.BatchNorm2d: batch_norm, nn.BatchNorm3d: batch_norm,
        nn.LayerNorm: layer_norm, nn.GroupNorm: group_norm,
        nn.MaxPool1d: max_pool_module, nn.MaxPool2d: max_pool_module,
        nn.AvgPool1d: avg_pool_module, nn.AvgPool2d: avg_pool_module,
        nn.AdaptiveAvgPool1d: adaptive_module, nn.AdaptiveAvgPool2d: adaptive_module,
        nn.AdaptiveMaxPool1d: adaptive_module, nn.AdaptiveMaxPool2d: adaptive_module,
        nn.Dropout: dropout_module, nn.Dropout1d: dropout_module, nn.Dropout2d: dropout_module,
        nn.Flatten: flatten_module, nn.Unflatten: unflatten_module, nn.Softmax: softmax_module,
        timm_layers.DropPath: drop_path, timm_layers.BatchNormAct2d: batch_norm_act,
        timm_layers.LayerNorm: layer_norm, timm_layers.LayerNorm2d: layer_norm_2d, timm_layers.GroupNorm: group_norm,
        ConvMlp: vgg_head,
        timm_layers.GELU: _as_module(_gelu), timm_layers.GELUTanh: _as_module(lambda b, x: _gelu(b, x, "tanh")),
    }  # fmt: skip
    return rows | dict.fromkeys(ACTIVATION_MODULES, activation_module) | {nn.Identity: identity}


def module_row(module: nn.Module) -> Row | None:
    """Return the row of a leaf module: its own class's or, where its forward is inherited, its base's.

    A module of any class that names its function in ``activation_kind`` (a key of ACTIVATIONS) is that activation.
    """
    if hasattr(module, "activation_kind"):
        return lambda b, m, x: b.emit(Activate, x, name=m.activation_kind, options=())
    for kind in type(module).__mro__:
        if kind in _modules():
            return _modules()[kind] if type(module).forward is kind.forward else None
    return None


def leaves() -> tuple[type[nn.Module], ...]:
    """Module classes that the tracer does not look into."""
    return tuple(_modules())


def functions() -> tuple[Callable[..., Any], ...]:
    """Functions that the tracer does not look into, because they need concrete numbers."""
    return (math.prod,)
