"""What a table can show of a run: its accuracy, gap, time, or any number of its metrics; one number a run, no torch.

A measure reads a run's ``result.json`` and, only where it must, the rows of its ``metrics.jsonl``. Accuracies and shares are
in per cent, their differences in points.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from credit.errors import UserError, nearest

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
            is one of `credit.papers.spec.ACCURACIES`.
        by_epoch: the number in one row of metrics; None: the row does not have it, or (no function) it has no course.
        higher_is_better: None where neither is.
        is_time: a time in seconds or its ratio, which differs between machines and from one run to the next.
        note: what must be known to read it.
    """

    label: str
    unit: str
    decimals: int
    function: Callable[[Result, Rows, str], float | None]
    by_epoch: Callable[[dict[str, Any]], float | None] | None = None
    higher_is_better: bool | None = True
    is_time: bool = False
    note: str = ""


def measure(name: str) -> Measure:
    """Return a measure by name, or by path: ``descent.holds`` is that number of the last row of metrics that has it,
    ``mean.descent.holds`` (also ``min``, ``max``) that of all rows that have it.

    Raises:
        UserError: neither a name nor a path.
    """
    if name in MEASURES:
        return MEASURES[name]
    if re.fullmatch(r"\w+(\.\w+)+", name):
        return _path(name)
    raise UserError(
        f"unknown measure '{name}': {nearest(name, MEASURES)}. A number of metrics.jsonl is written as its path: descent.holds"
    )


def _honest(result: Result) -> float | None:
    """Return the test accuracy in % of the epoch that validation chose; of the last one where nothing was held out."""
    return _percent((result.get("best") or result.get("last") or {}).get("test_top1"))


def honest_words(result: Result) -> str:
    """Say which epoch `best_val_accuracy` takes."""
    return "last epoch" if result.get("selected_by") in (None, "last") else "best on validation"


def _accuracy(result: Result, rows: Rows, accuracy: str) -> float | None:
    if accuracy == "best_val":
        return _honest(result)
    last = _last(result, "test_top1")
    if accuracy == "last":
        return _percent(last)
    seen = [row["test_top1"] for row in rows() if row.get("test_top1") is not None]
    seen += [] if last is None else [last]
    return _percent(max(seen, default=None))


def _gap(row: dict[str, Any]) -> float | None:
    train, test = row.get("train_top1"), row.get("test_top1")
    return None if train is None or test is None else 100 * (train - test)


def _alignment(row: dict[str, Any]) -> float | None:
    cosines = _cosines(row)
    return 100 * fmean(cosines) if cosines else None


def _lowest_alignment(row: dict[str, Any]) -> float | None:
    cosines = _cosines(row)
    return 100 * min(cosines) if cosines else None


def _cosines(row: dict[str, Any]) -> list[float]:
    layers = (row.get("alignment") or {}).values()
    return [layer["cosine"] for layer in layers if layer.get("cosine") is not None]


def _of_last_row(number: Callable[[dict[str, Any]], float | None]) -> Callable[[Result, Rows, str], float | None]:
    """Return the measure that is `number` in the last row of metrics that has it."""

    def function(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = (number(row) for row in reversed(rows()))
        return next((value for value in found if value is not None), None)

    return function


def _share(label: str, key: str, higher_is_better: bool | None, note: str = "") -> Measure:
    """Return the measure that is a key of a row, a share, in per cent at the last epoch."""
    return Measure(
        label,
        "%",
        1,
        lambda result, rows, accuracy: _percent(_last(result, key)),
        lambda row: _percent(row.get(key)),
        higher_is_better,
        note=note,
    )


def _path(name: str) -> Measure:
    over = name.partition(".")[0]
    over = over if over in _OVER and name.count(".") > 1 else ""
    keys = name.removeprefix(f"{over}.").split(".") if over else name.split(".")

    def number(row: dict[str, Any]) -> float | None:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None

    def over_rows(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = [value for row in rows() if (value := number(row)) is not None]
        return _OVER[over](found) if found else None

    label = ": ".join(key.replace("_", " ") for key in keys)
    if over:
        told = f"{label}, {over} over the run"
        note = f"`{'.'.join(keys)}`: {over} over the rows of metrics that have it"
        return Measure(told, "", 3, over_rows, number, None, note=note)
    return Measure(
        label, "", 3, _of_last_row(number), number, None, note=f"`{name}` of the last row of metrics that has it"
    )


_OVER: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "min": min, "max": max}


def _last(result: Result, key: str) -> float | None:
    return (result.get("last") or {}).get(key)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _time(label: str, unit: str, decimals: int, key: str) -> Measure:
    return Measure(
        label, unit, decimals, lambda result, rows, accuracy: result.get(key), higher_is_better=False, is_time=True
    )


_FED = (
    "training accuracy is counted while the network trains, on the examples as they are fed and on the labels trained on: "
    "wrong ones too under label noise"
)

MEASURES = {
    "accuracy": Measure("test accuracy", "%", 1, _accuracy, lambda row: _percent(row.get("test_top1"))),
    "best_val_accuracy": Measure(
        "test accuracy, best epoch on validation",
        "%",
        1,
        lambda result, rows, accuracy: _honest(result),
        lambda row: _percent(row.get("test_top1")),
        note="the last epoch where nothing was held out",
    ),
    "best_test_accuracy": Measure(
        "test accuracy, best epoch on test (chosen on test: not an estimate)",
        "%",
        1,
        lambda result, rows, accuracy: _accuracy(result, rows, "best_test"),
        note="what a paper reports that selects on test; of the epochs that were evaluated",
    ),
    "last_accuracy": _share("test accuracy, last epoch", "test_top1", True),
    "train_accuracy": _share("training accuracy (on the labels trained on)", "train_top1", None, _FED),
    "gap": Measure(
        "generalisation gap (training on the labels trained on − test accuracy)",
        "points",
        1,
        lambda result, rows, accuracy: _gap(result.get("last") or {}),
        _gap,
        None,
        note=_FED,
    ),
    "memorised": _share("wrong training labels answered", "memorised", False),
    "recovered": _share("true classes answered in spite of a wrong label", "recovered", True),
    "alignment": Measure(
        "cosine with backprop's update, mean over layers", "%", 1, _of_last_row(_alignment), _alignment, None
    ),
    "lowest_alignment": Measure(
        "cosine with backprop's update, lowest layer", "%", 1, _of_last_row(_lowest_alignment), _lowest_alignment, None
    ),
    "seconds_per_epoch": _time("seconds an epoch", "s", 2, "seconds_per_epoch"),
    "time_ratio": _time("time over the reference's", "x", 2, "time_ratio"),
    "total_seconds": _time("seconds a run", "s", 1, "seconds"),
}
"""Measures by name; `measure` also reads paths."""
