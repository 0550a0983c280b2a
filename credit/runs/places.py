"""Where runs are: the folder of all runs, and a run's folder by its path or name."""

import os
from pathlib import Path

from credit.core.errors import UserError, nearest

CONFIG, RESULT = "config.json", "result.json"


def runs_root() -> Path:
    """Return the folder of all runs: ``$CREDIT_RUNS``, else ``runs`` in the current folder."""
    return Path(os.environ.get("CREDIT_RUNS") or "runs")


def find_run(run: str | Path) -> Path:
    """Return the folder of a run, from its path or from its name under ``runs/``.

    Raises:
        UserError: there is none, or the folder is not a run's.
    """
    places = [Path(run), runs_root() / run]
    for place in places:
        if (place / CONFIG).is_file():
            return place
    for place in places:
        if place.is_dir() and str(run).strip():
            raise UserError(f"{place} is not a run's folder: it has no {CONFIG}")
    names = [path.parent.name for path in runs_root().glob(f"*/{CONFIG}")]
    hint = nearest(run, names) if len(names) <= 20 else f"`ls {runs_root()}` shows the names"
    raise UserError(f"{run}: there is no such folder, and no run of this name in {runs_root()}; {hint}")
