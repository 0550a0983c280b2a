"""The numbers of a table's runs: what finished, what diverged, what is missing, and each measure by repeat.

Files are read when a number needs them: metrics.jsonl only where a measure or a figure is not in result.json.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, TypeAlias

from credit.runs.folder import read_result
from credit.runs.metrics import read_metrics
from credit.tables.expand.manifest import Job, Manifest
from credit.tables.measures.marks import CROSS, DAGGER, mark
from credit.tables.measures.measures import measure
from credit.tables.measures.quantities import honest_words
from credit.tables.measures.twins import find
from credit.tables.spec.schema import Spec

STATUSES = ("complete", "diverged", "failed", "missing")
Cell: TypeAlias = tuple[str, str]
Repeat: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass
class Run:
    """One job and what became of it."""

    job: Job

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None where the run is not over."""
        return read_result(self.job.path())

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        found = "missing" if self.result is None else str(self.result.get("status"))
        return found if found in STATUSES else "failed"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return read_metrics(self.job.path())

    @property
    def repeat(self) -> Repeat:
        """The settings in which it differs from the cell's other runs."""
        return tuple((key, json.dumps(v) if isinstance(v, list | dict) else v) for key, v in self.job.repeat.items())

    @property
    def mark(self) -> str:
        """One of `credit.tables.measures.marks` for a run that diverged or collapsed under the stopping rule; else nothing."""
        return "" if self.result is None else mark(self.result)

    def has(self, name: str) -> bool:
        """Return whether it can have a measure, by how it ended."""
        kind = measure(name).runs
        if kind == "over":
            return self.status in ("complete", "diverged")
        if kind == "found" and self.mark == DAGGER:
            return True
        return self.status == "complete" and self.mark != CROSS

    def ending(self, name: str) -> str:
        """Return how it ended for a measure: one of `STATUSES`, or its mark."""
        return "complete" if measure(name).runs == "over" and self.has(name) else self.mark or self.status

    def number(self, name: str, accuracy: str) -> float | None:
        """Return a measure of it; None for a run that did not complete, whatever it had reached before.

        Of a run with a `DAGGER` the accuracy of the last epoch is that of the model found before.
        """
        if self.result is None or not self.has(name):
            return None
        mode = "best_val" if accuracy == "last" and self.mark == DAGGER else accuracy
        value = measure(name).function(self.result, lambda: self.rows, mode)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Summary:
    """A cell's repeats as one entry: mean and sample standard deviation (None below two) of the `n` runs that have a number.

    `status` counts how the runs ended, in `STATUSES`, or under the stopping rule in `credit.tables.measures.marks`.
    """

    mean: float | None
    std: float | None
    n: int
    status: dict[str, int] = field(default_factory=dict)
    stand_in: float | None = None  # what a diverged run counts as; None: as no number

    @property
    def asked(self) -> int:
        """How many runs the cell has in this table."""
        return sum(self.status.values())

    @property
    def mark(self) -> str:
        """The mark that all runs of the number have, `CROSS` where no run has a number; else nothing."""
        if self.asked and self.status.get(CROSS) == self.asked:
            return CROSS
        return DAGGER if self.n and self.status.get(DAGGER) == self.n else ""

    def counts(self) -> str:
        """Return how many runs the number is of where that is not all: ``2 of 3, 1 diverged``; empty where it is.

        Runs that count with a number in place of their own are told in any case: ``1 diverged, counted as 9.9``.
        """
        diverged, marked = self.status.get("diverged", 0), self.status.get(DAGGER, 0)
        counted = f", counted as {self.stand_in:g}" if self.stand_in is not None else ""
        some = [f"{marked} {DAGGER}"] if 0 < marked < self.n else []
        if self.n == self.asked:
            told = [f"{diverged} diverged{counted}"] if diverged and counted else []
            return ", ".join([*told, *(f"{text} of {self.n}" for text in some)])
        odd = some + [f"{self.status[name]} {name}" for name in (*STATUSES[1:], CROSS) if self.status.get(name)]
        silent = self.status.get("complete", 0) + marked + (diverged if counted else 0) - self.n
        odd += [f"{silent} without this number"] if silent else []
        return ", ".join([f"{self.n} of {self.asked}", *odd])


@dataclass
class Collection:
    """A table's runs by cell, in the spec's order; cells that the budget leaves out have none."""

    spec: Spec
    manifest: Manifest
    runs: dict[Cell, list[Run]]
    strays: int  # jobs of cells that the spec no longer has
    costs: dict[Cell, list[Run]] = field(default_factory=dict)  # timings beside the runs
    trials: list[Run] = field(default_factory=list)  # runs of the candidates that cells are tuned with
    _held: dict[tuple[Cell, str, str], dict[Repeat, float]] = field(default_factory=dict)

    @cached_property
    def twins(self) -> dict[Cell, Cell]:
        """For each cell whose runs are the same as those of an earlier cell, that cell; see `credit.tables.measures.twins`."""
        return find(self)

    def twin(self, cell: Cell, name: str, accuracy: str | None = None) -> Cell | None:
        """Return the cell with the same runs (`twins`) where a measure has the same numbers there too; else None.

        Times differ between runs of equal weights, and so may what is measured besides the weights.
        """
        twin = self.twins.get(cell)
        if twin is None:
            return None
        own, other = self.values(cell, name, accuracy), self.values(twin, name, accuracy)
        shared = [repeat for repeat in own if repeat in other]
        return twin if shared and all(own[repeat] == other[repeat] for repeat in shared) else None

    def values(self, cell: Cell, name: str, accuracy: str | None = None) -> dict[Repeat, float]:
        """Return a measure of the cell's completed runs by repeat; `accuracy` None: the epoch the paper reports."""
        mode = accuracy or self.spec.accuracy
        key = (cell, name, mode)
        if key not in self._held:
            stand_in = self.stand_in(name)
            if measure(name).of:
                self._held[key] = self._lost(cell, measure(name).of, mode)
                return self._held[key]
            found = (
                (run.repeat, stand_in if stand_in is not None and run.status == "diverged" else run.number(name, mode))
                for run in self._runs_of(cell, name)
            )
            self._held[key] = {repeat: value for repeat, value in found if value is not None}
        return self._held[key]

    def summary(self, cell: Cell, name: str, accuracy: str | None = None) -> Summary:
        """Return mean, spread and counts of a measure in a cell."""
        stand_in = self.stand_in(name)
        runs = self._runs_of(cell, name) if self.has_number(cell, name) else []
        status = dict(Counter(run.ending(name) if stand_in is None else run.status for run in runs))
        return summarise(self.values(cell, name, accuracy).values(), status, stand_in)

    def has_number(self, cell: Cell, name: str) -> bool:
        """Return whether a cell can have a measure: a difference from the row's `base` is only of rows with one."""
        return not measure(name).of or bool(self.spec.rows[cell[0]].base)

    def _runs_of(self, cell: Cell, name: str) -> list[Run]:
        """Return the runs that have a measure of a cell: its own, or the timings beside them."""
        return (self.costs if self.spec.costs and measure(name).timed else self.runs).get(cell, [])

    def _lost(self, cell: Cell, name: str, mode: str) -> dict[Repeat, float]:
        """Return by repeat what a cell has less than the same column has in the row's `base`."""
        base = self.spec.rows[cell[0]].base
        there = self.values((base, cell[1]), name, mode) if base else {}
        here = self.values(cell, name, mode)
        return {repeat: there[repeat] - here[repeat] for repeat in there if repeat in here}

    def stand_in(self, name: str) -> float | None:
        """Return what a diverged run counts as in a measure; None where it has no number."""
        return self.spec.diverged.counts_as if self.spec.diverged and name == self.spec.measures[0] else None

    def honest(self, cell: Cell) -> Summary:
        """Return the accuracy at the epoch that validation chose, else the last."""
        found = self.values(cell, "best_val_accuracy").values()
        return summarise(found, {"complete": len(found)})

    def honest_words(self) -> str:
        """Return how the honest epoch was chosen: ``best on validation``, ``last epoch``, or both."""
        words = {honest_words(run.result) for run in self.all() if run.result and run.status == "complete"}
        return " or ".join(sorted(words)) or "best on validation"

    def has(self, name: str) -> bool:
        """Return whether any run has this measure."""
        return any(self.values(cell, name) for cell in self.runs)

    def all(self) -> Iterable[Run]:
        """Yield every run, cell by cell."""
        for runs in self.runs.values():
            yield from runs

    def beside(self) -> Iterable[Run]:
        """Yield the trials and timings, which are no cell's own runs."""
        yield from self.trials
        for runs in self.costs.values():
            yield from runs

    def marks(self) -> bool:
        """Return whether any run, or any published number, has one of `credit.tables.measures.marks`."""
        printed = (entry for name in self.spec.measures for entry in self.spec.published_in(name).values())
        return any(entry.mark for entry in printed) or any(run.mark for run in self.all())

    def status(self) -> dict[str, int]:
        """Return how many of all runs ended how, in the order of `STATUSES`."""
        counts = Counter(run.status for run in self.all())
        return {name: counts[name] for name in STATUSES if counts[name]}


def collect(spec: Spec, manifest: Manifest) -> Collection:
    """Return the runs of a manifest, sorted into the spec's cells; nothing is read yet."""
    runs: dict[Cell, list[Run]] = {cell: [] for cell in spec.grid()}
    strays = 0
    for job in manifest.jobs:
        if (job.row, job.column) in runs:
            runs[job.row, job.column].append(Run(job))
        else:
            strays += 1
    for found in runs.values():
        found.sort(key=lambda run: [_order(value) for _, value in run.repeat])
    costs: dict[Cell, list[Run]] = {}
    for job in manifest.costs:
        if (job.row, job.column) in runs:
            costs.setdefault((job.row, job.column), []).append(Run(job))
    return Collection(spec, manifest, runs, strays, costs, [Run(job) for job in manifest.trials])


def summarise(values: Iterable[float], status: dict[str, int], stand_in: float | None = None) -> Summary:
    """Return mean, sample standard deviation and count of the values."""
    held = list(values)
    mean = fmean(held) if held else None
    return Summary(mean, stdev(held) if len(held) > 1 else None, len(held), status, stand_in)


def _order(value: Any) -> tuple[int, float, str]:
    """Sort numbers as numbers, anything else by its text behind them."""
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, json.dumps(value))
