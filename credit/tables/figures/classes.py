"""Figures of classes: confusion matrices, and t-SNE embeddings of a network's top representation."""

from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure as Canvas

from credit.tables.figures.canvas import make_panels, shown_in
from credit.tables.measures.collect import Cell, Collection, Run
from credit.tables.spec.schema import Figure

NAMED = 20
"""Largest number of classes whose names are shown."""
_WRITTEN = 12  # largest number of classes for which a confusion matrix shows its numbers


def draw_confusion(figure: Figure, held: Collection) -> Canvas | None:
    """Draw the confusion matrices in per cent of each true class, summed over repeats: a panel for each cell."""
    found = {cell: confusion(held.runs.get(cell, []), held.spec.accuracy) for cell in _cells(figure, held)}
    shown = {cell: matrix for cell, matrix in found.items() if matrix is not None}
    if not shown:
        return None
    classes = max(len(names) for names, _ in shown.values())
    side = 2.2 + 0.24 * min(classes, NAMED)
    canvas, panels = make_panels(len(shown), side, side)
    for axes, (cell, (names, matrix)) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        if len(names) <= _WRITTEN:
            _write(axes, matrix)
        if len(names) <= NAMED:
            axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=7)
            axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlabel="answer", ylabel="class" if axes.get_subplotspec().is_first_col() else "")
        axes.set_title(_title(held, cell), fontsize=10)
    canvas.colorbar(image, ax=panels, label="of the class's test images, %", shrink=0.8)
    return canvas


def confusion(runs: list[Run], accuracy: str) -> tuple[list[str], list[list[float]]] | None:
    """Return the names of the classes, and the confusion matrix (true class, prediction) in per cent of each true class.

    Args:
        runs: the cell's runs; the counts of all completed ones are added.
        accuracy: one of `credit.tables.spec.schema.ACCURACIES`; the last evaluation for ``last``, else the best on validation.

    Returns:
        None if no run has a confusion matrix.
    """
    kept = [found for run in runs if run.status == "complete" and (found := _kept(run, accuracy)) is not None]
    if not kept:
        return None
    counts = [
        [sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*(k["test"] for k in kept), strict=True)
    ]
    return kept[0]["classes"], [[100 * count / max(sum(row), 1) for count in row] for row in counts]


def _kept(run: Run, accuracy: str) -> dict[str, Any] | None:
    """Return a run's confusion matrix at the epoch of the accuracy; None without one."""
    result = run.result or {}
    chosen = result.get("last" if accuracy == "last" else "best") or result.get("last") or {}
    rows = [row for row in run.rows if "confusion" in row and row["step"] == chosen.get("step")]
    return rows[-1]["confusion"] if rows else None


def draw_embedding(figure: Figure, held: Collection) -> Canvas | None:
    """Draw the t-SNE embedding of the first repeat, colored by class: a panel for each cell, one legend."""
    found = {cell: points(held.runs.get(cell, [])) for cell in _cells(figure, held)}
    shown = {cell: made for cell, made in found.items() if made is not None}
    if not shown:
        return None
    canvas, panels = make_panels(len(shown), 4.2, 3.8)
    names = max((made["classes"] for made in shown.values()), key=len)
    shades = _shades(len(names))
    for axes, (cell, made) in zip(panels, shown.items(), strict=True):
        colors = [shades[label] for label in made["label"]]
        axes.scatter(made["x"], made["y"], s=6, c=colors, linewidths=0)
        near = f"{100 * made['neighbours']:.0f} % beside their class"
        axes.text(0.02, 0.02, near, transform=axes.transAxes, fontsize=7, color="#444444")
        axes.set(xticks=[], yticks=[])
        axes.set_title(_title(held, cell), fontsize=10)
    if len(names) <= NAMED:
        dots = [
            panels[0].scatter([], [], s=18, color=shade, label=name) for shade, name in zip(shades, names, strict=True)
        ]
        canvas.legend(handles=dots, loc="outside right center", frameon=False, fontsize=8)
    return canvas


def points(runs: list[Run]) -> dict[str, Any] | None:
    """Return the numbers of the diagnostic ``embedding`` in the first completed run that has them; None without one."""
    for run in runs:
        rows = [row["embedding"] for row in run.rows if "embedding" in row] if run.status == "complete" else []
        if rows:
            return rows[-1]
    return None


def _cells(figure: Figure, held: Collection) -> list[Cell]:
    """Return the figure's cells, row by row."""
    rows, columns = shown_in(figure, held)
    return [(row, column) for row in rows for column in columns]


def _title(held: Collection, cell: Cell) -> str:
    column, row = held.spec.columns[cell[1]].label, held.spec.rows[cell[0]].label
    return f"{column}, {row}" if len(held.spec.rows) > 1 else column


def _shades(count: int) -> list[Any]:
    """Return a color for each class."""
    if count <= NAMED:  # an integer is an index of a map's own colors
        return [colormaps["tab10" if count <= 10 else "tab20"](place) for place in range(count)]
    return [colormaps["hsv"](place / count) for place in range(count)]


def _write(axes: Any, matrix: list[list[float]]) -> None:
    """Write the per cents into a confusion matrix's cells, without those that round to 0."""
    for i, line in enumerate(matrix):
        for j, value in enumerate(line):
            if round(value):
                axes.text(
                    j,
                    i,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if value > 55 else "black",
                )
