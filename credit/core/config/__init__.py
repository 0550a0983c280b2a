"""The typed configuration of a run: its schema and its checks. Imports neither torch nor any other heavy package."""

from credit.core.config.schema import (
    DataConfig,
    LoggerConfig,
    NoiseConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainerConfig,
)
from credit.core.config.validate import check

__all__ = [
    "DataConfig",
    "LoggerConfig",
    "NoiseConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainerConfig",
    "check",
]
