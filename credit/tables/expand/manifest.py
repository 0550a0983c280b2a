"""A table's jobs: which runs it consists of, and the file that remembers them (`Manifest`)."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from credit.core.errors import UserError
from credit.runs.folder import read_json, runs_root, write_json

MANIFEST = "table.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One run of one cell.

    Attributes:
        row, column: the cell.
        repeat: what tells it from the cell's other runs, for example ``{"seed": 1, "data.fold": 3}``.
        runner: a name of `credit.sweeps.runners`.
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
class Choice:
    """Which candidate of the table's tuning a cell takes.

    Attributes:
        row, column: the cell.
        of: the row whose trials decided it.
        accuracies: each candidate's mean validation accuracy in per cent; None where a trial of it diverged or is not over.
        ended: how many trials of each are over.
        chosen: the best one's place, the first of equals; -1 where trials are not over.
    """

    row: str
    column: str
    of: str
    accuracies: tuple[float | None, ...]
    ended: tuple[int, ...]
    chosen: int


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
    trials: tuple[Job, ...] = field(default_factory=tuple)  # runs of the candidates that cells are tuned with
    choices: tuple[Choice, ...] = field(default_factory=tuple)
    costs: tuple[Job, ...] = field(default_factory=tuple)  # timings beside the cells' runs

    def all_jobs(self) -> tuple[Job, ...]:
        """Return every job: trials, the cells' runs, timings."""
        return (*self.trials, *self.jobs, *self.costs)

    def is_open(self, job: Job) -> bool:
        """Return whether a cell's run waits for trials that choose its settings; until then it has the first candidate's."""
        cell = (job.row, job.column)
        return any(choice.chosen < 0 and (choice.row, choice.column) == cell for choice in self.choices)


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
    remedy = "delete it and give `credit table` again: finished runs are kept"
    held = read_json(path, remedy)
    if held is None:
        raise UserError(
            f"{table} was not run at budget={budget}: no {path}. Run it first: credit table {table} budget={budget}"
        )
    try:
        held = {key: [] for key in ("trials", "choices", "costs")} | held  # older ones do not have them
        found: dict[str, list[Any]] = {
            key: [_part(cls, one) for one in _list(held, key)] for key, cls in _LISTS.items()
        }
        return _part(Manifest, {**held, **found})
    except _DamagedError as damage:
        raise UserError(f"{path} is damaged ({damage}); {remedy}") from None


_LISTS: dict[str, type] = {"jobs": Job, "cuts": Cut, "trials": Job, "choices": Choice, "costs": Job}


class _DamagedError(Exception):
    """What is wrong with a manifest's content."""


def _list(held: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(held.get(key), list):
        raise _DamagedError(f"no list of {key}")
    return list(held[key])


def _part(cls: type[T], held: Any) -> T:
    """Return a dataclass from what `asdict` and JSON made of it, with exactly its fields and their types."""
    what, types = cls.__name__.lower(), _types(cls)
    if not isinstance(held, dict):
        raise _DamagedError(f"a {what} that is no object")
    found = {
        key: tuple(value) if isinstance(value, list) and types.get(key) is tuple else value
        for key, value in held.items()
    }
    for key in dict.fromkeys([*types, *found]):
        if key not in found or key not in types:
            raise _DamagedError(f"a {what} {'without' if key in types else 'with an unknown'} '{key}'")
        if not isinstance(found[key], types[key]):
            raise _DamagedError(f"the '{key}' of a {what} is of another kind")
    return cls(**found)


def _types(cls: type) -> dict[str, type]:
    hints = get_type_hints(cls)
    return {key: object if hint is Any else get_origin(hint) or hint for key, hint in hints.items()}
