"""Further figures: box plots over repeats, curves by layer, accuracy by weights pruned, error signals by input."""

import math
from statistics import quantiles
from typing import Any, Literal

from matplotlib import colormaps
from matplotlib.figure import Figure as Canvas

from credit.tables.figures.canvas import axis_label, color_of, draw_band, finish, make_panels, marker_of, shown_in
from credit.tables.figures.courses import by_depth, by_input, by_share
from credit.tables.measures.angles import KEYS
from credit.tables.measures.collect import Collection
from credit.tables.spec.schema import Figure


def draw_boxes(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a box plot of each cell's repeats: quartiles and median, with whiskers to the minimum and the maximum."""
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    told = {(row, c): sorted(held.values((row, c), name).values()) for row in rows for c in columns}
    rows = [row for row in rows if any(told[row, c] for c in columns)]
    if not rows:
        return None
    canvas = Canvas(
        figsize=(min(12.0, max(6.0, 1.0 + 0.34 * len(rows) * (len(columns) + 1))), 4.0), layout="constrained"
    )
    axes = canvas.subplots()
    width = 0.8 / len(columns)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if told[row, column]:
                x = i + (j - (len(columns) - 1) / 2) * width
                _box(axes, x, 0.8 * width, five(told[row, column]), color_of(held, column))
    for edge in range(1, len(rows)):
        axes.axvline(edge - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(rows)), [held.spec.rows[row].label for row in rows])
    ends = [values[at] for values in told.values() if values for at in (0, -1)]
    room = 0.04 * (max(ends) - min(ends)) or 1.0  # so that no median lies on the frame
    axes.set(xlim=(-0.5, len(rows) - 0.5), ylim=(min(ends) - room, max(ends) + room), ylabel=axis_label(name))
    finish(canvas, [axes], held, columns, False, "bars")
    return canvas


def five(values: list[float]) -> tuple[float, float, float, float, float]:
    """Return minimum, quartiles, median and maximum of sorted numbers, (min, Q1, median, Q3, max), by linear interpolation."""
    if len(values) == 1:
        return (values[0],) * 5
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return values[0], low, middle, high, values[-1]


def _box(axes: Any, x: float, width: float, numbers: tuple[float, ...], color: str) -> None:
    least, low, middle, high, largest = numbers
    axes.vlines(x, least, largest, color=color, linewidth=1.2)
    for end in (least, largest):
        axes.hlines(end, x - width / 4, x + width / 4, color=color, linewidth=1.2)
    axes.bar(x, high - low, width, low, color=color, alpha=0.45, edgecolor=color)
    axes.hlines(middle, x - width / 2, x + width / 2, color=color, linewidth=2.4)


def draw_depths(figure: Figure, held: Collection, axis: Literal["epoch", "step"]) -> Canvas | None:
    """Draw a number of the diagnostic ``alignment`` by epoch or step: a panel for each cell, a line for each layer."""
    key = figure.measure or "angle"
    rows, columns = shown_in(figure, held)
    courses = {(row, c): by_depth(held.runs.get((row, c), []), key, axis) for row in rows for c in columns}
    courses = {cell: found for cell, found in courses.items() if any(len(course) > 1 for course in found.values())}
    if not courses:
        return None
    canvas, panels = make_panels(len(courses), 4.6 if len(courses) > 1 else 6.4, 3.6, shared=True)
    drawn = [value for found in courses.values() for course in found.values() for value in course.values()]
    layers = max(courses.values(), key=len)
    shade = colormaps["viridis"]
    for axes, (cell, found) in zip(panels, courses.items(), strict=True):
        for place, (layer, course) in enumerate(found.items()):
            color = shade(0.92 * place / max(len(found) - 1, 1))
            label = layer if found is layers else None
            axes.plot(list(course), list(course.values()), color=color, linewidth=1.2, label=label)
        if "norm" in key and min(drawn) > 0:
            axes.set_yscale("log")
        axes.set(xlabel=axis, ylabel=KEYS[key] if axes.get_subplotspec().is_first_col() else "")
        row = f", {held.spec.rows[cell[0]].label}" if len(rows) > 1 else ""
        axes.set_title(f"{held.spec.columns[cell[1]].label}{row}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    across = max(1, int(canvas.get_figwidth() / 1.1))
    canvas.legend(loc="outside lower center", ncols=across, frameon=False, fontsize=8, title="layer, from the input on")
    return canvas


def draw_pruning(figure: Figure, held: Collection) -> Canvas | None:
    """Draw the test accuracy against the fraction of weights pruned, a panel for each row, a line for each column."""
    diagnostic = figure.measure or "pruning"
    rows, columns = shown_in(figure, held)
    curves = {(row, c): by_share(held.runs.get((row, c), []), diagnostic) for row in rows for c in columns}
    rows = [row for row in rows if any(curves[row, c] for c in columns)]
    if not rows:
        return None
    canvas, panels = make_panels(len(rows), 4.4 if len(rows) > 1 else 6.4, 3.4 if len(rows) > 1 else 4.0, shared=True)
    for axes, row in zip(panels, rows, strict=True):
        for column in columns:
            points = [(share, s.mean or 0.0, s.std or 0.0) for share, s in curves[row, column].items()]
            if points:
                draw_band(axes, points, color_of(held, column), marker_of(held, column), 100.0)
        axes.set(xlabel="weights pruned, %", ylabel="test accuracy, %" if axes.get_subplotspec().is_first_col() else "")
        if len(rows) > 1:
            axes.set_title(held.spec.rows[row].label, fontsize=10)
    finish(canvas, panels, held, [c for c in columns if any(curves[row, c] for row in rows)], False)
    return canvas


def draw_signals(figure: Figure, held: Collection) -> Canvas | None:
    """Draw the error signal at the input against the input, for the first repeat: panels by column (down) and row (across).

    Each is divided by its largest absolute value, which is written in the panel, because error signals of rules and depths differ
    by orders of magnitude.
    """
    rows, columns = shown_in(figure, held)
    found = {(row, c): by_input(held.runs.get((row, c), [])) for row in rows for c in columns}
    columns = [c for c in columns if any(found[row, c] for row in rows)]
    rows = [row for row in rows if any(found[row, c] for c in columns)]
    if not rows:
        return None
    size = (min(13.0, 1.0 + 2.1 * len(rows)), 0.6 + 1.5 * len(columns))
    canvas = Canvas(figsize=size, layout="constrained")
    grid = canvas.subplots(len(columns), len(rows), squeeze=False, sharex=True, sharey=True)
    for line, column in zip(grid, columns, strict=True):
        for axes, row in zip(line, rows, strict=True):
            for x, value in found[row, column][:1]:
                top = max(map(abs, value), default=0.0)
                known = top > 0 and math.isfinite(top)
                axes.plot(x, [v / top for v in value] if known else value, color=color_of(held, column), linewidth=0.8)
                axes.text(0.02, 0.04, f"max {top:.2g}", transform=axes.transAxes, fontsize=7, color="#444444")
            axes.set_ylim(-1.08, 1.08)
            if column == columns[0]:
                axes.set_title(held.spec.rows[row].label, fontsize=10)
            if column == columns[-1]:
                axes.set_xlabel("input", fontsize=9)
            if row == rows[0]:
                axes.set_ylabel("signal / max", fontsize=9)
    finish(canvas, list(grid.flat), held, columns, False)
    return canvas
