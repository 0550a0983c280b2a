"""Register the kinds of loggers. Imports no torch."""

from credit.core.config.schema import LoggerConfig
from credit.core.registry import common, declare

common("logger", LoggerConfig)
declare("logger", {"files": "credit.runs.mirror:no_mirror", "wandb": "credit.runs.mirror:Mirror"})
