"""Row for ``torch.einsum`` of two operands: a batched matrix product, or a layer where one operand is computed from parameters."""

import math
from typing import Any

import torch
from torch import Tensor

from credit.engine.builder import Builder, Val, local_call
from credit.engine.ops.arithmetic import MatMul
from credit.engine.ops.shapes import Permute, View
from credit.engine.rows.functional import linear, moving, sources


def einsum(b: Builder, equation: str, *operands: Any) -> Val:
    """Letters in both operands and the result are batch dimensions, in both alone are summed; the others are the product's sides.

    Other equations (one or three operands, dots, a letter twice in an operand or summed within one) are left to local autograd.
    """
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    terms, arrow, out = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if not arrow or len(given) != 2 or not _plain(letters, out):
        return local_call(b, torch.einsum, (equation, *given), {})
    (one, other), (x, y) = letters, given
    if moving(b, y) and not moving(b, x):
        one, other, x, y = other, one, y, x
    batch = [letter for letter in one if letter in other and letter in out]
    summed = [letter for letter in one if letter in other and letter not in out]
    left, right = [c for c in one if c not in other], [c for c in other if c not in one]
    x, y = _ordered(b, x, one, [*batch, *left, *summed]), _ordered(b, y, other, [*batch, *right, *summed])
    lanes, sides = len(batch), (b.shape(getattr, x, "shape"), b.shape(getattr, y, "shape"))
    x, y = (_merged(b, value, lanes, len(part), len(summed)) for value, part in ((x, left), (y, right)))
    if not batch and sources(b, y):
        made = linear(b, x, y)
    else:
        made = b.emit(MatMul, x, b.emit(Permute, y, dims=lambda n: [*range(n - 2), n - 1, n - 2]))

    def apart(t: Tensor, first: torch.Size, second: torch.Size) -> Tensor:
        return t.reshape(*first[: lanes + len(left)], *second[lanes : lanes + len(right)])

    made = made if len(left) == len(right) == 1 else b.emit(View, made, extra=sides, call=apart)
    return _ordered(b, made, "".join([*batch, *left, *right]), out)


def _plain(letters: list[str], out: str) -> bool:
    """Return whether every letter is once in an operand, and in the other operand or the result."""
    return (
        len(letters) == 2
        and all(term.isalpha() and len(set(term)) == len(term) for term in (*letters, out or "a"))
        and all(letter in out or (letter in letters[0] and letter in letters[1]) for term in letters for letter in term)
    )


def _ordered(b: Builder, x: Val, letters: str, wanted: Any) -> Val:
    """Put the dimensions of a value in the order of the wanted letters."""
    order = [letters.index(letter) for letter in wanted]
    return x if order == sorted(order) else b.emit(Permute, x, dims=lambda n: order)


def _merged(b: Builder, x: Val, lanes: int, side: int, summed: int) -> Val:
    """Make one dimension of those of the side, and one of the summed ones."""
    if side == summed == 1:
        return x

    def laid(t: Tensor) -> Tensor:
        own, rest = t.shape[lanes : lanes + side], t.shape[lanes + side :]
        return t.reshape(*t.shape[:lanes], math.prod(own), math.prod(rest))

    return b.emit(View, x, call=laid)
