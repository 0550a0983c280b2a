"""The kinds of optimizers and of learning-rate schedules. Imports no torch."""

from credit.core.config.schema import OptimizerConfig, ScheduleConfig
from credit.core.registry import declare

declare(
    "optimizer", {"sgd": "torch.optim:SGD", "adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"}, OptimizerConfig
)
declare(
    "schedule",
    {name: f"credit.training.schedules:{name}" for name in ("constant", "step", "cosine", "warmup_cosine")},
    ScheduleConfig,
)
