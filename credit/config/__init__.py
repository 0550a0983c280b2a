"""What a run is, as typed data: the schema and its checks. Imports neither torch nor any other heavy package."""

from credit.config.schema import (
    DataConfig,
    LoggerConfig,
    NoiseConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainerConfig,
)
from credit.config.validate import check

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
