"""Numbers of a rule's updates beside backprop's, from the rows that the diagnostic `alignment` wrote; no torch."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from credit.tables.measures.quantities import Measure, Result, Rows, of_last_row

Row = dict[str, Any]

KEYS = {
    "angle": "angle to backprop's update, degrees",
    "cosine": "cosine with backprop's update",
    "norm": "norm of the update",
    "reference_norm": "norm of backprop's update",
    "difference_norm": "norm of the difference",
    "norm_ratio": "norm over backprop's",
}
"""What the diagnostic says of a layer, with the words for an axis."""


def mean_angle(row: Row) -> float | None:
    """Return the mean over layers of the angles to backprop's update, in degrees."""
    found = _angles(row)
    return fmean(found) if found else None


def largest_angle(row: Row) -> float | None:
    """Return the largest of them."""
    return max(_angles(row), default=None)


def difference_share(row: Row) -> float | None:
    """Return the norm of the whole difference from backprop's update over the norm of that, all layers together, in per cent."""
    layers = [layer for layer in (row.get("alignment") or {}).values() if "difference_norm" in layer]
    theirs = math.hypot(*(layer["reference_norm"] for layer in layers))
    return 100 * math.hypot(*(layer["difference_norm"] for layer in layers)) / theirs if theirs else None


def first_steps(rows: list[Row]) -> list[Row]:
    """Return the rows of the run's first steps as far as they were measured one by one (``trainer.measure_first``)."""
    by_step = {row["step"]: row for row in rows if row.get("alignment")}
    found: list[Row] = []
    while len(found) + 1 in by_step:
        found.append(by_step[len(found) + 1])
    return found


def later(rows: list[Row]) -> list[Row]:
    """Return the measured rows but those of the first steps; of these, those that end an epoch, and the run's last, are kept."""
    first = {row["step"] for row in first_steps(rows)}
    measured = [row for row in rows if row.get("alignment")]
    return [
        row for row in measured if row["step"] not in first or float(row["epoch"]).is_integer() or row is measured[-1]
    ]


def early_angle(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return the mean of `mean_angle` over the first steps."""
    found = [angle for row in first_steps(rows()) if (angle := mean_angle(row)) is not None]
    return fmean(found) if found else None


def angle_fall(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return how much smaller `mean_angle` is at the last measured step than over the first steps."""
    early, last = early_angle(result, rows, accuracy), of_last_row(mean_angle)(result, rows, accuracy)
    return None if early is None or last is None else early - last


def _angles(row: Row) -> list[float]:
    return [layer["angle"] for layer in (row.get("alignment") or {}).values() if "angle" in layer]


def _of(label: str, unit: str, decimals: int, number: Callable[[Row], float | None], note: str = "") -> Measure:
    return Measure(label, unit, decimals, of_last_row(number), number, False, note=note, diagnostic="alignment")


_FIRST = "over the first steps, which `trainer.measure_first` measures one by one"

MEASURES = {
    "angle": _of("angle to backprop's update, mean over layers", "°", 2, mean_angle),
    "largest_angle": _of("angle to backprop's update, largest of the layers", "°", 2, largest_angle),
    "difference_share": _of(
        "norm of the difference from backprop's update over that of backprop's",
        "%",
        1,
        difference_share,
        "all layers together",
    ),
    "early_angle": Measure(
        "angle to backprop's update, mean over layers and the first steps",
        "°",
        2,
        early_angle,
        None,
        False,
        note=_FIRST,
        diagnostic="alignment",
    ),
    "angle_fall": Measure(
        "fall of the angle to backprop's update",
        "°",
        2,
        angle_fall,
        None,
        None,
        note=f"mean over layers: mean {_FIRST} less that of the last measured step",
        diagnostic="alignment",
    ),
}
"""Measures by name, part of `credit.tables.measures.measures.MEASURES`."""
