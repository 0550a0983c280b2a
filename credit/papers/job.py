"""A table's jobs: which runs it consists of, and the file that remembers them (`Manifest`)."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from credit.errors import UserError
from credit.records.folder import read_json, runs_root, write_json

MANIFEST = "table.json"


@dataclass(frozen=True)
class Job:
    """One run of one cell.

    Attributes:
        row, column: the cell.
        repeat: what tells it from the cell's other runs, for example ``{"seed": 1, "data.fold": 3}``.
        runner: a name of `credit.papers.runners`.
        options: what that runner takes besides the configuration.
        words: the run as words of `credit-train`.
        config: the run as `RunConfig.as_dict` gives it.
        folder: the run's folder, relative to the folder of all runs.
    """

    row: str
    column: str
    repeat: dict[str, Any]
    runner: str
    options: dict[str, Any]
    words: tuple[str, ...]
    config: dict[str, Any]
    folder: str

    def path(self) -> Path:
        """Return the run's folder."""
        return runs_root() / self.folder


@dataclass(frozen=True)
class Cut:
    """One way in which a smaller budget, or the command line, differs from the published run."""

    key: str
    paper: Any
    here: Any
    where: str  # "all cells", or the rows or columns it is about


@dataclass(frozen=True)
class Manifest:
    """One table at one budget, expanded: what `credit table` writes and `credit report` reads."""

    table: str
    budget: str
    seeds: int
    words: tuple[str, ...]  # what the user set on the command line for every cell
    command: str
    jobs: tuple[Job, ...]
    cuts: tuple[Cut, ...] = field(default_factory=tuple)


def table_folder(table: str, budget: str) -> Path:
    """Return where a table's manifest and report go: ``$CREDIT_RUNS/tables/<paper>-<table>-<budget>``."""
    return runs_root() / "tables" / f"{table.replace('/', '-')}-{budget}"


def write_manifest(manifest: Manifest) -> Path:
    """Write the manifest into its table's folder and return that folder."""
    folder = table_folder(manifest.table, manifest.budget)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, asdict(manifest))
    return folder


def read_manifest(table: str, budget: str) -> Manifest:
    """Read it back.

    Raises:
        UserError: the table was never run at this budget, or the file is damaged.
    """
    path = table_folder(table, budget) / MANIFEST
    held = read_json(path, "delete it and give `credit table` again: finished runs are kept")
    if held is None:
        raise UserError(
            f"{table} was not run at budget={budget}: no {path}. Run it first: credit table {table} budget={budget}"
        )
    jobs = tuple(Job(**{**job, "words": tuple(job["words"])}) for job in held.pop("jobs"))
    cuts = tuple(Cut(**cut) for cut in held.pop("cuts"))
    return Manifest(**{**held, "words": tuple(held["words"])}, jobs=jobs, cuts=cuts)
