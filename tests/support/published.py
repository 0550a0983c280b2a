"""The runs of published tables, composed once in a process."""

from functools import cache

from credit.core.config.compose import compose
from credit.core.config.schema import RunConfig
from credit.tables.spec.layers import cell_words
from credit.tables.spec.load import load


@cache
def runs(table: str, budget: str = "paper", rows: tuple[str, ...] = ()) -> dict[tuple[str, str], RunConfig]:
    """Return the run of seed 0 by (row, column) of the cells of a budget, of these rows alone where any are given."""
    spec = load(table)
    here = spec.budgets[budget]
    cells = [cell for cell in spec.cells_in(here) if not rows or cell[0] in rows]
    return {cell: compose(cell_words(spec, here, *cell).words) for cell in cells}
