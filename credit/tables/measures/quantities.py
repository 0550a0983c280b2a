"""The class of measures, and functions that compute one from a run's result or the rows of its metrics. Imports no torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

Result = dict[str, Any]
"""The content of result.json."""

Row = dict[str, Any]
"""A row of metrics.jsonl."""

Rows = Callable[[], list[Row]]
"""A function that returns the rows of metrics.jsonl, oldest first, and reads the file at its first call."""


@dataclass(frozen=True)
class Measure:
    """A quantity of a run.

    Attributes:
        label: the name for headings.
        unit: ``%``, ``points``, ``s``, ``x`` or empty.
        decimals: number of decimals in print; means that are equal at this precision are a tie.
        function: ``function(result, rows, accuracy)`` returns the run's value, or None without one; `accuracy` is one of
            `credit.tables.spec.schema.ACCURACIES`.
        by_epoch: a function that returns the value in a row of metrics, or None without one; None (no function) if the measure
            has no value by epoch.
        higher_is_better: whether larger values are better; None if neither is.
        is_time: whether it is a time or a ratio of times, which differs between machines and between runs.
        note: an explanation for readers.
        runs: the runs that have it: ``complete`` ones; ``found``: also those that diverged after a reasonable model, with that
            model's value (`credit.tables.measures.marks`); ``over``: all runs that are over.
        diagnostic: the diagnostic of ``trainer.measure`` that it is computed from; empty if every run has it.
        timed: whether the runner ``timing`` measures it, so that in a table with `costs` the timings have it.
        of: the measure whose value in the row's `base` and the same column, minus that in the cell, it is; empty for any other.
    """

    label: str
    unit: str
    decimals: int
    function: Callable[[Result, Rows, str], float | None]
    by_epoch: Callable[[Row], float | None] | None = None
    higher_is_better: bool | None = True
    is_time: bool = False
    note: str = ""
    runs: Literal["complete", "found", "over"] = "complete"
    diagnostic: str = ""
    timed: bool = False
    of: str = ""


def honest_words(result: Result) -> str:
    """Return the epoch of the measure ``best_val_accuracy`` as a text."""
    return "last epoch" if result.get("selected_by") in (None, "last") else "best on validation"


def accuracy_on_test(result: Result, rows: Rows, accuracy: str, key: str = "test_top1") -> float | None:
    """Return the test accuracy of a run, in per cent; None without one.

    Args:
        result: content of the run's result.json.
        rows: returns the rows of its metrics.
        accuracy: the epoch, one of `credit.tables.spec.schema.ACCURACIES`.
        key: ``test_top1``, or another number of an evaluation in [0, 1], such as ``test_top5``.
    """
    return percent(value_on_test(result, rows, accuracy, key, max))


def value_on_test(
    result: Result, rows: Rows, accuracy: str, key: str, better: Callable[..., float | None]
) -> float | None:
    """Return a number of an evaluation at the epoch that `accuracy` names; None without one.

    Args:
        result, rows, accuracy: as of `accuracy_on_test`.
        key: the number's key in a row of metrics.
        better: ``max`` or ``min``: which of all epochs the best on test is.
    """
    if accuracy == "best_val":
        value: float | None = (result.get("best") or result.get("last") or {}).get(key)
        return value
    last = of_last_epoch(result, key)
    if accuracy == "last":
        return last
    seen = [row[key] for row in rows() if row.get(key) is not None]
    seen += [] if last is None else [last]
    return better(seen, default=None)


def accuracy_lost(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return the best test accuracy minus the last, in percentage points; arguments as of `accuracy_on_test`."""
    best, last = accuracy_on_test(result, rows, "best_test"), percent(of_last_epoch(result, "test_top1"))
    return None if best is None or last is None else best - last


def gap(row: Row) -> float | None:
    """Return the training accuracy minus the test accuracy in a row of metrics, in percentage points; None without them."""
    train, test = row.get("train_top1"), row.get("test_top1")
    return None if train is None or test is None else 100 * (train - test)


def alignment(row: Row) -> float | None:
    """Return the mean over layers of the cosine with backprop's update in a row of metrics, in per cent; None without one."""
    found = cosines(row)
    return 100 * fmean(found) if found else None


def lowest_alignment(row: Row) -> float | None:
    """Return the smallest cosine of a layer with backprop's update in a row of metrics, in per cent; None without one."""
    found = cosines(row)
    return 100 * min(found) if found else None


def cosines(row: Row) -> list[float]:
    """Return the cosines with backprop's update of all layers in a row of metrics, in [-1, 1]."""
    layers = (row.get("alignment") or {}).values()
    return [layer["cosine"] for layer in layers if layer.get("cosine") is not None]


def of_last_row(number: Callable[[Row], float | None]) -> Callable[[Result, Rows, str], float | None]:
    """Return a `Measure.function` that returns `number` of the last row of metrics for which it is not None."""

    def function(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = (number(row) for row in reversed(rows()))
        return next((value for value in found if value is not None), None)

    return function


def of_row(
    label: str, unit: str, decimals: int, number: Callable[[Row], float | None], better: bool | None, note: str = "",
    diagnostic: str = "",
) -> Measure:  # fmt: skip
    """Return the measure of a number in the last row of metrics that has it.

    Args:
        label, unit, decimals, note, diagnostic: as of `Measure`.
        number: `Measure.by_epoch`.
        better: `Measure.higher_is_better`.
    """
    return Measure(label, unit, decimals, of_last_row(number), number, better, note=note, diagnostic=diagnostic)


def of_result(
    label: str, path: str, decimals: int, *, unit: str = "", better: bool | None = None, **more: Any
) -> Measure:
    """Return the measure of a number in a run's result.

    Args:
        label, decimals, unit: as of `Measure`.
        path: dotted path of the number in result.json.
        better: `Measure.higher_is_better`.
        more: other fields of `Measure`.
    """
    return Measure(label, unit, decimals, lambda result, rows, accuracy: value_at(result, path), None, better, **more)


def share_of_row(label: str, key: str, better: bool | None, note: str = "") -> Measure:
    """Return the measure of a fraction in a row of metrics, at the last epoch, in per cent.

    Args:
        label, note: as of `Measure`.
        key: the fraction's key in a row.
        better: `Measure.higher_is_better`.
    """
    return replace(
        on_test(label, key, note),
        function=lambda result, rows, accuracy: percent(of_last_epoch(result, key)),
        higher_is_better=better,
        runs="complete",
    )


def on_test(label: str, key: str = "test_top1", note: str = "", epoch: str = "") -> Measure:
    """Return the measure of a fraction in a row of metrics, in per cent.

    Args:
        label, note: as of `Measure`.
        key: the fraction's key in a row.
        epoch: one of `credit.tables.spec.schema.ACCURACIES`; empty for that of the table's accuracy.
    """
    return Measure(
        label,
        "%",
        1,
        lambda result, rows, accuracy: accuracy_on_test(result, rows, epoch or accuracy, key),
        lambda row: percent(row.get(key)),
        note=note,
        runs="found",
    )


def value_of(label: str, key: str, decimals: int, *, better: bool, unit: str = "", note: str = "") -> Measure:
    """Return the measure of a number of an evaluation, at the epoch of the table's accuracy.

    Args:
        label, decimals, unit, note: as of `Measure`.
        key: the number's key in a row of metrics.
        better: `Measure.higher_is_better`.
    """
    best = max if better else min
    return Measure(
        label,
        unit,
        decimals,
        lambda result, rows, accuracy: value_on_test(result, rows, accuracy, key, best),
        lambda row: row.get(key),
        better,
        note=note,
    )


def number_at(path: str, diagnostic: str) -> Measure:
    """Return the measure of a number in the last row of metrics that has it.

    Args:
        path: dotted path of the number in a row.
        diagnostic: as of `Measure`.
    """
    label = path.replace("_", " ").replace(".", ": ")
    return of_row(label, "", 3, _at(path), None, f"`{path}` of the last row of metrics that has it", diagnostic)


def value_at(held: Any, path: str) -> Any:
    """Return the value at a dotted path in nested mappings; None without one."""
    for key in path.split("."):
        held = held.get(key) if isinstance(held, dict) else None
    return held


def _at(path: str, times: float = 1.0) -> Callable[[Row], float | None]:
    def number(row: Row) -> float | None:
        value = value_at(row, path)
        return times * value if isinstance(value, int | float) else None

    return number


def of_last_epoch(result: Result, key: str) -> float | None:
    """Return a number of the last evaluation in a result, or None."""
    return (result.get("last") or {}).get(key)


def percent(share: float | None) -> float | None:
    """Return a fraction in per cent; None for None."""
    return None if share is None else 100 * share


def in_unit(label: str, path: str, times: float, unit: str, decimals: int, better: bool | None, note: str) -> Measure:
    """Return the measure of a diagnostic's number, in another unit, in the last row of metrics that has it.

    Args:
        label, unit, decimals, note: as of `Measure`.
        path: dotted path of the number in a row, which begins with the diagnostic's name.
        times: factor of the unit.
        better: `Measure.higher_is_better`.
    """
    return of_row(label, unit, decimals, _at(path, times), better, note, path.partition(".")[0])


def of_pruning(
    label: str, number: Callable[[dict[str, float]], float], note: str, better: bool | None, unit: str = "points"
) -> Measure:
    """Return a measure of pruning, in per cent or points.

    Args:
        label, note, unit: as of `Measure`.
        number: a function of the diagnostic's numbers in [0, 1]: ``prunable``, ``prunable_within_1`` and the accuracies by per
            cent pruned (``p0``, ``p5``, ...).
        better: `Measure.higher_is_better`.
    """

    def found(row: Row) -> float | None:
        held = row.get("pruning")
        return None if held is None else 100 * number({**held, **held["accuracy"]})

    return of_row(label, unit, 1, found, better, note, "pruning")


def log_lipschitz(row: Row) -> float | None:
    """Return the decimal logarithm of the Lipschitz estimate in a row of metrics; None without a positive one."""
    held = row.get("lipschitz")
    return None if held is None or not held["estimate"] > 0 else math.log10(held["estimate"])


def ratio_moved(row: Row) -> float | None:
    """Return the distance of the parameters' ratio (`credit.diagnostics.magnitudes`) in a row of metrics from its initial value."""
    held = row.get("magnitudes")
    return None if held is None else abs(held["ratio"] - held["start"])
