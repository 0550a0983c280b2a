"""Pictures of tables with many columns: a line or a point each, coloured by the family it is of."""

from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from credit.papers.canvas import COLORS, axis_label, shown_in
from credit.papers.collect import Collection
from credit.papers.measures import measure
from credit.papers.spec import Figure

_MARKERS = "os^DvPX*"


def families_of(held: Collection) -> dict[str, str]:
    """Return a colour for every family, in the order of the spec."""
    named = dict.fromkeys(column.family for column in held.spec.columns.values())
    return {family: COLORS[index % len(COLORS)] for index, family in enumerate(named)}


def draw_dots(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure as a dot a column with its spread, one below the other, a panel a row.

    A row whose `base` is shown too stands hollow in that one's panel.
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
    _legend(canvas, colors)
    return canvas


def _dot(axes: Any, entry: Any, place: float, style: dict[str, Any]) -> None:
    if entry.mean is not None:
        axes.errorbar(entry.mean, place, xerr=entry.std or 0.0, fmt="o", markersize=5, elinewidth=1, **style)


def _places(held: Collection, columns: list[str]) -> list[float]:
    """Return a height for each column, from 0 downwards, with a gap between families."""
    places: list[float] = []
    at = 0.0
    for index, column in enumerate(columns):
        if index:
            other = held.spec.columns[columns[index - 1]].family != held.spec.columns[column].family
            at -= 1.6 if other else 1.0
        places.append(at)
    return places


def draw_trade(figure: Figure, held: Collection) -> Canvas | None:
    """Draw a measure against the time of a step, a point a column, a panel a row; named are those that none beats in both."""
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
    canvas = Canvas(figsize=(max(6.0, 4.4 * len(found)), 4.4), layout="constrained")
    colors = families_of(held)
    for panel, (row, points) in zip(canvas.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for column, point in points.items():
            family = held.spec.columns[column].family
            marker = _MARKERS[list(colors).index(family) % len(_MARKERS)]
            panel.plot(*point, marker=marker, color=colors[family], markersize=7, alpha=0.85, markeredgecolor="white")
        for column in _unbeaten(points, measure(name).higher_is_better is not False):
            label = held.spec.columns[column].label
            panel.annotate(label, points[column], xytext=(5, 5), textcoords="offset points", fontsize=8)
        panel.set_xscale("log")
        ticks = [
            tick for tick in (0.5, 1, 2, 4, 8, 16, 32, 64) if tick <= 1.3 * max(time for time, _ in points.values())
        ]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set(xlabel="time of a step over the reference's, x", ylabel=axis_label(name))
        panel.set_title(held.spec.rows[row].label, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.8)
        panel.set_axisbelow(True)
    _legend(canvas, colors, _MARKERS)
    return canvas


def _unbeaten(points: dict[str, tuple[float, float]], higher: bool) -> list[str]:
    """Return the columns that no other is both faster and better than."""
    sign = 1 if higher else -1
    return [
        column
        for column, (time, value) in points.items()
        if not any(other < time and sign * (better - value) > 0 for other, better in points.values())
    ]


def _legend(canvas: Canvas, colors: dict[str, str], markers: str = "o") -> None:
    if set(colors) == {""}:
        return
    entries = [
        Line2D([], [], color=color, marker=markers[index % len(markers)], linewidth=0, label=family or "other")
        for index, (family, color) in enumerate(colors.items())
    ]
    canvas.legend(handles=entries, loc="outside upper center", ncols=min(len(entries), 8), frameon=False, fontsize=9)
