"""Targets of examples: the task that a set's targets are for, and the scale of numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data.sources.files import Whole
from credit.tasks.base import Task, of
from credit.tasks.regression import Regression

_TARGETS = {
    "classification": "class labels",
    "regression": "numbers as targets",
    "tokens": "a text's next tokens as targets",
}


def task_of(cfg: DataConfig, whole: Whole, noise: NoiseConfig | None = None) -> str:
    """Return the task of a run: ``data.task``, or what the set's targets are for.

    Args:
        cfg: the data options.
        whole: the set.
        noise: the label noise.

    Raises:
        UserError: a task that the set's targets are not for, or options that classes alone, or numbers alone, can have.
    """
    task = whole.task if cfg.task == "auto" else cfg.task
    there = f"data={cfg.kind} has {_TARGETS[whole.task]}"
    if task == "reconstruction":
        if whole.task == "tokens":
            raise UserError(
                f"data.task=reconstruction: {there}, and tokens are no numbers to reconstruct; leave it out"
            )
    elif task != whole.task:
        raise UserError(f"data.task={task}: {there}; write data.task=auto, or use a set with {_TARGETS[task]}")
    if task != "classification":
        if noise is not None and noise.kind != "none":
            raise UserError(f"noise={noise.kind} makes class labels wrong, and the task is {task}; write noise=none")
        if cfg.sampler == "balanced":
            raise UserError(
                f"data.sampler=balanced draws all classes equally often, and the task is {task}; leave it out"
            )
    if task != "regression" and cfg.target_scale != DataConfig().target_scale:
        raise UserError(f"data.target_scale={cfg.target_scale} would change nothing: {there}; leave it out")
    return task


def scaled(cfg: DataConfig, task: str, y: Tensor, train: Tensor) -> tuple[Tensor, Task]:
    """Return the targets as the network is trained on them, and the task, of a regression with their units.

    Args:
        cfg: the data options.
        task: as `task_of` returned it.
        y: the targets of all parts.
        train: places of the training part.

    Raises:
        UserError: a target that is constant over the training part.
    """
    if task != "regression" or cfg.target_scale == "none":
        return y, of(task)
    part = y[train].double()
    shift, scale = part.mean(0), part.std(0, correction=0)
    if not bool((scale > 0).all()):
        at = int((scale == 0).nonzero()[0])
        raise UserError(
            f"data={cfg.kind}: target {at} is {float(shift[at]):g} in every training example, so there is nothing to predict"
        )
    return ((y.double() - shift) / scale).to(y.dtype), Regression(shift, scale)


def recorded_task(record: Mapping[str, Any]) -> tuple[Task, int]:
    """Return the task of a run, with the units of its targets, and the number of outputs, from the entry ``data`` of its result."""
    if "task" not in record:
        return of("classification"), int(record["classes"])
    if "target_scale" in record:
        shift, scale = (torch.tensor(record[key], dtype=torch.float64) for key in ("target_shift", "target_scale"))
        return Regression(shift, scale), int(record["outputs"])
    return of(record["task"]), int(record["outputs"])


def units(task: Task) -> dict[str, list[float]]:
    """Return the units of a regression's targets for ``result.json``: ``target_shift`` and ``target_scale``, by target."""
    if not isinstance(task, Regression) or task.scale is None or task.shift is None:
        return {}
    return {"target_shift": task.shift.tolist(), "target_scale": task.scale.tolist()}
