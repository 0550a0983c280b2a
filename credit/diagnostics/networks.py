"""Properties of a network that diagnostics and evaluations need: its layers in order, its accuracy, its predictor."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from credit.core import outputs
from credit.core.errors import UserError
from credit.data import Data, evaluation
from credit.engine.plan import Plan
from credit.rules.base import Rule


def in_order(plan: Plan) -> list[str]:
    """Return the trainable parameters' names in the order the forward pass first uses them."""
    return list(dict.fromkeys(name for op in plan.ops for name in op.trains))


def layers(plan: Plan) -> dict[str, list[str]]:
    """Return the trainable parameters by layer, the module that holds them, in the same order: ``{"fc1": [weight, bias]}``.

    A parameter of the network itself, in no module, is a layer of its own.
    """
    grouped: dict[str, list[str]] = {}
    for name in in_order(plan):
        grouped.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return grouped


def refuse_settled(name: str, rule: Rule, why: str) -> None:
    """Refuse a diagnostic of the forward pass for a rule whose evaluations ask another network (`Rule.predictor`).

    Args:
        name: the diagnostic's.
        rule: the run's.
        why: what is missing, as a clause.

    Raises:
        UserError: the rule's answers are no forward pass.
    """
    if type(rule).predictor is not Rule.predictor:
        raise UserError(
            f"trainer.measure=[{name}]: rule '{rule.name}' is evaluated where its states settle, not by a forward pass, and {why}. "
            "Leave the diagnostic out, or measure it of a rule that answers by its forward pass, such as rule=dp_adjoint"
        )


def accuracy(model: nn.Module, data: Data, split: str, batch_size: int) -> float:
    """Return the share of a part's examples that the network answers rightly.

    Args:
        model: the network; left in train mode, its buffers untouched.
        data: the data set, on the network's device.
        split: train, val or test, with at least one example.
        batch_size: examples at a time.
    """
    model.eval()
    with torch.inference_mode():
        measures, _, _ = measured(model, evaluation(data, split, batch_size))
    model.train()
    return measures["top1"]


def float_dtype(model: nn.Module) -> torch.dtype:
    """Return the type of the network's numbers, which its input has to have."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def measured(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[dict[str, float], Tensor, Tensor]:
    """Return mean loss and accuracies, the answers (N,) and the labels (N,); waits for the device once."""
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
