"""Evaluate a network: accuracy, loss, scores by class and averaged over classes, and wrong labels memorized."""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from credit.data import Data, evaluation
from credit.diagnostics.networks import measured
from credit.tasks.base import Task, fitting
from credit.tasks.classification import Classification
from credit.training import scores


class Running:
    """The mean loss and accuracy over the current epoch's training batches, summed on the device without synchronization.

    Losses are summed in float64, so that rounding does not grow with the length of the epoch.

    Args:
        device: device of the sums.
        task: of the outputs.
        replicas: number of runs in a replica batch; None for one run, without a replica dimension.
    """

    def __init__(self, device: torch.device, task: Task, replicas: int | None = None) -> None:
        self._task = task
        shape = (3,) if replicas is None else (replicas, 3)
        self._sums = torch.zeros(
            shape, dtype=torch.float64, device=device
        )  # loss * examples, correct predictions, examples

    def add(self, logits: Tensor, loss: Tensor, y: Tensor) -> None:
        """Add one batch.

        Args:
            logits: outputs (B, ...).
            loss: mean loss of the batch (0-d).
            y: targets (B, ...).

        With replicas, each has the replicas as its first dimension.
        """
        correct = self._task.correct(logits, y)
        loss = loss.double()
        count = torch.full_like(loss, y.shape[loss.dim()])
        right = torch.full_like(loss, math.nan) if correct is None else correct.sum(-1).double()
        self._sums += torch.stack([loss * count, right, count], -1)

    def share(self, at: int) -> "Running":
        """Return a view of the sums of one replica, which is updated with the others."""
        one = Running(self._sums.device, self._task)
        one._sums = self._sums[at]
        return one

    def reset(self) -> None:
        """Set the sums to zero, at the start of an epoch."""
        self._sums.zero_()

    def summary(self) -> dict[str, float]:
        """Return ``train_loss`` and ``train_top1`` (by the labels trained on, wrong ones included); empty without batches.

        A task whose predictions are numbers has no ``train_top1``.
        """
        loss, right, count = self._sums.tolist()
        if not count:
            return {}
        return {"train_loss": loss / count} | ({} if math.isnan(right) else {"train_top1": right / count})

    def state(self) -> Tensor:
        """Return the sums for a checkpoint (3,): of losses, correct predictions and examples."""
        return self._sums.clone()

    def restore(self, state: Tensor) -> None:
        """Restore the sums returned by `state`."""
        self._sums.copy_(state)


def with_fresh_statistics(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Return a copy of the network whose BatchNorm statistics are the cumulative average over ``batches``.

    If a rule normalizes its error signal above BatchNorm, the mean of BatchNorm's input drifts, and the running averages lag
    behind it by many standard deviations: the same weights then score near chance (LISP on CIFAR-10 and Digits).

    Args:
        model: the network; returned itself if it has no BatchNorm with running statistics that training updates.
        batches: inputs (B, ...), normalized as in training.
    """
    if not any(_tracks(module) for module in model.modules()):
        return model
    fresh = copy.deepcopy(model).eval()
    for module in fresh.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and _tracks(module):
            module.reset_running_stats()
            module.momentum = None  # the cumulative average
            module.train()
    with torch.no_grad():
        for x in batches:
            fresh(x)
    return fresh


def _tracks(module: nn.Module) -> bool:
    batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and not hasattr(module, "stays_frozen")
    return batch_norm and module.running_mean is not None


def evaluate(model: nn.Module, data: Data, batch_size: int, *, per_class: bool = False) -> dict[str, Any]:
    """Return the metrics on the validation and test parts and, with label noise, on the training examples with wrong labels.

    Args:
        model: the network; left in train mode, its buffers unchanged.
        data: the data set, on the network's device.
        batch_size: number of examples in a forward pass.
        per_class: add ``per_class``, test precision, recall and F1 of every class by name.

    Returns:
        The measures of the task behind ``val_`` and ``test_``; empty parts are left out. Of class labels: ``val_loss``
        (cross-entropy; squared error of a single probability), ``val_top1``, ``val_top5`` (more than five classes only),
        ``test_precision``, ``test_recall`` and ``test_f1``, averaged
        over classes (`credit.training.scores.macro`). ``confusion``, for at most `credit.training.scores.SHOWN` classes:
        ``classes``, their names, and ``test``, counts by true class (row) and prediction (column). ``memorized`` and
        ``recovered``: fractions of the training examples with a wrong label for which the network predicts that label, and the
        true label.
    """
    out: dict[str, Any] = {}
    task = fitting(data.task, model)
    model.eval()
    with torch.inference_mode():
        for name in ("val", "test"):
            if len(getattr(data, name).y):
                measures, predicted, y = measured(model, evaluation(data, name, batch_size), task)
                out.update({f"{name}_{key}": value for key, value in measures.items()})
        if len(data.test.y) and isinstance(task, Classification):
            counts = scores.confusion(predicted, y, data.classes).cpu()
            out.update(_by_class(counts, data.names, per_class))
        out.update(_wrong_labels(model, data, batch_size))
    model.train()
    return out


def _by_class(counts: Tensor, names: list[str], per_class: bool) -> dict[str, Any]:
    """Return the entries of an evaluation that are computed from the test part's confusion matrix (classes, classes)."""
    out: dict[str, Any] = {
        f"test_{key}": value for key, value in zip(scores.KEYS, scores.macro(counts).tolist(), strict=True)
    }
    if per_class:
        rows = scores.by_class(counts).tolist()
        out["per_class"] = {
            name: dict(zip(scores.KEYS, row, strict=True)) for name, row in zip(names, rows, strict=True)
        }
    if len(names) <= scores.SHOWN:
        out["confusion"] = {"classes": names, "test": counts.tolist()}
    return out


def _wrong_labels(model: nn.Module, data: Data, batch_size: int) -> dict[str, float]:
    index = data.corrupted.nonzero()[:, 0]
    if not len(index):
        return {}

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in index.split(batch_size):
            yield data.prepare(data.train.take(part)), data.train.y[part]

    measures, predicted, _ = measured(model, batches(), fitting(data.task, model))
    recovered = (predicted == data.clean_y[index]).double().mean().item()
    return {"memorized": measures["top1"], "recovered": recovered}
