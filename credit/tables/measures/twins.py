"""Find cells of a table whose runs are the same: with weights that are bit-equal in every repeat that both completed.

Two rules can coincide on a network, such as dual propagation and its transpose at alpha 1/2. Their results are not independent, and
a comparison of them is no evidence.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from credit.tables.measures.collect import Collection

Cell: TypeAlias = tuple[str, str]


def find(held: "Collection") -> dict[Cell, Cell]:
    """Return, for each cell whose runs are those of an earlier cell, the first such cell of the table.

    Runs without ``weights_sha256`` in result.json (trees, timings, results of older versions) are never the same.
    """
    found: dict[Cell, Cell] = {}
    digests = {cell: _digests(held, cell) for cell in held.runs}
    first: dict[tuple[Any, str], list[Cell]] = {}
    for cell, own in digests.items():
        candidates = dict.fromkeys(other for item in own.items() for other in first.get(item, ()))
        twin = next((other for other in candidates if _agree(own, digests[other])), None)
        if twin is not None:
            found[cell] = twin
            continue
        for item in own.items():
            first.setdefault(item, []).append(cell)
    return found


def label(held: "Collection", cell: Cell, beside: Cell) -> str:
    """Return the label of a cell beside another one: its column, and its row if that differs."""
    column = held.spec.columns[cell[1]].label
    return column if cell[0] == beside[0] else f"{column} at {held.spec.rows[cell[0]].label}"


def identical_lines(held: "Collection") -> list[str]:
    """Return a sentence for each column or cell that is identical to another: ``DPᵀ is identical to DP in every row.``"""
    of: dict[tuple[str, str], list[str]] = {}
    for (row, column), twin in held.twins.items():
        of.setdefault((held.spec.columns[column].label, label(held, twin, (row, column))), []).append(row)
    run = {cell for cell, runs in held.runs.items() if runs}
    lines = []
    for (name, other), rows in of.items():
        every = sum(held.spec.columns[column].label == name for _, column in run) == len(rows)
        where = "every row" if every else ", ".join(held.spec.rows[row].label for row in rows)
        lines.append(f"{name} is identical to {other} in {where}.")
    return lines


def _digests(held: "Collection", cell: Cell) -> dict[Any, str]:
    """Return the digests of the final weights of a cell's completed runs, by repeat."""
    results = [(run.repeat, run.result or {}) for run in held.runs[cell] if run.status == "complete"]
    return {repeat: result["weights_sha256"] for repeat, result in results if result.get("weights_sha256")}


def _agree(one: dict[Any, str], other: dict[Any, str]) -> bool:
    return all(one[repeat] == other[repeat] for repeat in one if repeat in other)
