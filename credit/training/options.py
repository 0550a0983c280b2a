"""Register the kinds of optimizers and of learning-rate schedules. Imports no torch.

An optimizer of one's own is a class with the interface of torch's, ``Optimizer(parameters, lr=..., option=...)``. A schedule of
one's own is a function ``(base, step, total, steps_per_epoch, *, option=...)`` that returns the learning rate of a step.
"""

from credit.core.config.schema import OptimizerConfig, ScheduleConfig
from credit.core.registry import common, declare

common("optimizer", OptimizerConfig)
common("schedule", ScheduleConfig)
declare("optimizer", {"sgd": "torch.optim:SGD", "adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"})
declare(
    "schedule", {name: f"credit.training.schedules:{name}" for name in ("constant", "step", "cosine", "warmup_cosine")}
)
