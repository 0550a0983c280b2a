"""Finished runs: their configuration, result and checkpoints, with what is wrong in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from credit.core.config import RunConfig, check
from credit.core.errors import UserError
from credit.runs.folder import CHECKPOINTS, read_config, read_result
from credit.runs.made_from import changes
from credit.runs.places import CONFIG
from credit.training.state import checkpoint


def finished(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return the configuration and the result of a complete run.

    Raises:
        UserError: the run is unfinished, diverged, failed or damaged, or its code changed.
    """
    result = read_result(folder)
    if result is None:
        raise UserError(f"{folder} has no result yet: the run is unfinished; give its command again, and it goes on")
    if result.get("status") != "complete":
        raise UserError(
            f"{folder}: the run is not complete (status {result.get('status')!r}), so that its weights are no trained network's"
        )
    missing = [
        key
        for key in ("config", "data", "best", "last", "steps", "data_digest", "weights_sha256")
        if not result.get(key)
    ]
    if missing:
        raise UserError(
            f"{folder}: its result.json lacks {', '.join(missing)}: it is no run of a network, or it is damaged"
        )
    if read_config(folder).get("config") != result["config"]:
        raise damaged(folder, f"{CONFIG} and result.json describe different runs")
    cfg = check(result["config"])
    if changed := changes(folder, cfg).code:
        raise UserError(
            f"{folder}: your code changed since the run was made ({'; '.join(changed)}): put the old files back"
        )
    return cfg, result


def state_of(folder: Path, result: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Return the content of a finished run's checkpoint, of its ``best`` or its ``last`` weights.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = checkpoint.path_of(folder, int(result[weights]["step"]))
    if not path.is_file():
        raise damaged(folder, f"it lacks {CHECKPOINTS}/{path.name}, the weights after step {result[weights]['step']}")
    try:
        return checkpoint.read(path)
    except checkpoint.DamagedError as damage:
        raise damaged(folder, f"checkpoint {path.name} is damaged ({damage})") from damage


def damaged(folder: Path, why: str) -> UserError:
    """Return the error for a run's folder whose content cannot be used."""
    return UserError(f"{folder} cannot be loaded: {why}. Train it again: its command with rerun=true")
