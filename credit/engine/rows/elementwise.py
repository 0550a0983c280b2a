"""Rows for elementwise functions that are no activations, and for changes of a tensor's type."""

import operator
from collections.abc import Callable
from typing import Any

import torch

from credit.engine.builder import Builder, Row, Val, local_call
from credit.engine.ops.elementwise import Choice, Elementwise
from credit.engine.ops.shapes import Cast, Shape
from credit.engine.rows.values import divide, length, mul

PLAIN = ("cos", "exp", "log", "log1p", "reciprocal", "rsqrt", "sin", "sqrt")
"""Functions without options that torch has under the same name as a method."""


COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


def moves(value: Any) -> bool:
    """Return whether a row's argument is a tensor of the network rather than a number or a value computed from shapes."""
    return isinstance(value, Val) and value.tensor


def pointwise(name: str, call: Callable[..., Any] | None = None) -> Row:
    """Return the row of a function of `credit.engine.ops.elementwise`; ``call`` is the same for numbers."""

    def row(b: Builder, x: Any) -> Val:
        return b.emit(Elementwise, x, name=name) if moves(x) else b.shape(call or getattr(torch, name), x)

    return row


def negative(b: Builder, x: Any) -> Val:
    return mul(b, x, -1)


def power(b: Builder, x: Any, exponent: Any) -> Val:
    if not moves(x) and not moves(exponent):
        return b.shape(operator.pow, x, exponent)
    if not moves(x) or moves(exponent):  # a power that is learned, as in GeM pooling
        return local_call(b, operator.pow, (x, exponent), {})
    return b.emit(Elementwise, x, extra=(exponent,), name="pow")


def square(b: Builder, x: Any) -> Val:
    return power(b, x, 2)


def clamp(b: Builder, x: Val, min: Any = None, max: Any = None) -> Val:
    if moves(min) or moves(max):
        return local_call(b, torch.clamp, (x, min, max), {})
    return b.emit(Elementwise, x, extra=(min, max), name="clamp")


def clamp_min(b: Builder, x: Val, min: Any) -> Val:
    return clamp(b, x, min)


def clamp_max(b: Builder, x: Val, max: Any) -> Val:
    return clamp(b, x, None, max)


def masked_fill(b: Builder, x: Val, mask: Val, value: Any) -> Val:
    if moves(value):
        return local_call(b, torch.masked_fill, (x, mask, value), {})
    return b.emit(Elementwise, x, extra=(mask, value), name="masked_fill")


def extreme(by: str) -> Row:
    def row(b: Builder, x: Any, other: Any) -> Val:
        first, second = (x, other) if moves(x) else (other, x)
        if moves(second):
            return b.emit(Choice, first, second, by=by)
        if moves(first):
            return b.emit(Choice, first, extra=(second,), by=by)
        return b.shape(getattr(torch, by), x, other)

    return row


def where(b: Builder, condition: Val, x: Any, other: Any) -> Val:
    if moves(x) and moves(other):
        return b.emit(Choice, x, other, extra=(condition,), by="where")
    if moves(x):
        return b.emit(Choice, x, extra=(other, condition), by="where")
    if moves(other):
        return b.emit(Choice, other, extra=(x, compared(torch.logical_not)(b, condition)), by="where")
    return b.shape(torch.where, condition, x, other)


def compared(call: Callable[..., Any]) -> Row:
    """Return the row of a comparison or a cast to whole numbers: no error signal, although the result depends on values."""
    return lambda b, *values: b.emit(Shape, extra=values, call=call, of_values=True)


def cast(call: Callable[..., Any]) -> Row:
    """Return the row of a method that changes a tensor's type or place."""

    def row(b: Builder, x: Val, *rest: Any, **named: Any) -> Val:
        if not x.tensor:
            return b.shape(call, x, *rest, **named)
        return b.emit(Cast, x, extra=(rest, named), call=lambda t, rest, named: call(t, *rest, **named))

    return row


def normalize(b: Builder, x: Val, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    return divide(b, x, clamp_min(b, length(b, x, p, dim, keepdim=True), eps))
