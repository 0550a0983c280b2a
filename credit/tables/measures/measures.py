"""The measures that a table can show of a run: accuracy, generalization gap, time, or any number of its metrics. Imports no torch.

A measure reads a run's ``result.json`` and, only if necessary, the rows of its ``metrics.jsonl``. Accuracies and fractions are in
per cent, their differences in percentage points.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

from credit.core import registry
from credit.core.errors import UserError, nearest
from credit.runs.summary import SHORTEST_PACE, seconds_per_epoch
from credit.tables.measures import angles
from credit.tables.measures import quantities as q
from credit.tables.measures.marks import ended_badly
from credit.tables.measures.quantities import Measure, Result, Rows

NUMBERS = (
    "epoch", "step", "lr", "seconds", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "test_loss", "test_top1",
    "test_top5", "test_precision", "test_recall", "test_f1", "memorized", "recovered", "val_r2", "val_rmse", "val_mae", "val_bits",
    "test_r2", "test_rmse", "test_mae", "test_bits",
)  # fmt: skip
"""The numbers in a row of metrics.jsonl."""

GROUPS = ("signals", "per_class")
"""The groups of numbers in a row of metrics.jsonl, besides those of diagnostics under their names."""


def measure(name: str) -> Measure:
    """Return a measure by name or path, or its mean, minimum or maximum over the rows of a run.

        accuracy, alignment            a name in `MEASURES`
        descent.holds, val_loss        the number in the last row of metrics that has it
        mean.descent.holds             the mean over all rows that have it; also ``min`` and ``max``
        min.lowest_alignment           the same for a named measure with values by epoch

    Raises:
        UserError: there is no such measure; the message gives the nearest name.
    """
    if (found := registry.known("measure", name)) is not None:
        return found.load()
    over, _, of = name.partition(".")
    if over in _OVER and of:
        return _over_rows(name, over, _one(name, of))
    return _one(name, name)


def _one(whole: str, name: str) -> Measure:
    """Return a measure by name or path; `whole` is the full name for error messages."""
    if (found := registry.known("measure", name)) is not None:
        return found.load()
    diagnostics, keys = registry.names("diagnostic"), name.split(".")
    parts = len(keys) > 1 and all(re.fullmatch(r"\w+", key) for key in keys)
    if name in NUMBERS or (parts and keys[0] in (*GROUPS, *diagnostics)):
        return q.number_at(name, keys[0] if keys[0] in diagnostics else "")
    if keys[0] in (*GROUPS, *diagnostics):
        raise UserError(f"unknown measure '{whole}': {keys[0]} is several numbers: write which one, as descent.holds")
    if keys[0] in (*MEASURES, *NUMBERS):
        raise UserError(f"unknown measure '{whole}': {keys[0]} is one number and has no parts")
    if parts:
        told = f"a row of metrics.jsonl has no '{keys[0]}': {nearest(keys[0], (*NUMBERS, *GROUPS, *diagnostics))}"
        raise UserError(f"unknown measure '{whole}': {told}")
    text = f"unknown measure '{whole}': {nearest(name, (*MEASURES, *NUMBERS))}"
    raise UserError(f"{text}. A number of metrics.jsonl is written as its path: descent.holds")


def _over_rows(name: str, over: str, of: Measure) -> Measure:
    """Return the measure that is the mean, minimum or maximum over a run's rows of a measure with values by epoch."""
    number, path = of.by_epoch, name.removeprefix(f"{over}.")
    if number is None:
        raise UserError(f"unknown measure '{name}': {path} is one number a run, so there is no {over} over its rows")

    def function(result: Result, rows: Rows, accuracy: str) -> float | None:
        found = [value for row in rows() if (value := number(row)) is not None]
        return _OVER[over](found) if found else None

    note = f"`{path}`: {over} over the rows of metrics that have it"
    return replace(of, label=f"{of.label}, {over} over the run", function=function, note=note)


_OVER: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "min": min, "max": max}


_SMALLEST = (
    "the smallest weights of linear and convolution layers set to zero, all layers together, without training on"
)
_PRUNED = f"{_SMALLEST}; the largest share up to which test accuracy stays"

_FED = (
    "training accuracy is counted while the network trains, on the examples as they are fed and on the labels trained on: "
    "wrong ones too under label noise"
)

_MACRO = "of each class by itself on the test part, averaged over classes, at the same epoch as the accuracy"

_PERIOD = "or the period that trainer.measure_every asks for"

MEASURES = {
    "accuracy": q.on_test("test accuracy"),
    "top5": q.on_test(
        "top-5 test accuracy", "test_top5",
        "of more than five classes; at the same epoch as the accuracy, but for the best on test, which is its own",
    ),
    "precision": q.on_test("precision", "test_precision", f"{_MACRO}; a class that is never answered counts as 0"),
    "recall": q.on_test("recall", "test_recall", f"{_MACRO}; the accuracy, where classes have equally many examples"),
    "f1": q.on_test("F1", "test_f1", f"{_MACRO}: of each class the harmonic mean of its precision and recall"),
    "best_val_accuracy": q.on_test(
        "test accuracy, best epoch on validation", note="the last epoch where nothing was held out", epoch="best_val"
    ),
    "best_test_accuracy": replace(
        q.on_test("test accuracy, best epoch on test (chosen on test: not an estimate)", epoch="best_test"), by_epoch=None,
        note="what a paper reports that selects on test; of the epochs that were evaluated",
    ),
    "loss": q.value_of("test loss", "test_loss", 3, better=False, note="of tokens in nats a token"),
    "bits": q.value_of("test loss in bits a token", "test_bits", 3, better=False),
    "r2": q.value_of("R² on the test part", "test_r2", 3, better=True),
    "rmse": q.value_of("root mean squared error on the test part", "test_rmse", 3, better=False, note="in units of the targets"),
    "accuracy_lost": Measure(
        "test accuracy lost since the best evaluation", "points", 1, q.accuracy_lost, None, False, note="best minus last"
    ),
    "last_accuracy": q.share_of_row("test accuracy, last epoch", "test_top1", True),
    "train_accuracy": q.share_of_row("training accuracy (on the labels trained on)", "train_top1", None, _FED),
    "gap": Measure(
        "generalisation gap (training on the labels trained on − test accuracy)", "points", 1,
        lambda result, rows, accuracy: q.gap(result.get("last") or {}), q.gap, None, note=_FED,
    ),
    "memorized": q.share_of_row("wrong labels memorized", "memorized", False),
    "recovered": q.share_of_row("true classes answered in spite of a wrong label", "recovered", True),
    "alignment": q.of_row(
        "cosine with backprop's update, mean over layers", "%", 1, q.alignment, None, "", "alignment"
    ),
    "lowest_alignment": q.of_row(
        "cosine with backprop's update, lowest layer", "%", 1, q.lowest_alignment, None, "", "alignment"
    ),
    **angles.MEASURES,
    "lipschitz": q.in_unit("Lipschitz estimate", "lipschitz.estimate", 1, "", 2, False, ""),
    "log_lipschitz": q.of_row(
        "Lipschitz estimate, logarithm", "", 3, q.log_lipschitz, False,
        "to base 10: a difference of 0.3 is a factor of two", "lipschitz",
    ),
    "sign_changes": q.in_unit(
        "parameters that changed sign (over the last epoch)", "signs.share", 100, "%", 2, None, _PERIOD
    ),
    "parameter_mse": q.in_unit(
        "mean squared change of the parameters over the last epoch, times 10^9", "drift.mse", 1e9, "", 1, None, _PERIOD
    ),
    "parameter_ratio": q.in_unit(
        "median over 75th percentile (of the parameters' absolute values)", "magnitudes.ratio", 1, "", 3, None, ""
    ),
    "parameter_ratio_moved": q.of_row(
        "median over 75th percentile: distance from its start", "", 3, q.ratio_moved, None,
        "how far the ratio of the parameters' absolute values is from that before the first step", "magnitudes",
    ),
    "prunable": q.in_unit(
        "weights prunable at 0.9 of the accuracy", "pruning.prunable", 100, "%", 1, True,
        f"{_PRUNED} above 0.9 of the unpruned",
    ),
    "prunable_within_1": q.in_unit(
        "weights prunable at a loss of one point", "pruning.prunable_within_1", 100, "%", 1, True,
        f"{_PRUNED} within a point of the unpruned",
    ),
    "prunable_by_layer": q.in_unit(
        "weights prunable at 0.9 of the accuracy, an equal share of every layer", "pruning_by_layer.prunable", 100, "%", 1, True,
        "as without `by_layer`, but every layer loses the same share of its weights",
    ),
    "pruned_accuracy_70": q.of_pruning("test accuracy with 70 % of the weights pruned", lambda p: p["p70"], _SMALLEST, True, "%"),
    "pruned_accuracy_90": q.of_pruning("test accuracy with 90 % of the weights pruned", lambda p: p["p90"], _SMALLEST, True, "%"),
    "pruning_loss_40": q.of_pruning(
        "test accuracy lost with 40 % of the weights pruned", lambda p: p["p0"] - p["p40"], _SMALLEST, False
    ),
    "pruning_loss_80": q.of_pruning(
        "test accuracy lost with 80 % of the weights pruned", lambda p: p["p0"] - p["p80"], _SMALLEST, False
    ),
    "pruning_span": q.of_pruning(
        "weights pruned between a loss of one point and one of a tenth of the accuracy",
        lambda p: p["prunable"] - p["prunable_within_1"], f"{_SMALLEST}; the wider, the slower accuracy falls once it does", None,
    ),
    "signal_correlation": q.of_result("autocorrelation at lag 1 of the signal at the input", "signal.lag1", 3),
    "signal_rms": q.of_result("RMS of the signal at the input", "signal.rms", 4),
    "signal_typical": q.of_result("median of the signal's absolute values over the largest", "signal.typical", 4),
    "gate_from": q.of_result("least z at which the gate passes", "gate.from", 3),
    "gate_to": q.of_result("largest z at which the gate passes", "gate.to", 3),
    "gate_peak": q.of_result("gate's largest factor", "gate.peak", 3),
    "gate_mean": q.of_result("gate's mean factor over the z shown", "gate.mean", 3),
    "diverged": Measure(
        "runs that diverged or collapsed", "%", 0,
        lambda result, rows, accuracy: 100.0 * ended_badly(result) if "status" in result else None, higher_is_better=False,
        note="of the runs that are over; collapsed: given up by `trainer.stop_when=collapsed`", runs="over",
    ),
    "seconds_per_epoch": Measure(
        "seconds an epoch", "s", 2, lambda result, rows, accuracy: seconds_per_epoch(result), None, False, is_time=True,
        note=f"only of runs that trained for {SHORTEST_PACE:g} s or longer",
    ),
    "time_ratio": q.of_result(
        "time over the reference's", "time_ratio", 2, unit="x", better=False, is_time=True, timed=True
    ),
    "memory_ratio": q.of_result(
        "peak memory of a step, without parameters and optimizer, over the reference's", "memory_ratio", 2, unit="x", better=False,
        note="gradients are counted, parameters, the rule's own too, and the optimizer's state are not", timed=True,
    ),
    "noise_loss": Measure(
        "test accuracy lost to noise", "points", 1, lambda result, rows, accuracy: None, None, False, of="accuracy",
        note="the accuracy of the same seed in the row's `base` less its own",
    ),
    "total_seconds": q.of_result("seconds a run", "seconds", 1, unit="s", better=False, is_time=True),
}  # fmt: skip
"""Measures by name; `measure` also accepts paths."""

registry.provide("measure", MEASURES)
