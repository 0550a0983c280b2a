"""Shared parts of all figures: colors and markers by column, panels, bands, and one legend above them.

A column has the same color and marker in every figure of its table (Okabe and Ito's colors, which are safe for color blindness).
Measured values are filled, with the standard deviation over repeats; published values are hollow diamonds.
"""

import math
from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from credit.tables.measures.collect import Collection
from credit.tables.measures.measures import measure
from credit.tables.spec.schema import Figure

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8C6D31",
    "#882255", "#999933", "#44AA99", "#BBBBBB",
)  # fmt: skip
MARKERS = "os^vPXp*<"  # their number differs from that of the colors, so that few columns share both
DOTS = 130  # dots per inch
PUBLISHED: dict[str, Any] = {
    "marker": "D",
    "linestyle": "none",
    "markerfacecolor": "white",
    "markersize": 6,
    "zorder": 5,
}


def make_panels(count: int, width: float, height: float, shared: bool = False) -> tuple[Canvas, list[Any]]:
    """Return a canvas and its panels, at most three in a row.

    Args:
        count: number of panels.
        width, height: size of a panel in inches.
        shared: whether the panels share their vertical axis.
    """
    across = min(count, 3)
    down = -(-count // across)
    canvas = Canvas(figsize=(min(width * across, 13.0), height * down), layout="constrained")
    grid = canvas.subplots(down, across, squeeze=False, sharey=shared)
    panels = list(grid.flat)
    for spare in panels[count:]:
        spare.remove()
    return canvas, panels[:count]


def draw_band(
    axes: Any, points: list[tuple[float, float, float]], color: str, marker: str, top: float = math.inf
) -> None:
    """Draw a line of means with a band of one standard deviation.

    Args:
        axes: the panel.
        points: (x, mean, standard deviation) of each point.
        color, marker: style of the line.
        top: largest possible value, at which the band is cut.
    """
    x, mean, std = zip(*points, strict=True)
    axes.plot(x, mean, color=color, marker=marker, markersize=4, linewidth=1.6)
    low = [m - s for m, s in zip(mean, std, strict=True)]
    high = [min(m + s, max(m, top)) for m, s in zip(mean, std, strict=True)]
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def finish(
    canvas: Canvas, panels: list[Any], held: Collection, columns: list[str], published: bool, kind: str = "lines"
) -> None:
    """Style the panels, and add one legend above all of them.

    Args:
        canvas, panels: as of `make_panels`.
        held: the table's runs.
        columns: the columns in the legend.
        published: whether published values are drawn.
        kind: ``lines``, ``points`` or ``bars``, for the legend's entries.
    """
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    entries: list[Any] = []
    for column in columns:
        color, label = color_of(held, column), held.spec.columns[column].label
        if kind == "bars":
            entries.append(Patch(color=color, label=label))
        else:
            width = 1.6 if kind == "lines" else 0.0
            entries.append(Line2D([], [], color=color, marker=marker_of(held, column), linewidth=width, label=label))
    if published:
        entries.append(Line2D([], [], markeredgecolor="black", label="published", **PUBLISHED))
    room = canvas.get_figwidth() / (0.6 + 0.085 * max(len(entry.get_label()) for entry in entries))
    across = max(1, min(len(entries), int(room)))
    canvas.legend(handles=entries, loc="outside upper center", ncols=across, frameon=False, fontsize=9)


def shown_in(figure: Figure, held: Collection) -> tuple[list[str], list[str]]:
    """Return the rows and columns of a figure for which this budget has runs, in the spec's order."""
    rows = [row for row in held.rows_run() if not figure.rows or row in figure.rows]
    return rows, [column for column in held.columns_run() if not figure.columns or column in figure.columns]


def color_of(held: Collection, column: str) -> str:
    """Return the color of a column, as a hexadecimal text."""
    return COLORS[list(held.spec.columns).index(column) % len(COLORS)]


def marker_of(held: Collection, column: str) -> str:
    """Return the marker of a column."""
    return MARKERS[list(held.spec.columns).index(column) % len(MARKERS)]


def largest(name: str) -> float:
    """Return the largest possible value of a measure: 100 for a percentage, else infinity."""
    return 100.0 if measure(name).unit == "%" else math.inf


def axis_label(name: str) -> str:
    """Return the label of a measure on an axis, with its unit."""
    kind = measure(name)
    label = kind.label.split(" (")[0]
    return f"{label}, {kind.unit}" if kind.unit else label
