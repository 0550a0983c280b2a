"""What a measure is, and how one is read off a run's result or the rows of its metrics; no torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

Result = dict[str, Any]
Rows = Callable[[], list[dict[str, Any]]]
"""Reads the rows of metrics.jsonl, oldest first, the first time it is called."""


@dataclass(frozen=True)
class Measure:
    """One quantity.

    Attributes:
        label: what it is, for headings.
        unit: ``%``, ``points``, ``s``, ``x`` or nothing.
        decimals: digits behind the point wherever it is printed, and those by which two means are called a tie.
        function: ``function(result, rows, accuracy)`` returns the run's number, or None where the run has none; `accuracy`
            is one of `credit.tables.spec.schema.ACCURACIES`.
        by_epoch: the number in one row of metrics; None: the row does not have it, or (no function) it has no course.
        higher_is_better: None where neither is.
        is_time: a time in seconds or its ratio, which differs between machines and from one run to the next.
        note: what must be known to read it.
        runs: which runs have it: ``complete`` ones; ``found``: also one that diverged after a reasonable model, that model's
            (`credit.tables.measures.marks`); ``over``: every run that is over.
        diagnostic: which one of ``trainer.measure`` finds it; empty: every run has it.
        timed: it is of the runner ``timing``, so that in a table with `costs` their runs have it.
        of: the measure of which it is what a cell has less than the same column in its row's `base`; empty: it is its own.
    """

    label: str
    unit: str
    decimals: int
    function: Callable[[Result, Rows, str], float | None]
    by_epoch: Callable[[dict[str, Any]], float | None] | None = None
    higher_is_better: bool | None = True
    is_time: bool = False
    note: str = ""
    runs: Literal["complete", "found", "over"] = "complete"
    diagnostic: str = ""
    timed: bool = False
    of: str = ""


def honest(result: Result) -> float | None:
    """Return the test accuracy in % of the epoch that validation chose; of the last one where nothing was held out."""
    return accuracy_on_test(result, list, "best_val")


def honest_words(result: Result) -> str:
    """Return which epoch `best_val_accuracy` takes."""
    return "last epoch" if result.get("selected_by") in (None, "last") else "best on validation"


def accuracy_on_test(result: Result, rows: Rows, accuracy: str, key: str = "test_top1") -> float | None:
    """Return the test accuracy in % of the epoch that `accuracy` names, one of `credit.tables.spec.schema.ACCURACIES`.

    With ``key="test_top5"`` the share of examples whose class is among the five largest logits.
    """
    if accuracy == "best_val":
        return percent((result.get("best") or result.get("last") or {}).get(key))
    last = of_last_epoch(result, key)
    if accuracy == "last":
        return percent(last)
    seen = [row[key] for row in rows() if row.get(key) is not None]
    seen += [] if last is None else [last]
    return percent(max(seen, default=None))


def accuracy_lost(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return how many points the last evaluation is below the best."""
    best, last = accuracy_on_test(result, rows, "best_test"), percent(of_last_epoch(result, "test_top1"))
    return None if best is None or last is None else best - last


def gap(row: dict[str, Any]) -> float | None:
    """Return training less test accuracy in points."""
    train, test = row.get("train_top1"), row.get("test_top1")
    return None if train is None or test is None else 100 * (train - test)


def alignment(row: dict[str, Any]) -> float | None:
    """Return the mean over layers of the cosines with backprop, in per cent."""
    found = cosines(row)
    return 100 * fmean(found) if found else None


def lowest_alignment(row: dict[str, Any]) -> float | None:
    """Return the least of them."""
    found = cosines(row)
    return 100 * min(found) if found else None


def cosines(row: dict[str, Any]) -> list[float]:
    """Return each layer's cosine with backprop's update."""
    layers = (row.get("alignment") or {}).values()
    return [layer["cosine"] for layer in layers if layer.get("cosine") is not None]


def of_last_row(number: Callable[[dict[str, Any]], float | None]) -> Callable[[Result, Rows, str], float | None]:
    """Return the measure that is `number` in the last row of metrics that has it."""

    def function(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = (number(row) for row in reversed(rows()))
        return next((value for value in found if value is not None), None)

    return function


def share_of_row(label: str, key: str, higher_is_better: bool | None, note: str = "") -> Measure:
    """Return the measure that is a key of a row, a share, in per cent at the last epoch."""
    return Measure(
        label,
        "%",
        1,
        lambda result, rows, accuracy: percent(of_last_epoch(result, key)),
        lambda row: percent(row.get(key)),
        higher_is_better,
        note=note,
    )


def on_test(label: str, key: str, note: str) -> Measure:
    """Return the measure that is a key of a row, a share, in per cent at the epoch whose accuracy is asked for."""
    return Measure(
        label,
        "%",
        1,
        lambda result, rows, accuracy: accuracy_on_test(result, rows, accuracy, key),
        lambda row: percent(row.get(key)),
        note=note,
        runs="found",
    )


def number_at(name: str, diagnostic: str) -> Measure:
    """Return the number at a path in a row, that of the last row that has it."""
    keys = name.split(".")

    def number(row: dict[str, Any]) -> float | None:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None

    label = ": ".join(key.replace("_", " ") for key in keys)
    note = f"`{name}` of the last row of metrics that has it"
    return Measure(label, "", 3, of_last_row(number), number, None, note=note, diagnostic=diagnostic)


def of_last_epoch(result: Result, key: str) -> float | None:
    """Return a number of the last evaluation."""
    return (result.get("last") or {}).get(key)


def percent(share: float | None) -> float | None:
    """Return a share in per cent."""
    return None if share is None else 100 * share


def time_number(label: str, unit: str, decimals: int, key: str) -> Measure:
    """Return the measure that is a time of the result, or its ratio."""
    return Measure(
        label,
        unit,
        decimals,
        lambda result, rows, accuracy: result.get(key),
        higher_is_better=False,
        is_time=True,
        timed=key == "time_ratio",
    )


def gate_number(label: str, key: str) -> Measure:
    """Return a number of a gate's shape; see `credit.tables.runners.gates`."""
    return Measure(label, "", 3, lambda result, rows, accuracy: (result.get("gate") or {}).get(key), None, None)


def in_unit(label: str, path: str, times: float, unit: str, decimals: int, better: bool | None, note: str) -> Measure:
    """Return a diagnostic's number, by its path in a row, in another unit; that of the last row that has it."""
    diagnostic = path.partition(".")[0]
    plain = number_at(path, diagnostic).by_epoch
    assert plain is not None

    def number(row: dict[str, Any]) -> float | None:
        value = plain(row)
        return None if value is None else times * value

    return Measure(label, unit, decimals, of_last_row(number), number, better, note=note, diagnostic=diagnostic)


def of_pruning(
    label: str, number: Callable[[dict[str, float]], float], note: str, better: bool | None, unit: str = "points"
) -> Measure:
    """Return a measure of pruning in per cent or points: `number` of the diagnostic's shares and accuracies, all in [0, 1].

    Args:
        label, note, better, unit: as of `Measure`.
        number: of `prunable`, `prunable_within_1` and accuracies by per cent pruned (``p0``, ``p5``, ...).
    """

    def found(row: dict[str, Any]) -> float | None:
        held = row.get("pruning")
        return None if held is None else 100 * number({**held, **held["accuracy"]})

    return Measure(label, unit, 1, of_last_row(found), found, better, note=note, diagnostic="pruning")


def log_lipschitz(row: dict[str, Any]) -> float | None:
    """Return the logarithm to base 10 of the Lipschitz estimate: of logarithms, differences are ratios."""
    held = row.get("lipschitz")
    return None if held is None or not held["estimate"] > 0 else math.log10(held["estimate"])


def ratio_moved(row: dict[str, Any]) -> float | None:
    """Return how far the parameters' median over their 75th percentile is from what it was before the first step."""
    held = row.get("magnitudes")
    return None if held is None else abs(held["ratio"] - held["start"])


def signal_number(label: str, key: str, decimals: int) -> Measure:
    """Return a number of the signal at the input; see `credit.tables.runners.shattering`."""
    return Measure(
        label, "", decimals, lambda result, rows, accuracy: (result.get("signal") or {}).get(key), None, None
    )
