"""Figures of tables with many columns: a dot or a point for each column, colored by its family."""

from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from credit.tables.figures.canvas import COLORS, axis_label, shown_in
from credit.tables.measures.collect import Collection
from credit.tables.measures.measures import measure
from credit.tables.spec.schema import Figure

SLACK = 1.05
"""Factor up to which two times count as equal when points are labeled."""

_MARKERS = "os^DvPX<"


def families_of(held: Collection) -> dict[str, str]:
    """Return the color of every family, in the order of the spec."""
    named = dict.fromkeys(column.family for column in held.spec.columns.values())
    return {family: COLORS[index % len(COLORS)] for index, family in enumerate(named)}


def draw_dots(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure as a dot with its spread for each column, one below the other: a panel for each row.

    A row whose `base` is shown too is drawn hollow in the panel of its base.
    """
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    told = {(row, column): held.summary((row, column), name) for row in rows for column in columns}
    rows = [row for row in rows if any(told[row, column].n for column in columns)]
    panels = [row for row in rows if held.spec.rows[row].base not in rows]
    if not panels:
        return None
    canvas = Canvas(figsize=(2.0 + 3.4 * len(panels), 1.4 + 0.2 * len(columns)), layout="constrained")
    axes = canvas.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    colors = families_of(held)
    places = _places(held, columns)
    for panel, row in zip(axes, panels, strict=True):
        for place, column in zip(places, columns, strict=True):
            color = colors[held.spec.columns[column].family]
            _dot(panel, told[row, column], place, {"color": color})
            for noisy in rows:
                if held.spec.rows[noisy].base == row:
                    _dot(panel, told[noisy, column], place, {"color": color, "markerfacecolor": "white"})
        panel.set_title(held.spec.rows[row].label, fontsize=10)
        panel.set_xlabel(axis_label(name))
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.8)
        panel.tick_params(axis="y", length=0)
        panel.set_axisbelow(True)
    axes[0].set_yticks(places, [held.spec.columns[column].label for column in columns], fontsize=8)
    axes[0].set_ylim(places[-1] - 1, 1)
    _legend(canvas, held, columns)
    return canvas


def _dot(axes: Any, entry: Any, place: float, style: dict[str, Any]) -> None:
    if entry.mean is not None:
        axes.errorbar(entry.mean, place, xerr=entry.std or 0.0, fmt="o", markersize=5, elinewidth=1, **style)


def _places(held: Collection, columns: list[str]) -> list[float]:
    """Return the vertical position of each column, from 0 downwards, with a gap between families."""
    places: list[float] = []
    at = 0.0
    for index, column in enumerate(columns):
        if index:
            other = held.spec.columns[columns[index - 1]].family != held.spec.columns[column].family
            at -= 1.6 if other else 1.0
        places.append(at)
    return places


def draw_trade(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure against the time of a step: a point for each column, a panel for each row; label Pareto-optimal points."""
    name = figure.measure or held.spec.measures[0]
    rows, columns = shown_in(figure, held)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for row in rows:
        for column in columns:
            time, value = (held.summary((row, column), one).mean for one in ("time_ratio", name))
            if time is not None and value is not None:
                found.setdefault(row, {})[column] = (time, value)
    if not found:
        return None
    costs = held.spec.costs
    whose = "the reference's" if costs is None else f"{held.spec.columns[costs.against].label}'s"
    canvas = Canvas(figsize=(max(6.0, 4.4 * len(found)), 4.4), layout="constrained")
    colors = families_of(held)
    for panel, (row, points) in zip(canvas.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for column, point in points.items():
            family = held.spec.columns[column].family
            marker = _marker(colors, family)
            panel.plot(*point, marker=marker, color=colors[family], markersize=7, alpha=0.85, markeredgecolor="white")
        for point, names in _unbeaten(points, measure(name).higher_is_better is not False).items():
            label = ", ".join(held.spec.columns[column].label for column in names)
            panel.annotate(label, point, xytext=(5, 5), textcoords="offset points", fontsize=8)
        panel.margins(y=0.08)
        panel.set_xscale("log")
        times = [time for time, _ in points.values()]
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if 0.7 * min(times) <= tick <= 1.4 * max(times)]
        panel.set_xlim(0.75 * min(times), 1.6 * max(times))  # a label is written to the right of its point
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set(xlabel=f"time of a step over {whose}, x", ylabel=axis_label(name))
        panel.set_title(held.spec.rows[row].label, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.8)
        panel.set_axisbelow(True)
    _legend(canvas, held, [column for column in columns if any(column in points for points in found.values())], True)
    return canvas


def _unbeaten(points: dict[str, tuple[float, float]], higher: bool) -> dict[tuple[float, float], list[str]]:
    """Return the points for which no point that takes at most `SLACK` times as long is better, with their columns."""
    sign = 1 if higher else -1
    found: dict[tuple[float, float], list[str]] = {}
    for column, (time, value) in points.items():
        rivals = [(other, sign * (better - value)) for other, better in points.values() if other <= SLACK * time]
        if all(ahead <= 0 for _, ahead in rivals):
            same = next(
                (at for at in found if at[1] == value and max(at[0], time) <= SLACK * min(at[0], time)), (time, value)
            )
            found.setdefault(same, []).append(column)
    return found


def _marker(colors: dict[str, str], family: str) -> str:
    return _MARKERS[list(colors).index(family) % len(_MARKERS)]


def _legend(canvas: Canvas, held: Collection, columns: list[str], by_marker: bool = False) -> None:
    """Add a legend of the drawn columns' families above all panels."""
    colors = families_of(held)
    entries = [
        Line2D(
            [], [], color=colors[f], marker=_marker(colors, f) if by_marker else "o", linewidth=0, label=f or "other"
        )
        for f in dict.fromkeys(held.spec.columns[column].family for column in columns)
    ]
    if len(entries) == 1 and entries[0].get_label() == "other":
        return
    across = int(canvas.get_figwidth() / (0.4 + 0.09 * max(len(str(entry.get_label())) for entry in entries)))
    lines = -(-len(entries) // max(1, across))
    canvas.legend(
        handles=entries, loc="outside upper center", ncols=-(-len(entries) // lines), frameon=False, fontsize=9
    )
