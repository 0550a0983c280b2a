"""Check the sections of a table against each other: names, cells, measures and options that one takes from another."""

from collections.abc import Iterable, Mapping, Sequence

from credit.core.errors import UserError, nearest
from credit.tables.expand.tuning import check_tuning
from credit.tables.options import runner_options
from credit.tables.spec.claims import check_claim
from credit.tables.spec.figures import check_figure
from credit.tables.spec.measured import check_measured
from credit.tables.spec.nodes import at, refusal
from credit.tables.spec.published import Published
from credit.tables.spec.schema import Budget, Cell, Column, Costs, Entry, Row, Spec, Words

OWN_KEYS = {"seed": "seeds are counted: a budget's `seeds`, or seeds=3 on the command line"}
"""Settings that a table makes itself, and what to write instead."""


def check_spec(spec: Spec, measure_lines: Sequence[int]) -> None:
    """Refuse a table whose sections contradict each other.

    Args:
        spec: the table.
        measure_lines: the line in the file of each of its measures.

    Raises:
        UserError: file, line, and for an unknown name the nearest.
    """
    for words in spec.every_words():
        for word, line in zip(words.words, words.lines, strict=True):
            with at(spec.file, line):
                _check_word(spec, word)
    _check_grids(spec)
    _check_labels(spec, spec.rows.values(), "rows")
    _check_labels(spec, spec.columns.values(), "columns")
    for column in spec.columns.values():
        with at(spec.file, column.line, f"columns.{column.name}: "):
            _check_column(spec, column)
    for row in spec.rows.values():
        with at(spec.file, row.line, f"rows.{row.name}.base: "):
            _check_base(spec, row)
    if spec.costs is not None:
        with at(spec.file, spec.costs.line, "costs: "):
            _check_costs(spec, spec.costs)
    check_tuning(spec)
    for budget in spec.budgets.values():
        _check_budget(spec, budget)
    first: dict[str, int] = {}
    for claim in spec.claims:
        if first.setdefault(claim.name, claim.line) != claim.line:
            raise refusal(spec.file, claim.line, f"two claims are named '{claim.name}': give this one another name")
        with at(spec.file, claim.line, f"claim '{claim.name}': "):
            check_claim(spec, claim)
            if claim.measure is not None:
                check_measured(spec, claim.measure)
    for figure in spec.figures:
        with at(spec.file, figure.line, f"figure '{figure.title}': "):
            check_figure(spec, figure)
    for name, line in zip(spec.measures, measure_lines, strict=True):
        with at(spec.file, line):
            check_measured(spec, name)


def _check_word(spec: Spec, word: str) -> None:
    key = word.partition("=")[0].lstrip("+")
    if key in OWN_KEYS:
        raise UserError(f"'{word}': {OWN_KEYS[key]}")
    if key.startswith(("hydra.", "hydra/")):
        raise UserError(f"'{word}': how runs are launched is no part of a table: give it to `credit table {spec.name}`")
    if key in spec.repeat:
        raise UserError(f"'{word}': the repeats run through {key}, see `repeat`: keep one of the two")


def _check_labels(spec: Spec, entries: Iterable[Entry], what: str) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        if (other := first.setdefault(entry.label, entry)) is not entry:
            text = f"two {what} are labelled '{entry.label}', {other.name} and {entry.name}: give one another label"
            raise refusal(spec.file, entry.line, text)


def _check_grids(spec: Spec) -> None:
    also = {f"also_published.{name}": found for name, found in spec.also_published.items()}
    grids: dict[str, Mapping[Cell, Words | Published]] = {"cells": spec.cells, "published": spec.published, **also}
    for what, found in grids.items():
        for (row, column), entry in found.items():
            with at(spec.file, entry.line, f"{what}.{row}: "):
                spec.check_cell(row, column)
                if what != "cells" and not spec.source:
                    raise UserError("published numbers stand somewhere: name the table's `source`")


def _check_column(spec: Spec, column: Column) -> None:
    if column.why and not column.rows:
        raise UserError("`why` says why rows lack the column, and all have it: name its rows, or leave it out")
    runner_options(column.runner, column.options)
    against = column.options.get("against")
    if against is not None and against not in spec.columns:
        raise UserError(f"options: unknown column '{against}': {nearest(against, spec.columns)}")
    for row, _ in spec.grid(columns=(column.name,)):
        spec.check_cell(row, against or column.name)


def _check_base(spec: Spec, row: Row) -> None:
    if not row.base:
        return
    if spec.rows[row.base].base or row.base == row.name:
        raise UserError(f"row '{row.base}' must be one without a base of its own")
    for _, column in spec.grid((row.name,)):
        spec.check_cell(row.base, column)


def _check_costs(spec: Spec, costs: Costs) -> None:
    for row in costs.rows or spec.rows:
        spec.check_cell(row, costs.against)
    for column in spec.columns.values():
        if column.runner != "train":
            text = f"column '{column.name}' has the runner {column.runner}"
            raise UserError(f"{text}: only training is timed beside a table")


def _check_budget(spec: Spec, budget: Budget) -> None:
    for column, found in budget.without.items():
        with at(spec.file, found.line, f"budgets.{budget.name}.without.{column}: "):
            for row in found.rows:
                spec.check_cell(row, column)
    if not spec.cells_in(budget):
        raise refusal(spec.file, budget.line, f"budgets.{budget.name}: no cell is in these rows and columns")
