"""What a table can show of a run: its accuracy, gap, time, or any number of its metrics; one number a run, no torch.

A measure reads a run's ``result.json`` and, only where it must, the rows of its ``metrics.jsonl``. Accuracies and shares are
in per cent, their differences in points.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from credit.config import schema
from credit.config.plugins import user_diagnostics
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
        diagnostic: which one of ``trainer.measure`` finds it; empty: every run has it.
    """

    label: str
    unit: str
    decimals: int
    function: Callable[[Result, Rows, str], float | None]
    by_epoch: Callable[[dict[str, Any]], float | None] | None = None
    higher_is_better: bool | None = True
    is_time: bool = False
    note: str = ""
    diagnostic: str = ""


NUMBERS = (
    "epoch", "step", "lr", "seconds", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "test_loss", "test_top1",
    "test_top5", "memorised", "recovered",
)  # fmt: skip
"""What a row of metrics.jsonl says in one number."""

GROUPS = ("signals", "per_class")
"""What it says in several; those of a diagnostic are under its name."""


def measure(name: str) -> Measure:
    """Return a measure by name or by path, or its mean, least or largest value over a run.

        accuracy, alignment            of `MEASURES`
        descent.holds, val_loss        that number of the last row of metrics that has it
        mean.descent.holds             over all rows that have it; also ``min`` and ``max``
        min.lowest_alignment           the same of a named measure by epoch

    Raises:
        UserError: none of these; the nearest is named.
    """
    if name in MEASURES:
        return MEASURES[name]
    over, _, of = name.partition(".")
    if over in _OVER and of:
        return _over_rows(name, over, _one(name, of))
    return _one(name, name)


def _one(whole: str, name: str) -> Measure:
    """Return a measure by name or path; `whole` is what was written."""
    if name in MEASURES:
        return MEASURES[name]
    own = user_diagnostics()
    diagnostics, keys = (*schema.MEASURES, *own), name.split(".")
    parts = len(keys) > 1 and all(re.fullmatch(r"\w+", key) for key in keys)
    if name in NUMBERS or (parts and keys[0] in (*GROUPS, *diagnostics)):
        return _path(name, keys[0] if keys[0] in diagnostics else "")
    if keys[0] in (*GROUPS, *diagnostics):
        raise UserError(f"unknown measure '{whole}': {keys[0]} is several numbers: write which one, as descent.holds")
    if keys[0] in (*MEASURES, *NUMBERS):
        raise UserError(f"unknown measure '{whole}': {keys[0]} is one number and has no parts")
    if parts:
        told = f"a row of metrics.jsonl has no '{keys[0]}': {nearest(keys[0], (*NUMBERS, *GROUPS, *diagnostics))}"
        raise UserError(f"unknown measure '{whole}': {told}")
    text = f"unknown measure '{whole}': {nearest(name, (*MEASURES, *NUMBERS))}"
    raise UserError(f"{text}. A number of metrics.jsonl is written as its path: descent.holds")


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


def _lost(result: Result, rows: Rows, accuracy: str) -> float | None:
    best, last = _accuracy(result, rows, "best_test"), _percent(_last(result, "test_top1"))
    return None if best is None or last is None else best - last


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


def _path(name: str, diagnostic: str) -> Measure:
    """Return the number at a path in a row, that of the last row that has it."""
    keys = name.split(".")

    def number(row: dict[str, Any]) -> float | None:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None

    label = ": ".join(key.replace("_", " ") for key in keys)
    note = f"`{name}` of the last row of metrics that has it"
    return Measure(label, "", 3, _of_last_row(number), number, None, note=note, diagnostic=diagnostic)


def _over_rows(name: str, over: str, of: Measure) -> Measure:
    """Return the mean, least or largest value over a run's rows of a measure that has one a row."""
    number, path = of.by_epoch, name.removeprefix(f"{over}.")
    if number is None:
        raise UserError(f"unknown measure '{name}': {path} is one number a run, so there is no {over} over its rows")

    def function(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = [value for row in rows() if (value := number(row)) is not None]
        return _OVER[over](found) if found else None

    note = f"`{path}`: {over} over the rows of metrics that have it"
    return replace(of, label=f"{of.label}, {over} over the run", function=function, note=note)


_OVER: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "min": min, "max": max}


def _last(result: Result, key: str) -> float | None:
    return (result.get("last") or {}).get(key)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _time(label: str, unit: str, decimals: int, key: str) -> Measure:
    return Measure(
        label, unit, decimals, lambda result, rows, accuracy: result.get(key), higher_is_better=False, is_time=True
    )


def _gate(label: str, key: str) -> Measure:
    """Return a number of a gate's shape; see `credit.papers.gates`."""
    return Measure(label, "", 3, lambda result, rows, accuracy: (result.get("gate") or {}).get(key), None, None)


def _found(label: str, path: str, times: float, unit: str, decimals: int, better: bool | None, note: str) -> Measure:
    """Return a diagnostic's number, by its path in a row, in another unit; that of the last row that has it."""
    diagnostic = path.partition(".")[0]
    plain = _path(path, diagnostic).by_epoch
    assert plain is not None

    def number(row: dict[str, Any]) -> float | None:
        value = plain(row)
        return None if value is None else times * value

    return Measure(label, unit, decimals, _of_last_row(number), number, better, note=note, diagnostic=diagnostic)


def _signal(label: str, key: str, decimals: int) -> Measure:
    """Return a number of the signal at the input; see `credit.papers.shattering`."""
    return Measure(
        label, "", decimals, lambda result, rows, accuracy: (result.get("signal") or {}).get(key), None, None
    )


_PRUNED = (
    "the smallest weights of linear and convolution layers set to zero, all layers together, without training on; the largest "
    "share up to which test accuracy stays"
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
    "accuracy_lost": Measure(
        "test accuracy lost since the best evaluation", "points", 1, _lost, higher_is_better=False, note="best minus last"
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
        "cosine with backprop's update, mean over layers",
        "%",
        1,
        _of_last_row(_alignment),
        _alignment,
        None,
        diagnostic="alignment",
    ),
    "lowest_alignment": Measure(
        "cosine with backprop's update, lowest layer",
        "%",
        1,
        _of_last_row(_lowest_alignment),
        _lowest_alignment,
        None,
        diagnostic="alignment",
    ),
    "sign_changes": _found(
        "parameters that changed sign over the last epoch",
        "signs.share",
        100,
        "%",
        2,
        None,
        "or the period that trainer.measure_every asks for",
    ),
    "parameter_mse": _found(
        "mean squared change of the parameters over the last epoch, times 10^9",
        "drift.mse",
        1e9,
        "",
        1,
        None,
        "or the period that trainer.measure_every asks for",
    ),
    "parameter_ratio": _found(
        "median over 75th percentile of the parameters' absolute values", "magnitudes.ratio", 1, "", 3, None, ""
    ),
    "prunable": _found(
        "weights prunable at 0.9 of the accuracy",
        "pruning.prunable",
        100,
        "%",
        1,
        True,
        f"{_PRUNED} above 0.9 of the unpruned",
    ),
    "prunable_within_1": _found(
        "weights prunable at a loss of one point",
        "pruning.prunable_within_1",
        100,
        "%",
        1,
        True,
        f"{_PRUNED} within a point of the unpruned",
    ),
    "signal_correlation": _signal("autocorrelation at lag 1 of the signal at the input", "lag1", 3),
    "signal_rms": _signal("RMS of the signal at the input", "rms", 4),
    "signal_typical": _signal("median of the signal's absolute values over the largest", "typical", 4),
    "gate_from": _gate("least z at which the gate passes", "from"),
    "gate_to": _gate("largest z at which the gate passes", "to"),
    "gate_peak": _gate("gate's largest factor", "peak"),
    "gate_mean": _gate("gate's mean factor over the z shown", "mean"),
    "seconds_per_epoch": _time("seconds an epoch", "s", 2, "seconds_per_epoch"),
    "time_ratio": _time("time over the reference's", "x", 2, "time_ratio"),
    "total_seconds": _time("seconds a run", "s", 1, "seconds"),
}
"""Measures by name; `measure` also reads paths."""
