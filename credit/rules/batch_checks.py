"""What can be wrong with the batch that a rule is given, in words."""

import torch
from torch import Tensor, nn

from credit.core import outputs
from credit.core.errors import UserError


def check(model: nn.Module, weight: Tensor, x: Tensor, y: Tensor, *, precision: str, output_kind: str) -> None:
    """Refuse a batch that no step could use.

    Args:
        model: the network.
        weight: one of its parameters.
        x, y: the batch (B, ...) and its labels (B,).
        precision, output_kind: the rule's.

    Raises:
        UserError: what was given, and what to write instead.
    """
    if torch.is_autocast_enabled(x.device.type):
        raise UserError(
            "step(x, y) under torch.autocast would compute parts of the step in half precision; leave the region, and make the "
            "rule with precision='bf16' for weighted ops in bfloat16"
        )
    if len(x) == 0:
        raise UserError("step(x, y): the batch is empty; give at least one sample")
    if not x.is_floating_point():
        raise UserError(
            f"step(x, y): x is {x.dtype}; give normalised floating-point inputs, for example x.float() / 255"
        )
    if y.dtype != torch.int64 or y.dim() != 1 or len(y) != len(x):
        raise UserError(
            f"step(x, y): y must hold one int64 label a sample, shape ({len(x)},); got {y.dtype} {tuple(y.shape)}"
        )
    # A third class breaks nothing on the way, so nobody would notice; a GPU is not made to wait for its labels.
    if output_kind == "probability" and y.device.type == "cpu" and not bool(((y == 0) | (y == 1)).all()):
        explain(ValueError(), model, x, y)
    if precision == "float64" and weight.dtype != torch.float64:
        raise UserError(
            f"precision=float64: the model's parameters are {weight.dtype}; convert the model first, model.double()"
        )
    if precision != "bf16" and weight.dtype != x.dtype:
        raise UserError(
            f"step(x, y): x is {x.dtype} but the model's parameters are {weight.dtype}; convert one of them"
        )


BROKEN = (RuntimeError, IndexError, ValueError)
"""What a step raises on a batch whose labels or outputs it cannot take."""


def explain(error: Exception, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Check whether a step broke on its outputs or labels.

    Raises:
        UserError: it did, and ``error`` is not in words yet.
    """
    if isinstance(error, UserError):
        return
    with torch.no_grad():
        out = model(x)
    if why := outputs.problem(model, out, y):
        raise UserError(f"step(x, y): {why}")
