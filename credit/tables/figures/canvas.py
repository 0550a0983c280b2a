"""What all pictures of a report share: colours and markers by column, panels, bands, one legend above them.

A column has one colour and marker in every picture of its table (Okabe and Ito's colours, which the colour-blind tell
apart); what is measured is filled, with the standard deviation over repeats; what is published is a hollow diamond.
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
MARKERS = "os^vPXp*<"  # of another number than the colours, so that no column is soon drawn as the first
DOTS = 130  # an inch
PUBLISHED: dict[str, Any] = {
    "marker": "D",
    "linestyle": "none",
    "markerfacecolor": "white",
    "markersize": 6,
    "zorder": 5,
}


def make_panels(count: int, width: float, height: float, shared: bool = False) -> tuple[Canvas, list[Any]]:
    """Return a canvas with `count` panels, three across at most."""
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
    """Draw (x, mean, standard deviation) as a line in its band, which ends at `top`, the largest value there can be."""
    x, mean, std = zip(*points, strict=True)
    axes.plot(x, mean, color=color, marker=marker, markersize=4, linewidth=1.6)
    low = [m - s for m, s in zip(mean, std, strict=True)]
    high = [min(m + s, max(m, top)) for m, s in zip(mean, std, strict=True)]
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def finish(
    canvas: Canvas, panels: list[Any], held: Collection, columns: list[str], published: bool, kind: str = "lines"
) -> None:
    """Take away what is no data, and put one legend above all panels."""
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
    """Return the rows and columns of a figure that this budget has, in the spec's order."""
    present = [cell for cell, runs in held.runs.items() if runs]
    rows = [r for r in held.spec.rows if (not figure.rows or r in figure.rows) and any(r == c[0] for c in present)]
    columns = [
        k for k in held.spec.columns if (not figure.columns or k in figure.columns) and any(k == c[1] for c in present)
    ]
    return rows, columns


def color_of(held: Collection, column: str) -> str:
    return COLORS[list(held.spec.columns).index(column) % len(COLORS)]


def marker_of(held: Collection, column: str) -> str:
    return MARKERS[list(held.spec.columns).index(column) % len(MARKERS)]


def largest(name: str) -> float:
    """Return the largest value that a measure can have: 100 of a percentage."""
    return 100.0 if measure(name).unit == "%" else math.inf


def axis_label(name: str) -> str:
    kind = measure(name)
    label = kind.label.split(" (")[0]
    return f"{label}, {kind.unit}" if kind.unit else label
