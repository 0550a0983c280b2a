"""The runner ``train``: one run of `credit-train`."""

from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.runs import folder as records


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the run's folder, which is that of `credit-train` for the same settings."""
    return records.run_folder(config)


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Check that the run can be trained; see `credit.training.prepare`.

    Raises:
        UserError: it cannot.
    """
    from credit.training.prepare import prepare

    prepare(config)


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Train the run, from its newest checkpoint if there is one, and return the content of result.json."""
    from credit.training import train

    return train(config, console=False)
