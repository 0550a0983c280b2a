"""Register the kinds of optimizers and of learning-rate schedules. Imports no torch.

An optimizer of one's own is a class with the interface of torch's, ``Optimizer(parameters, lr=..., option=...)``. A schedule of
one's own is a function ``(base, step, total, steps_per_epoch, *, option=...)`` that returns the learning rate of a step.
"""

from dataclasses import dataclass
from typing import Any

from credit.core.config.schema import OptimizerConfig, ScheduleConfig
from credit.core.options import opt
from credit.core.registry import common, component, declare

common("optimizer", OptimizerConfig)
common("schedule", ScheduleConfig)
declare("optimizer", {"sgd": "torch.optim:SGD", "adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"})


@component("optimizer", "timm", "credit.training.optimization.named:of_timm")
@component("optimizer", "torch", "credit.training.optimization.named:of_torch")
@dataclass(frozen=True)
class NamedOptions(OptimizerConfig):
    """An optimizer of a library, by name."""

    name: str | None = opt(
        None, "class of torch.optim, such as RAdam, or name of timm.optim.list_optimizers(), such as lamb"
    )
    options: dict[str, Any] = opt({}, "further arguments of its class, such as {betas:[0.9,0.99]}")


declare(
    "schedule", {name: f"credit.training.schedules:{name}" for name in ("constant", "step", "cosine", "warmup_cosine")}
)
