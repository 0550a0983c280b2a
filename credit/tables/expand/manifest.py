"""The manifest of a table: its jobs, stored in a file beside its report."""

from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from credit.core.errors import UserError
from credit.core.writing import write_json
from credit.runs.folder import read_json
from credit.runs.places import runs_root

MANIFEST = "table.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One run of one cell.

    Attributes:
        row, column: the cell.
        repeat: the settings in which it differs from the cell's other runs, such as ``{"seed": 1, "data.fold": 3}``.
        runner: a name of `credit.sweeps.runners`.
        options: options of the runner.
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
    """A setting, or a size of the table, in which a budget or the command line differs from the published runs."""

    key: str
    paper: Any
    here: Any
    where: str  # "all cells", or the rows or columns it is about


@dataclass(frozen=True)
class Choice:
    """The candidate of the table's tuning with which a cell is run.

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
    """The jobs of a table at a budget, as written by ``credit table`` and read by ``credit report``."""

    table: str
    budget: str
    seeds: int
    words: tuple[str, ...]  # what the user set on the command line for every cell
    command: str
    jobs: tuple[Job, ...]
    cuts: tuple[Cut, ...] = ()
    trials: tuple[Job, ...] = ()  # runs of the candidates that cells are tuned with
    choices: tuple[Choice, ...] = ()
    costs: tuple[Job, ...] = ()  # timings beside the cells' runs

    def all_jobs(self) -> tuple[Job, ...]:
        """Return all jobs: trials, then the cells' runs, then timings."""
        return (*self.trials, *self.jobs, *self.costs)

    def is_open(self, job: Job) -> bool:
        """Return whether the trials of a run's cell are unfinished; the run has the first candidate's settings until then."""
        cell = (job.row, job.column)
        return any(choice.chosen < 0 and (choice.row, choice.column) == cell for choice in self.choices)


def table_folder(table: str, budget: str) -> Path:
    """Return the folder of a table's manifest and report: ``$CREDIT_RUNS/tables/<paper>-<table>-<budget>``."""
    return runs_root() / "tables" / f"{table.replace('/', '-')}-{budget}"


def write_manifest(manifest: Manifest) -> Path:
    """Write the manifest into its table's folder and return that folder."""
    folder = table_folder(manifest.table, manifest.budget)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, asdict(manifest))
    return folder


def read_manifest(table: str, budget: str) -> Manifest:
    """Return the manifest of a table at a budget.

    Raises:
        UserError: the table has not been run at this budget, or the file is damaged.
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
        return _part(Manifest, held)
    except _DamagedError as damage:
        raise UserError(f"{path} is damaged ({damage}); {remedy}") from None


class _DamagedError(Exception):
    """An error in the content of a manifest."""


def _part(cls: type[T], held: Any) -> T:
    """Return a dataclass from its content in JSON, with exactly its fields, of their types."""
    what, hints = cls.__name__.lower(), get_type_hints(cls)
    if not isinstance(held, dict):
        raise _DamagedError(f"a {what} that is no object")
    for key in dict.fromkeys([*hints, *held]):
        if key not in held or key not in hints:
            raise _DamagedError(f"a {what} {'without' if key in hints else 'with an unknown'} '{key}'")
    return cls(**{key: _value(f"the '{key}' of a {what}", hints[key], value) for key, value in held.items()})


def _value(what: str, hint: Any, value: Any) -> Any:
    kind = get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        entry = get_args(hint)[0]
        return tuple(_part(entry, one) if isinstance(entry, type) and is_dataclass(entry) else one for one in value)
    if hint is not Any and not isinstance(value, kind):
        raise _DamagedError(f"{what} is of another kind")
    return value
