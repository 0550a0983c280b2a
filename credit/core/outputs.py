"""Kinds of a network's output: logits of classes, or the probability of class 1.

A network with one output column (B, 1), the probability of class 1, sets ``output_kind = "probability"`` in its class.
Without that attribute an output (B, C) is the logits of C classes.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError, nearest

Kind = Literal["logits", "probability"]
KINDS: tuple[Kind, ...] = ("logits", "probability")


def kind(model: nn.Module) -> Kind:
    """Return the kind of the network's output: ``logits`` or ``probability``.

    Raises:
        UserError: ``output_kind`` is another word.
    """
    word = getattr(model, "output_kind", "logits")
    for known in KINDS:
        if word == known:
            return known
    raise UserError(f"{type(model).__name__}.output_kind={word!r}: what is its output? {nearest(word, KINDS)}")


def answers(out: Tensor) -> Tensor:
    """Return the class that a network answers for each sample, int64 (..., B).

    Args:
        out: logits (..., B, C), of which the largest wins (the first of equal ones); or probabilities (..., B, 1), where
            class 1 wins above a half.
    """
    return out.argmax(-1) if out.shape[-1] > 1 else (out[..., 0] > 0.5).long()


def evaluation_loss(out: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    """Return what an evaluation reports as loss: cross-entropy of logits, squared error (p - y)^2 of a probability.

    Squared error, because the cross-entropy of a step's outputs, 0 and 1, is infinite.

    Args:
        out: logits (B, C) or probabilities (B, 1).
        y: labels (B,), int64.
        reduction: ``mean``, ``sum`` or ``none``.
    """
    if out.shape[1] > 1:
        return F.cross_entropy(out, y, reduction=reduction)
    return F.mse_loss(out[:, 0], y.to(out.dtype), reduction=reduction)


def problem(model: nn.Module, out: Tensor, y: Tensor) -> str | None:
    """Return why outputs and labels do not belong together; None where they do.

    Args:
        model: the network that gave `out`.
        out: its output on a batch.
        y: the batch's labels, int64.
    """
    name, shape = type(model).__name__, tuple(out.shape)
    low, high = int(y.min()), int(y.max())
    if kind(model) == "probability":
        if out.dim() != 2 or out.shape[1] != 1:
            return f"{name} says output_kind='probability' but returns {shape}; a probability is one column, (B, 1)"
        if low < 0 or high > 1:
            wrong = low if low < 0 else high
            return f"label {wrong}: {name} gives the probability of class 1, so labels are 0 and 1"
        return None
    if out.dim() != 2:
        return f"the model returns {shape}; rules need logits (B, classes)"
    if low < 0 or high >= out.shape[1]:
        wrong = low if low < 0 else high
        told = f"label {wrong} is outside [0, {out.shape[1]}), the classes of the model's logits"
        one = "; a network whose one output is a probability says so in its class, output_kind = 'probability'"
        return told + (one if out.shape[1] == 1 else "")
    return None
