"""Evaluate the sides of a claim: as linear forms of cells, and by the cells' values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from credit.tables.claims.expression import Best, CellRef, Comparison, Minus, Number, Side, cells
from credit.tables.claims.verdicts import IDENTICAL, UNDECIDED
from credit.tables.measures.collect import Cell, Collection
from credit.tables.measures.measures import measure
from credit.tables.measures.quantities import Measure
from credit.tables.measures.twins import label
from credit.tables.spec.schema import Claim


class NoNumberError(Exception):
    """A cell of the claim has no completed run; the message names the cell."""

    verdict = UNDECIDED


class IdenticalError(NoNumberError):
    """The two sides of the claim are the same runs; the message names the cells."""

    verdict = IDENTICAL


@dataclass(frozen=True)
class Case:
    """The data for a test of one claim.

    Attributes:
        claim: the claim.
        held: the table's runs.
        name: name of the measure.
        accuracy: as in `credit.tables.claims.claims.judge`.
    """

    claim: Claim
    held: Collection
    name: str
    accuracy: str | None

    @property
    def measure(self) -> Measure:
        """The measure of the claim."""
        return measure(self.name)

    @property
    def paired(self) -> bool:
        """Whether the tests are paired over shared repeats."""
        return self.held.spec.test == "paired"

    def values(self, cell: Cell) -> dict[Any, float]:
        """Return a cell's values by repeat; for a claim about spread, their distances from the cell's median.

        Raises:
            NoNumberError: the cell has no value.
        """
        found = self.held.values(cell, self.name, self.accuracy)
        if not found:
            row, column = self.held.spec.rows[cell[0]], self.held.spec.columns[cell[1]]
            ended = self.held.summary(cell, self.name, self.accuracy).counts() or "not in this budget"
            raise NoNumberError(f"{column.label} at {row.label} has no number ({ended})")
        if self.claim.of == "spread":
            middle = median(found.values())
            return {repeat: abs(value - middle) for repeat, value in found.items()}
        return found

    def first(self, cell: Cell) -> Cell:
        """Return the first cell with the same runs and the same values of the measure; the cell itself if it has no twin."""
        return self.held.twin(cell, self.name, self.accuracy) or cell

    def mean(self, cell: Cell) -> float:
        """Return the mean of a cell's values.

        Raises:
            NoNumberError: the cell has no value.
        """
        found = self.values(cell)
        return sum(found.values()) / len(found)


def has_jobs(case: Case, tree: Comparison | Side, row: str) -> bool:
    """Return whether this budget has runs for every cell of the tree at the row."""
    return all(case.held.runs.get((cell.row or row, cell.column)) for cell in cells(tree))


def row_label(case: Case, row: str) -> str:
    """Return the row's label in the table; empty for a claim without a row."""
    return case.held.spec.rows[row].label if row else ""


def linear_form(case: Case, side: Side, row: str) -> tuple[dict[Cell, float], float, list[str]]:
    """Return a side at a row as a linear form: coefficients by cell, the constant, and the labels chosen by its `best`.

    Raises:
        NoNumberError: a cell has no value.
    """
    if isinstance(side, Number):
        return {}, side.value, []
    if isinstance(side, CellRef):
        cell = (side.row or row, side.column)
        case.values(cell)
        return {case.first(cell): 1.0}, 0.0, []
    if isinstance(side, Best):
        forms = [linear_form(case, option, row) for option in side.of]
        means = [constant + sum(c * case.mean(cell) for cell, c in form.items()) for form, constant, _ in forms]
        form, constant, chosen = forms[means.index(max(means))]
        names = [case.held.spec.columns[cell[1]].label for cell in form]
        return form, constant, chosen or [" − ".join(names) or f"{constant:g}"]
    left, above, chosen = linear_form(case, side.left, row)
    right, below, more = linear_form(case, side.right, row)
    summed = {cell: left.get(cell, 0.0) - right.get(cell, 0.0) for cell in {**left, **right}}
    return {cell: c for cell, c in summed.items() if c}, above - below, chosen + more


def refuse_identical(case: Case, tree: Comparison | Side, row: str, form: dict[Cell, float]) -> None:
    """Refuse a difference that cancels because its cells are the same runs.

    Args:
        case: the data of the claim.
        tree: the claim's expression.
        row: the row at which it is evaluated.
        form: the difference's coefficients by cell, as of `linear_form`.

    Raises:
        IdenticalError: the difference cancels; the message names the cells.
    """
    used = dict.fromkeys((cell.row or row, cell.column) for cell in cells(tree))
    twins = [(cell, case.first(cell)) for cell in used if case.first(cell) != cell]
    if not form and twins:
        told = (
            f"{label(case.held, cell, cell)} is identical to {label(case.held, twin, cell)}" for cell, twin in twins
        )
        raise IdenticalError(f"{', '.join(told)}: equal weights in every repeat, so comparing them is no evidence")


def side_value(side: Side, row: str, mean: Callable[[Cell], Any]) -> Any:
    """Return a side's value at a row from its cells' means, which are numbers or arrays of resampled means.

    Args:
        side: the side's tree.
        row: the row at which it is evaluated.
        mean: returns the mean of a cell.
    """
    if isinstance(side, Number):
        return side.value
    if isinstance(side, CellRef):
        return mean((side.row or row, side.column))
    if isinstance(side, Minus):
        return side_value(side.left, row, mean) - side_value(side.right, row, mean)
    import numpy as np

    return np.maximum.reduce([np.asarray(side_value(option, row, mean)) for option in side.of])


def lost_words(case: Case, form: dict[Cell, float]) -> str:
    """Return a note on the cells' runs that have no value: ``; BP+AdamW at CIFAR-10: 2 of 3, 1 diverged``; empty for none."""
    spec, told = case.held.spec, []
    for cell in form:
        counts = case.held.summary(cell, case.name, case.accuracy).counts()
        told += [f"; {spec.columns[cell[1]].label} at {spec.rows[cell[0]].label}: {counts}"] if counts else []
    return "".join(told)


def shared_repeats(held: Sequence[dict[Any, float]]) -> list[Any]:
    """Return the repeats that all cells have, in the order of the first cell."""
    return [repeat for repeat in held[0] if all(repeat in values for values in held)] if held else []
