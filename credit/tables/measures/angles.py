"""Measures of a rule's updates relative to backprop's, from the rows of the diagnostic ``alignment``. Imports no torch."""

import math
from statistics import fmean

from credit.tables.measures.quantities import Measure, Result, Row, Rows, of_last_row, of_row

KEYS = {
    "angle": "angle to backprop's update, degrees",
    "cosine": "cosine with backprop's update",
    "norm": "norm of the update",
    "reference_norm": "norm of backprop's update",
    "difference_norm": "norm of the difference",
    "norm_ratio": "norm over backprop's",
}
"""The diagnostic's numbers of a layer, with their labels on an axis."""


def mean_angle(row: Row) -> float | None:
    """Return the mean over layers of the angle to backprop's update in a row of metrics, in degrees; None without one."""
    found = _angles(row)
    return fmean(found) if found else None


def largest_angle(row: Row) -> float | None:
    """Return the largest angle of a layer to backprop's update in a row of metrics, in degrees; None without one."""
    return max(_angles(row), default=None)


def difference_share(row: Row) -> float | None:
    """Return the norm of the difference from backprop's update, relative to the norm of that, over all layers, in per cent.

    None if the row of metrics has no such numbers.
    """
    layers = [layer for layer in (row.get("alignment") or {}).values() if "difference_norm" in layer]
    theirs = math.hypot(*(layer["reference_norm"] for layer in layers))
    return 100 * math.hypot(*(layer["difference_norm"] for layer in layers)) / theirs if theirs else None


def first_steps(rows: list[Row]) -> list[Row]:
    """Return the rows of a run's first steps, as far as each step was measured (``trainer.measure_first``)."""
    by_step = {row["step"]: row for row in rows if row.get("alignment")}
    found: list[Row] = []
    while len(found) + 1 in by_step:
        found.append(by_step[len(found) + 1])
    return found


def later(rows: list[Row]) -> list[Row]:
    """Return the measured rows without those of the first steps that neither end an epoch nor are the run's last."""
    first = {row["step"] for row in first_steps(rows)}
    measured = [row for row in rows if row.get("alignment")]
    return [
        row for row in measured if row["step"] not in first or float(row["epoch"]).is_integer() or row is measured[-1]
    ]


def early_angle(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return the mean of `mean_angle` over the first steps; arguments as of `Measure.function`."""
    found = [angle for row in first_steps(rows()) if (angle := mean_angle(row)) is not None]
    return fmean(found) if found else None


def angle_fall(result: Result, rows: Rows, accuracy: str) -> float | None:
    """Return the mean of `mean_angle` over the first steps minus that at the last measured step; arguments as of `early_angle`."""
    early, last = early_angle(result, rows, accuracy), of_last_row(mean_angle)(result, rows, accuracy)
    return None if early is None or last is None else early - last


def _angles(row: Row) -> list[float]:
    return [layer["angle"] for layer in (row.get("alignment") or {}).values() if "angle" in layer]


_FIRST = "over the first steps, which `trainer.measure_first` measures one by one"

_TO_BACKPROP = "angle to backprop's update"

MEASURES = {
    "angle": of_row(f"{_TO_BACKPROP}, mean over layers", "°", 2, mean_angle, False, "", "alignment"),
    "largest_angle": of_row(f"{_TO_BACKPROP}, largest of the layers", "°", 2, largest_angle, False, "", "alignment"),
    "difference_share": of_row(
        "norm of the difference from backprop's update over that of backprop's", "%", 1, difference_share, False,
        "all layers together", "alignment",
    ),
    "early_angle": Measure(
        f"{_TO_BACKPROP}, mean over layers and the first steps", "°", 2, early_angle, None, False, note=_FIRST,
        diagnostic="alignment",
    ),
    "angle_fall": Measure(
        f"fall of the {_TO_BACKPROP}", "°", 2, angle_fall, None, None, diagnostic="alignment",
        note=f"mean over layers: mean {_FIRST} less that of the last measured step",
    ),
}  # fmt: skip
"""Measures by name, which are included in `credit.tables.measures.measures.MEASURES`."""
