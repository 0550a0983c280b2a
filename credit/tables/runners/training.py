"""The runner of ordinary cells: one run of `credit-train`."""

from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.runs import folder as records


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the run's folder, the one that `credit-train` uses for the same settings."""
    return records.run_folder(config)


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Raise `UserError` where the run cannot work; see `credit.training.prepare`."""
    from credit.training.prepare import prepare

    prepare(config)


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint where there is one, and return the result."""
    from credit.training import train

    return train(config, console=False)
