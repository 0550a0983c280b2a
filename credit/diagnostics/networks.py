"""Properties of a network for diagnostics and evaluations: its layers in order, its loss and accuracy, its dtype."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from credit.core import outputs
from credit.core.errors import UserError
from credit.data import Data, evaluation
from credit.engine.plan import Plan
from credit.rules.base import Rule


def in_order(plan: Plan) -> list[str]:
    """Return the names of the trainable parameters, in the order of their first use in the forward pass."""
    return list(dict.fromkeys(name for op in plan.ops for name in op.trains))


def layers(plan: Plan) -> dict[str, list[str]]:
    """Return the names of the trainable parameters by layer, in the order of `in_order`: ``{"fc1": ["fc1.weight", "fc1.bias"]}``.

    A layer is the module that owns the parameters. A parameter that the network itself owns is a layer by itself.
    """
    grouped: dict[str, list[str]] = {}
    for name in in_order(plan):
        grouped.setdefault(name.rpartition(".")[0] or name, []).append(name)
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
        measures, _, _ = measured(model, evaluation(data, split, batch_size))
    model.train()
    return measures["top1"]


def float_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter, float32 without one; inputs must have it."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def measured(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[dict[str, float], Tensor, Tensor]:
    """Evaluate a network on batches; synchronizes with the device once.

    Args:
        model: the network, in evaluation mode.
        batches: pairs of inputs (B, ...) and labels (B,).

    Returns:
        A dict of the mean ``loss``, ``top1`` and, for more than five outputs, ``top5``; the predictions (N,); the labels (N,).
    """
    dtype = float_dtype(model)
    sums: list[Tensor] = []
    answers: list[Tensor] = []
    labels: list[Tensor] = []
    for x, y in batches:
        out = model(x.to(dtype))
        answers.append(outputs.answers(out))
        labels.append(y)
        parts = [outputs.evaluation_loss(out, y, "sum"), (answers[-1] == y).sum()]
        if out.shape[1] > 5:
            parts.append((out.topk(5, dim=1).indices == y[:, None]).sum())
        sums.append(torch.stack([part.double() for part in parts]))
    predicted, given = torch.cat(answers), torch.cat(labels)
    values = (torch.stack(sums).sum(0) / len(given)).tolist()
    return dict(zip(("loss", "top1", "top5"), values, strict=False)), predicted, given
