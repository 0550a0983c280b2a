"""Properties of a network for diagnostics and evaluations: its layers in order, its loss and accuracy, its dtype."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data, evaluation
from credit.engine.plan import Plan
from credit.rules.base import Rule
from credit.tasks.base import Task, fitting
from credit.tasks.classification import Classification


def in_order(plan: Plan) -> list[str]:
    """Return the names of the trainable parameters, in the order of their first use in the forward pass."""
    return plan.weights.sources(name for op in plan.ops for name in op.trains)


def layers(plan: Plan) -> dict[str, list[str]]:
    """Return the names of the trainable parameters by layer, in the order of `in_order`: ``{"fc1": ["fc1.weight", "fc1.bias"]}``.

    A layer is the module that owns the parameters, or whose weight is computed from them. A parameter that the network itself
    owns is a layer by itself.
    """
    grouped: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for op in plan.ops for name in op.trains):
        layer = grouped.setdefault(name.rpartition(".")[0] or name, [])
        layer += [one for one in plan.weights.sources([name]) if one not in layer]
    return grouped


def refuse_settled(name: str, rule: Rule, why: str) -> None:
    """Refuse a diagnostic of the forward pass for a rule whose predictions are not a forward pass (`Rule.predictor`).

    Args:
        name: name of the diagnostic.
        rule: the run's rule.
        why: the reason for the error message, as a clause.

    Raises:
        UserError: the rule has a predictor of its own.
    """
    if type(rule).predictor is not Rule.predictor:
        raise UserError(
            f"trainer.measure=[{name}]: rule '{rule.name}' is evaluated where its states settle, not by a forward pass, and {why}. "
            "Leave the diagnostic out, or measure it of a rule that answers by its forward pass, such as rule=dp_adjoint"
        )


def accuracy(model: nn.Module, data: Data, split: str, batch_size: int) -> float:
    """Return a network's top-1 accuracy on a part of a data set, in [0, 1].

    Args:
        model: the network; left in train mode, its buffers unchanged.
        data: the data set, on the network's device.
        split: ``train``, ``val`` or ``test``; the part must have at least one example.
        batch_size: number of examples in a forward pass.
    """
    model.eval()
    with torch.inference_mode():
        measures, _, _ = measured(model, evaluation(data, split, batch_size), fitting(data.task, model))
    model.train()
    return measures["top1"]


def float_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter, float32 without one; inputs must have it."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def as_input(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return inputs in a floating-point type; tokens, which are whole numbers, as they are."""
    return x.to(dtype) if x.is_floating_point() else x


def measured(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], task: Task
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Evaluate a network on batches; synchronizes with the device once.

    Args:
        model: the network, in evaluation mode.
        batches: pairs of inputs and targets (B, ...).
        task: of the network.

    Returns:
        The task's measures by name, ``loss`` among them; of class labels also the predictions (N,) and the labels (N,), which are
        empty for other tasks.
    """
    dtype = float_dtype(model)
    sums: list[Tensor] = []
    answers: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    for x, y in batches:
        out = model(as_input(x, dtype))
        if isinstance(task, Classification):
            answers.append(task.predict(out))
            labels.append(y)
        parts = task.sums(out, y)
        sums.append(torch.cat([part.double().reshape(-1) for part in parts.values()]))
        count += len(y)
    means = (torch.stack(sums).sum(0) / count).cpu().split([part.numel() for part in parts.values()])
    by_name = {name: mean.view(part.shape) for mean, (name, part) in zip(means, parts.items(), strict=True)}
    empty = [torch.empty(0, dtype=torch.int64)]
    return task.measures(by_name), torch.cat(answers or empty), torch.cat(labels or empty)
