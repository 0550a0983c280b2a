"""Rows for linear maps called as functions, whose weights are parameters or computed from parameters in forward().

A map whose weight depends on the network's input, or on no parameter, is no layer of weights: a matrix product and a convolution
with a constant kernel have rows of their own, and the others are left to local autograd.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input

from credit.engine.builder import Builder, Row, Val, local_call
from credit.engine.ops.activations import LearnedSlope
from credit.engine.ops.arithmetic import MatMul
from credit.engine.ops.base import Op
from credit.engine.ops.shapes import FixedMap, Permute, Value
from credit.engine.ops.weighted import Conv, ConvTranspose, Embedding, Linear, Weighted
from credit.engine.reach import constants
from credit.engine.rows.layers import convolved, sizes
from credit.engine.rows.values import add, transpose, view


def maker(b: Builder, value: Val) -> Op | None:
    return next((op for op in b.ops if op.out == value.slot), None)


def _names(b: Builder) -> set[str]:
    return {name for name, _ in b.model.named_parameters(remove_duplicate=False)}


def parameter(b: Builder, value: Val) -> str | None:
    """Return the name of the parameter that a value is; None where it is none."""
    op = maker(b, value)
    name = op.args["tensor"] if isinstance(op, Value) else None
    return name if name in _names(b) else None


def sources(b: Builder, value: Val) -> frozenset[str]:
    """Return the parameters that a value is computed from; none where it also depends on the input."""
    return constants(b.ops, _names(b)).get(value.slot, frozenset())


def weighted(b: Builder, kind: type[Weighted], x: Val, weight: Val, bias: Val | None = None, **args: Any) -> Val:
    """Append a weighted op whose weight and bias are named parameters or inputs; its name begins with the weight's module."""
    inputs, params = [x], {}
    operands: dict[str, int] = {}
    for role, value in (("weight", weight), ("bias", bias)):
        if value is None:
            continue
        if (name := parameter(b, value)) is not None:
            params[role] = name
        else:
            operands[role] = len(inputs)
            inputs.append(value)
    owner = os.path.commonprefix([name.split(".")[:-1] for name in sorted(sources(b, weight))])
    outer, b.name = b.name, ".".join([*owner, b.name])
    made = b.emit(kind, *inputs, params=params, operands=operands, **args)
    b.name = outer
    return made


def linear(b: Builder, input: Val, weight: Val, bias: Val | None = None) -> Val:
    if not sources(b, weight):
        return local_call(b, F.linear, (input, weight, bias), {})
    if bias is None and _of_dims(b, weight, 1):
        return _vector(b, input, weight)
    if bias is not None and moving(b, bias):
        return add(b, weighted(b, Linear, input, weight), bias)
    return weighted(b, Linear, input, weight, bias)


def _vector(b: Builder, x: Val, weight: Val) -> Val:
    """``x @ weight`` with a vector of parameters: a linear layer with one output, without its dimension."""
    row: Val = view(torch.unsqueeze)(b, weight, 0)
    made: Val = view(torch.squeeze)(b, weighted(b, Linear, x, row), -1)
    return made


def conv(call: Callable[..., Any], dims: int) -> Row:
    def row(b: Builder, input: Val, weight: Val, bias: Val | None = None, stride: Any = 1, padding: Any = 0,
            dilation: Any = 1, groups: int = 1) -> Val:  # fmt: skip
        if not moving(b, weight) and not sources(b, weight) and not isinstance(padding, str):
            return _filtered(b, call, dims, input, weight, bias, (stride, padding, dilation, groups))
        name = parameter(b, weight)
        if not sources(b, weight) or (padding == "same" and name is None):  # whose kernel's size is not known yet
            return local_call(b, call, (input, weight, bias, stride, padding, dilation, groups), {})
        size = [0] * dims if name is None else list(b.model.get_parameter(name).shape[2:])
        x, args = convolved(b, input, size, stride, padding, dilation, groups)
        return weighted(b, Conv, x, weight, bias, **args)

    return row


def _filtered(b: Builder, call: Callable[..., Any], dims: int, x: Val, kernel: Val, bias: Val | None, rest: Any) -> Val:
    """Append a convolution with a constant kernel (blurring): no layer of weights, so that no feedback weights replace it."""
    adjoint = (conv1d_input, conv2d_input, conv3d_input)[dims - 1]
    made = b.emit(
        FixedMap, x, extra=(kernel, b.shape(getattr, x, "shape")), dims=range(1, dims + 2),
        call=lambda x, kernel, _: call(x, kernel, None, *rest),
        back=lambda signal, kernel, shape: adjoint((len(signal), *shape[1:]), kernel, signal, *rest),
    )  # fmt: skip
    return made if bias is None else add(b, made, view(Tensor.reshape)(b, bias, (-1, *[1] * dims)))


def conv_transpose(call: Callable[..., Any], dims: int) -> Row:
    def row(b: Builder, input: Val, weight: Val, bias: Val | None = None, stride: Any = 1, padding: Any = 0,
            output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Val:  # fmt: skip
        if not sources(b, weight):
            return local_call(b, call, (input, weight, bias, stride, padding, output_padding, groups, dilation), {})
        given = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        args = {name: sizes(value, dims) for name, value in given.items()}
        return weighted(b, ConvTranspose, input, weight, bias, groups=groups, **args)

    return row


def embedding(b: Builder, input: Val, weight: Val, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Val:  # fmt: skip
    name = parameter(b, weight)
    if name is None or max_norm is not None or scale_grad_by_freq:
        return local_call(b, F.embedding, (input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq), {})
    padding = -1 if padding_idx is None else padding_idx % len(b.model.get_parameter(name))
    return b.emit(Embedding, input, params={"weight": name}, padding=padding)


def prelu(b: Builder, input: Val, weight: Val) -> Val:
    name = parameter(b, weight)
    if name is None:
        return local_call(b, F.prelu, (input, weight), {})
    return b.emit(LearnedSlope, input, params={"weight": name}, name="prelu", options=())


def matmul(b: Builder, input: Val, other: Val) -> Val:
    """A product with a matrix that is a parameter is a linear layer, from the right and, transposed, from the left."""
    if moving(b, input) and _of_dims(b, other, 1):
        return _vector(b, input, other)
    if moving(b, input) and (weight := _transposed(b, other)) is not None:
        return weighted(b, Linear, input, weight)
    if moving(b, other) and _of_dims(b, input, 2):
        return transpose(b, weighted(b, Linear, transpose(b, other, -2, -1), input), -2, -1)
    return b.emit(MatMul, input, other)


def addmm(b: Builder, input: Val, mat1: Val, mat2: Val, *, beta: float = 1, alpha: float = 1) -> Val:
    if beta != 1 or alpha != 1:
        return local_call(b, torch.addmm, (input, mat1, mat2), {"beta": beta, "alpha": alpha})
    weight = _transposed(b, mat2) if moving(b, mat1) and _of_dims(b, input, 1) else None
    if weight is not None:
        return weighted(b, Linear, mat1, weight, input)
    return add(b, matmul(b, mat1, mat2), input)


def moving(b: Builder, value: Val) -> bool:
    return value.slot not in constants(b.ops, ())


def _of_dims(b: Builder, value: Val, dims: int) -> bool:
    """Return whether a value is a parameter with ``dims`` dimensions."""
    name = parameter(b, value)
    return name is not None and b.model.get_parameter(name).dim() == dims


def _transposed(b: Builder, value: Val) -> Val | None:
    """Return the transpose of a value that is a matrix of parameters or its transpose; None where it is neither."""
    if _of_dims(b, value, 2):
        return transpose(b, value, 0, 1)
    op = maker(b, value)
    if not isinstance(op, Permute) or op.stops:
        return None
    below = Val(op.inputs[0], True)
    return below if _of_dims(b, below, 2) and op.args["dims"](2) == [1, 0] else None
