"""Write the records of runners other than training: config.json, made_from.json and result.json, once for each folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.core.writing import write_json
from credit.runs.folder import is_complete, locked, read_result, write_config
from credit.runs.made_from import made_from, write_made_from
from credit.runs.metrics import finite_or_null
from credit.runs.places import CONFIG, RESULT
from credit.runs.provenance import provenance


def record(
    where: Path, config: RunConfig, measure: Callable[[], dict[str, Any]], header: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write a result and its records under the folder's lock, and return the content of result.json.

    A result that another process has finished since is returned instead.

    Args:
        where: the folder of the result.
        config: the cell's run.
        measure: returns the content of result.json; called under the lock. Numbers that are not finite become None.
        header: the content of config.json; None for that of a training run.

    Raises:
        UserError: another process has the lock, or the folder cannot be written.
    """
    with locked(where):
        held = read_result(where) if is_complete(where) else None
        if held is not None:
            return held
        if header is None:
            write_config(where, config)
        else:
            write_json(where / CONFIG, header)
        write_made_from(where, made_from(config))
        result = dict(finite_or_null(measure()))
        write_json(where / RESULT, result)
    return result


def result_of(runner: str, name: str, group: str, config: dict[str, Any], seconds: float, **own: Any) -> dict[str, Any]:
    """Return the content of a runner's result.json.

    Args:
        runner: name of the runner.
        name, group: names of the run and of the runs that differ only in their seed.
        config: the configuration as a plain mapping.
        seconds: the duration.
        own: the runner's entries, which override the others.
    """
    if "provenance" not in own:
        own["provenance"] = provenance("cpu")
    return {
        "status": "complete",
        "name": name,
        "group": group,
        "runner": runner,
        "selected_by": "last",
        "best": None,
        "last": {},
        "seconds": seconds,
        "seconds_per_epoch": None,
        "notes": [],
        "config": config,
        **own,
    }
