"""Draw the figures of a report to PNG files with matplotlib; the same runs give the same bytes."""

import math
from pathlib import Path
from typing import Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from credit.core import registry
from credit.tables.figures.canvas import (
    DOTS,
    PUBLISHED,
    axis_label,
    color_of,
    draw_band,
    finish,
    largest,
    make_panels,
    marker_of,
    shown_in,
)
from credit.tables.figures.courses import by_epoch, by_layer, by_place
from credit.tables.figures.shapes import draw_depths
from credit.tables.measures.collect import Collection
from credit.tables.measures.measures import measure
from credit.tables.spec.schema import Figure


def draw(figure: Figure, held: Collection, file: Path) -> bool:
    """Draw a figure to a PNG file.

    Args:
        figure: the figure, as in the table's file.
        held: the table's runs.
        file: the PNG file.

    Returns:
        False, without a file, if no run has the figure's data.

    Raises:
        OSError: the file cannot be written.
    """
    canvas = registry.find("figure", figure.kind).load()(figure, held)
    if canvas is None:
        file.unlink(missing_ok=True)
        return False
    FigureCanvasAgg(canvas)
    canvas.savefig(file, dpi=DOTS, facecolor="white", metadata={"Software": None})
    return True


def draw_bars(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a group of bars for each row, a bar for each column; points if bars from zero would hide the differences."""
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    told = {cell: held.summary(cell, name) for cell in held.runs}
    rows = [row for row in rows if any(told.get((row, c)) and told[row, c].n for c in columns)]
    if not rows:
        return None
    published = held.spec.means_in(name)
    values = [told[row, c].mean for row in rows for c in columns if (row, c) in told]
    values += [published[row, c] for row in rows for c in columns if (row, c) in published]
    known = [value for value in values if value is not None]
    from_zero = measure(name).is_time or min(known) < 0.5 * max(known)
    canvas = Canvas(
        figsize=(min(12.0, max(6.0, 1.2 + 0.26 * len(rows) * (len(columns) + 1))), 4.0), layout="constrained"
    )
    axes = canvas.subplots()
    width = 0.8 / len(columns)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            x = i + (j - (len(columns) - 1) / 2) * width
            entry, color = told.get((row, column)), color_of(held, column)
            if entry is not None and entry.mean is not None:
                if from_zero:
                    axes.bar(x, entry.mean, 0.9 * width, color=color)
                style: dict[str, Any] = (
                    {"fmt": "none"} if from_zero else {"fmt": marker_of(held, column), "markersize": 6}
                )
                ecolor = "#222222" if from_zero else color
                axes.errorbar(x, entry.mean, entry.std or 0.0, color=color, ecolor=ecolor, capsize=2, **style)
            if (row, column) in published:
                axes.plot(x, published[row, column], markeredgecolor="black" if from_zero else color, **PUBLISHED)
    for edge in range(1, len(rows)):
        axes.axvline(edge - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    labels = [held.spec.rows[row].label for row in rows]
    long = sum(map(len, labels)) > 70
    axes.set_xticks(range(len(rows)), labels, rotation=20 if long else 0, ha="right" if long else "center")
    axes.set(xlim=(-0.5, len(rows) - 0.5), ylabel=axis_label(name))
    finish(canvas, [axes], held, columns, bool(published), "bars" if from_zero else "points")
    return canvas


def draw_lines(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure against the rows' x, a line for each column."""
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    placed = {row: x for row in rows if (x := held.spec.rows[row].x) is not None}
    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.subplots()
    published = held.spec.means_in(name)
    drawn, printed = [], False
    for column in columns:
        told = [(x, held.summary((row, column), name)) for row, x in placed.items() if (row, column) in held.runs]
        points = [(x, entry.mean, entry.std or 0.0) for x, entry in told if entry.mean is not None]
        color = color_of(held, column)
        if points:
            drawn.append(column)
            draw_band(axes, points, color, marker_of(held, column), largest(name))
        theirs = [(x, published[row, column]) for row, x in placed.items() if (row, column) in published]
        if points and theirs:
            printed = True
            axes.plot(*zip(*theirs, strict=True), markeredgecolor=color, **PUBLISHED)
    if not drawn:
        return None
    axes.set_xticks(list(placed.values()), _labels(held, placed))
    axes.set(ylabel=axis_label(name))
    finish(canvas, [axes], held, drawn, printed)
    return canvas


def _labels(held: Collection, placed: dict[str, float]) -> list[str]:
    """Return the rows' labels on the axis, without those that would overlap the one before."""
    apart, labels, last = 0.07 * (max(placed.values()) - min(placed.values())), {}, -math.inf
    for row, x in sorted(placed.items(), key=lambda item: item[1]):
        labels[row] = held.spec.rows[row].label if x - last >= apart else ""
        last = x if labels[row] else last
    return [labels[row] for row in placed]


def draw_curves(figure: Figure, held: Collection, axis: Literal["epoch", "step"] = "epoch") -> Canvas | None:
    """Draw a measure by epoch or step, a panel for each row, a line for each column."""
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    courses = {
        cell: by_epoch(held.runs[cell], name, axis) for cell in held.runs if cell[0] in rows and cell[1] in columns
    }
    rows = [row for row in rows if any(courses.get((row, column)) for column in columns)]
    if not rows:
        return None
    canvas, panels = make_panels(len(rows), 4.4 if len(rows) > 1 else 6.4, 3.4 if len(rows) > 1 else 4.0, shared=True)
    drawn: dict[str, None] = {}
    for axes, row in zip(panels, rows, strict=True):
        for column in columns:
            course = courses.get((row, column))
            if course:
                points = [(epoch, s.mean or 0.0, s.std or 0.0) for epoch, s in course.items()]
                marker = marker_of(held, column) if len(points) <= 30 else ""
                draw_band(axes, points, color_of(held, column), marker, largest(name))
                drawn[column] = None
        axes.set(xlabel=axis, ylabel=axis_label(name) if axes.get_subplotspec().is_first_col() else "")
        if len(rows) > 1:
            axes.set_title(held.spec.rows[row].label, fontsize=10)
    finish(canvas, panels, held, [column for column in columns if column in drawn], False)
    return canvas


def draw_layers(figure: Figure, held: Collection) -> Canvas | None:
    """Draw the cosine with backprop's update, in per cent, as a map of layers by epochs: a panel for each cell."""
    rows, columns = shown_in(figure, held)
    maps = {cell: by_layer(held.runs[cell]) for cell in held.runs if cell[0] in rows and cell[1] in columns}
    maps = {cell: found for cell, found in maps.items() if found}
    if not maps:
        return None
    deepest, longest = (max(map(len, maps.values())), max(len(next(iter(m.values()))) for m in maps.values()))
    wide = min(9.0, 2.2 + 0.42 * min(longest, 14))
    canvas, panels = make_panels(len(maps), max(wide, 4.2), max(2.4, 1.2 + 0.3 * deepest))
    lowest = min(v for found in maps.values() for course in found.values() for v in course.values())
    style: dict[str, Any] = {"cmap": "viridis", "vmin": 0} if lowest >= 0 else {"cmap": "RdBu", "vmin": -100}
    for axes, (cell, found) in zip(panels, maps.items(), strict=True):
        epochs = sorted({epoch for course in found.values() for epoch in course})
        grid = [[course.get(epoch, float("nan")) for epoch in epochs] for course in found.values()]
        image = axes.imshow(grid, aspect="auto", vmax=100, interpolation="nearest", **style)
        if len(epochs) <= 14:
            _write_values(axes, grid, lowest >= 0)
        every = max(1, len(epochs) // 12)
        axes.set_xticks(range(0, len(epochs), every), [f"{epoch:g}" for epoch in epochs[::every]])
        axes.set_yticks(range(len(found)), list(found), fontsize=8)
        axes.set_xlabel("epoch")
        if len(maps) > 1:
            axes.set_title(f"{held.spec.columns[cell[1]].label}, {held.spec.rows[cell[0]].label}", fontsize=10)
    canvas.colorbar(image, ax=panels, label="cosine with backprop's update, %", shrink=0.9)
    return canvas


def draw_gates(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a gate's factor against the pre-activation, a panel for each cell; dots if repeats differ."""
    rows, columns = shown_in(figure, held)
    shapes = {(row, column): by_place(held.runs.get((row, column), [])) for row in rows for column in columns}
    shapes = {cell: found for cell, found in shapes.items() if found}
    if not shapes:
        return None
    canvas, panels = make_panels(len(shapes), 3.6, 2.6, shared=True)
    for axes, (cell, found) in zip(panels, shapes.items(), strict=True):
        fixed = all(factor == found[0][1] for _, factor in found)
        style: dict[str, Any] = {"linewidth": 1.8} if fixed else {"linestyle": "none", "marker": ".", "markersize": 3}
        axes.plot(*found[0], color=color_of(held, cell[1]), **style)
        axes.set(xlabel="z", ylabel="factor" if axes.get_subplotspec().is_first_col() else "")
        row = f", {held.spec.rows[cell[0]].label}" if len(rows) > 1 else ""
        axes.set_title(f"{held.spec.columns[cell[1]].label}{row}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    return canvas


def _write_values(axes: Any, grid: list[list[float]], sequential: bool) -> None:
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            dark = value < 65 if sequential else abs(value) > 60
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")


def draw_steps(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure by step (`draw_curves`)."""
    return draw_curves(figure, held, "step")


def draw_layer_curves(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a number of each layer by epoch (`draw_depths`)."""
    return draw_depths(figure, held, "epoch")


def draw_layer_steps(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a number of each layer by step (`draw_depths`)."""
    return draw_depths(figure, held, "step")
