"""Checks of the batch that a rule is given."""

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.plan import Plan
from credit.tasks.base import Task


def check(plan: Plan, weight: Tensor, x: Tensor, y: Tensor, *, precision: str, task: Task) -> None:
    """Refuse a batch that no step could use.

    Args:
        plan: of the network.
        weight: one of its parameters.
        x, y: the batch (B, ...) and its targets.
        precision, task: the rule's.

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
    if wanted := task.wanted(x, y):
        raise UserError(f"step(x, y): y must hold {wanted}; got {y.dtype} {tuple(y.shape)}")
    # A third class breaks nothing on the way, so nobody would notice; a GPU is not made to wait for its labels.
    if task.method == "of_probability" and y.device.type == "cpu" and not bool(((y == 0) | (y == 1)).all()):
        explain(ValueError(), plan.model, x, y, task)
    if precision == "float64" and weight.dtype != torch.float64:
        raise UserError(
            f"precision=float64: the model's parameters are {weight.dtype}; convert the model first, model.double()"
        )
    check_size(plan, x)
    if plan.takes_tokens:
        _check_tokens(plan, x)
    else:
        _check_numbers(weight, x, precision)


def check_size(plan: Plan, x: Tensor) -> None:
    """Refuse a batch x (B, ...) whose samples have another size than those that a plan was traced for."""
    if plan.sized and plan.sample is not None and x.shape[1:] != plan.sample.shape:
        raise UserError(
            f"step(x, y): forward() of {type(plan.model).__name__} branches on the size of its input, so that its plan, made "
            f"from an example, is for samples of {tuple(plan.sample.shape)}; x has samples of {tuple(x.shape[1:])}: give inputs of "
            "one size, or make another rule with an example of this size"
        )


def _check_numbers(weight: Tensor, x: Tensor, precision: str) -> None:
    if not x.is_floating_point():
        raise UserError(
            f"step(x, y): x is {x.dtype}; give normalised floating-point inputs, for example x.float() / 255"
        )
    if precision != "bf16" and weight.dtype != x.dtype:
        raise UserError(
            f"step(x, y): x is {x.dtype} but the model's parameters are {weight.dtype}; convert one of them"
        )


def _check_tokens(plan: Plan, x: Tensor) -> None:
    name = type(plan.model).__name__
    if x.dtype not in (torch.int64, torch.int32):
        raise UserError(
            f"step(x, y): x is {x.dtype}, but {name} looks its input up in an embedding; give tokens of torch.int64, x.long()"
        )
    if plan.to_input:
        raise UserError(
            f"the error signal is to go on to the input of {name} (adversarial inputs, input_robustness), but its input is tokens, "
            "which an embedding looks up: no signal reaches them and they cannot be moved. Leave that option out"
        )


BROKEN = (RuntimeError, IndexError, ValueError)
"""What a step raises on a batch whose labels or outputs it cannot take."""


def explain(error: Exception, model: nn.Module, x: Tensor, y: Tensor, task: Task) -> None:
    """Check whether a step broke on its outputs or labels.

    Raises:
        UserError: the outputs or labels are invalid, and ``error`` is no UserError itself.
    """
    if isinstance(error, UserError):
        return
    with torch.no_grad():
        out = model(x)
    if why := task.problem(model, out, y):
        raise UserError(f"step(x, y): {why}")
