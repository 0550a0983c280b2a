"""Collect a table's runs by cell: their status, and each measure by repeat.

Files are read when they are needed: metrics.jsonl only for a measure or a figure that is not in result.json.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, TypeAlias

from credit.core.errors import UserError
from credit.runs.folder import read_result
from credit.runs.metrics import read_metrics
from credit.tables.expand.manifest import Job, Manifest
from credit.tables.measures.marks import CROSS, DAGGER, mark
from credit.tables.measures.measures import measure
from credit.tables.measures.quantities import honest_words
from credit.tables.measures.twins import find
from credit.tables.spec.schema import Spec

STATUSES = ("complete", "diverged", "failed", "damaged", "missing")
"""The statuses of a run; damaged: its result.json cannot be read."""

Cell: TypeAlias = tuple[str, str]
Repeat: TypeAlias = tuple[tuple[str, Any], ...]


def _mention(damage: UserError) -> None:
    """Print what is damaged; the report is made without it."""
    print(f"left out of the report: {damage}", file=sys.stderr)


@dataclass
class Run:
    """A job of a table and its result."""

    job: Job

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None if the run is not over, and a status alone where it is damaged."""
        try:
            return read_result(self.job.path())
        except UserError as damage:
            _mention(damage)
            return {"status": "damaged"}

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        found = "missing" if self.result is None else str(self.result.get("status"))
        return found if found in STATUSES else "failed"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, oldest first; none where the file is damaged."""
        try:
            return read_metrics(self.job.path())
        except UserError as damage:
            _mention(damage)
            return []

    @property
    def repeat(self) -> Repeat:
        """The settings in which the run differs from the other runs of its cell."""
        return tuple((key, json.dumps(v) if isinstance(v, list | dict) else v) for key, v in self.job.repeat.items())

    @property
    def mark(self) -> str:
        """The mark of a run that diverged or collapsed under the stopping rule (`credit.tables.measures.marks`); else empty."""
        return "" if self.result is None else mark(self.result)

    def has(self, name: str) -> bool:
        """Return whether the run can have a measure, by its status and its mark."""
        kind = measure(name).runs
        if kind == "over":
            return self.status in ("complete", "diverged")
        if kind == "found" and self.mark == DAGGER:
            return True
        return self.status == "complete" and self.mark != CROSS

    def ending(self, name: str) -> str:
        """Return how the run ended, for a measure: one of `STATUSES`, or its mark."""
        return "complete" if measure(name).runs == "over" and self.has(name) else self.mark or self.status

    def number(self, name: str, accuracy: str) -> float | None:
        """Return the value of a measure; None for a run that cannot have it (`has`) or whose value is not finite.

        For a run with a `DAGGER` the accuracy of the last epoch is that of the model found before it ended.

        Args:
            name: name of the measure.
            accuracy: one of `credit.tables.spec.schema.ACCURACIES`.
        """
        if self.result is None or not self.has(name):
            return None
        mode = "best_val" if accuracy == "last" and self.mark == DAGGER else accuracy
        value = measure(name).function(self.result, lambda: self.rows, mode)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Summary:
    """The repeats of a cell as one entry.

    Attributes:
        mean, std: mean and sample standard deviation of the runs with a value; std is None for fewer than two.
        n: number of runs with a value.
        status: number of runs by how they ended: `STATUSES`, or `credit.tables.measures.marks` under the stopping rule.
        stand_in: the value that a diverged run counts as; None if it has no value.
    """

    mean: float | None
    std: float | None
    n: int
    status: dict[str, int] = field(default_factory=dict)
    stand_in: float | None = None

    @property
    def asked(self) -> int:
        """The number of runs of the cell in the table."""
        return sum(self.status.values())

    @property
    def mark(self) -> str:
        """The mark shared by all runs with a value; `CROSS` if no run has one; else empty."""
        if self.asked and self.status.get(CROSS) == self.asked:
            return CROSS
        return DAGGER if self.n and self.status.get(DAGGER) == self.n else ""

    def counts(self) -> str:
        """Return the number of runs with a value if it is not that of all runs: ``2 of 3, 1 diverged``; else empty.

        Diverged runs that count as a given value are always included: ``1 diverged, counted as 9.9``.
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
    """A table's runs by cell.

    Attributes:
        spec: the table.
        manifest: its expansion.
        runs: runs by cell, in the spec's order; cells that the budget leaves out have none.
        strays: number of jobs of cells that the spec no longer has.
        costs: timings by cell.
        trials: runs of the candidates by which cells are tuned.
    """

    spec: Spec
    manifest: Manifest
    runs: dict[Cell, list[Run]]
    strays: int
    costs: dict[Cell, list[Run]] = field(default_factory=dict)
    trials: list[Run] = field(default_factory=list)
    _held: dict[tuple[Cell, str, str], dict[Repeat, float]] = field(default_factory=dict)

    @cached_property
    def twins(self) -> dict[Cell, Cell]:
        """The earlier cell with the same runs, by cell; cells without one are left out. See `credit.tables.measures.twins`."""
        return find(self)

    def twin(self, cell: Cell, name: str, accuracy: str | None = None) -> Cell | None:
        """Return the cell with the same runs (`twins`) if a measure has the same values there too; else None.

        Runs with equal weights can differ in times and in other measures that are not functions of the weights.
        """
        twin = self.twins.get(cell)
        if twin is None:
            return None
        own, other = self.values(cell, name, accuracy), self.values(twin, name, accuracy)
        shared = [repeat for repeat in own if repeat in other]
        return twin if shared and all(own[repeat] == other[repeat] for repeat in shared) else None

    def values(self, cell: Cell, name: str, accuracy: str | None = None) -> dict[Repeat, float]:
        """Return the values of a measure in a cell, by repeat.

        Args:
            cell: the cell.
            name: name of the measure.
            accuracy: one of `credit.tables.spec.schema.ACCURACIES`; None for that of the table.
        """
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
        """Return the summary of a measure in a cell; arguments as of `values`."""
        stand_in = self.stand_in(name)
        runs = self._runs_of(cell, name) if self.has_number(cell, name) else []
        status = dict(Counter(run.ending(name) if stand_in is None else run.status for run in runs))
        return summarise(self.values(cell, name, accuracy).values(), status, stand_in)

    def has_number(self, cell: Cell, name: str) -> bool:
        """Return whether a cell can have a measure: a difference from the row's `base` requires a base."""
        return not measure(name).of or bool(self.spec.rows[cell[0]].base)

    def _runs_of(self, cell: Cell, name: str) -> list[Run]:
        """Return the runs that have a measure of a cell: its own runs or its timings."""
        return (self.costs if self.spec.costs and measure(name).timed else self.runs).get(cell, [])

    def _lost(self, cell: Cell, name: str, mode: str) -> dict[Repeat, float]:
        """Return by repeat the value in the row's `base` and the same column minus that in a cell."""
        base = self.spec.rows[cell[0]].base
        there = self.values((base, cell[1]), name, mode) if base else {}
        here = self.values(cell, name, mode)
        return {repeat: there[repeat] - here[repeat] for repeat in there if repeat in here}

    def stand_in(self, name: str) -> float | None:
        """Return the value that a diverged run counts as in a measure; None if it has no value."""
        return self.spec.diverged.as_ if self.spec.diverged and name == self.spec.measures[0] else None

    def honest(self, cell: Cell) -> Summary:
        """Return the summary of a cell's test accuracy at the best epoch on validation, else at the last."""
        found = self.values(cell, "best_val_accuracy").values()
        return summarise(found, {"complete": len(found)})

    def honest_words(self) -> str:
        """Return the epochs of `honest` as a text: ``best on validation``, ``last epoch``, or both."""
        words = {honest_words(run.result) for run in self.all() if run.result and run.status == "complete"}
        return " or ".join(sorted(words)) or "best on validation"

    def best(self, row: str, name: str) -> set[Cell]:
        """Return the cells with the best mean of a row, with ties in print.

        Empty if neither larger nor smaller values of the measure are better, or if all means of the row are equal.
        """
        kind = measure(name)
        means = {cell: self.summary(cell, name).mean for cell in self.runs if cell[0] == row}
        known = {cell: round(mean, kind.decimals) for cell, mean in means.items() if mean is not None}
        if kind.higher_is_better is None or len(set(known.values())) < 2:
            return set()
        top = (max if kind.higher_is_better else min)(known.values())
        return {cell for cell, mean in known.items() if mean == top}

    def difference(self, cell: Cell, name: str) -> float | None:
        """Return the measured mean minus the published one; None without both."""
        published, mean = self.spec.published_in(name).get(cell), self.summary(cell, name).mean
        return None if published is None or published.mean is None or mean is None else mean - published.mean

    def rows_run(self) -> list[str]:
        """Return the rows for which this budget has runs, in the spec's order."""
        run = {cell[0] for cell, runs in self.runs.items() if runs}
        return [row for row in self.spec.rows if row in run]

    def columns_run(self) -> list[str]:
        """Return the columns for which this budget has runs, in the spec's order."""
        run = {cell[1] for cell, runs in self.runs.items() if runs}
        return [column for column in self.spec.columns if column in run]

    def has(self, name: str) -> bool:
        """Return whether any run has a measure."""
        return any(self.values(cell, name) for cell in self.runs)

    def all(self) -> Iterable[Run]:
        """Yield all runs of the cells."""
        for runs in self.runs.values():
            yield from runs

    def beside(self) -> Iterable[Run]:
        """Yield the trials and the timings, which are not runs of the cells."""
        yield from self.trials
        for runs in self.costs.values():
            yield from runs

    def marks(self) -> bool:
        """Return whether any run or published number has one of `credit.tables.measures.marks`."""
        printed = (entry for name in self.spec.measures for entry in self.spec.published_in(name).values())
        return any(entry.mark for entry in printed) or any(run.mark for run in self.all())

    def status(self) -> dict[str, int]:
        """Return the number of runs by status, in the order of `STATUSES`, without zeros."""
        counts = Counter(run.status for run in self.all())
        return {name: counts[name] for name in STATUSES if counts[name]}


def collect(spec: Spec, manifest: Manifest) -> Collection:
    """Return the runs of a manifest by the spec's cells; no file is read yet.

    Args:
        spec: the table.
        manifest: its expansion.
    """
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
    """Return the summary of values: mean, sample standard deviation and count.

    Args:
        values: the values.
        status, stand_in: as of `Summary`.
    """
    held = list(values)
    mean = fmean(held) if held else None
    return Summary(mean, stdev(held) if len(held) > 1 else None, len(held), status, stand_in)


def _order(value: Any) -> tuple[int, float, str]:
    """Return a sort key that orders numbers by value, before all other values by their JSON."""
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, json.dumps(value))
