"""The published numbers of a table's file, as `Published`: numbers, spreads and marks as papers print them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from credit.core.errors import nearest
from credit.tables.measures.marks import CROSS, DAGGER
from credit.tables.spec.nodes import Part, fields_of
from credit.tables.spec.schema import Column, Published, Row

Cell = tuple[str, str]

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_PRINTED = re.compile(rf"(?P<mean>{_NUMBER})\s*(?:(?:±|\+/?-)\s*(?P<std>{_NUMBER})|\((?P<inside>{_NUMBER})\))?")

_MARKED = re.compile(rf"(?:{DAGGER}|dagger)\s*(?P<number>.+)|(?P<first>.+?)\s*(?:{DAGGER}|dagger)")


def grid_of(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> dict[tuple[str, str], Part]:
    """Return the parts of ``row: {column: ...}`` by cell, every one of the table's."""
    found = {}
    for row, inner in part.entries().items():
        if row not in rows:
            raise inner.error(f"{part.what}: unknown row '{row}': {nearest(row, rows)}")
        for column, entry in inner.entries().items():
            if column not in columns:
                raise entry.error(f"{inner.what}: unknown column '{column}': {nearest(column, columns)}")
            only = columns[column].rows
            if only and row not in only:
                raise entry.error(f"{inner.what}: no cell {row}/{column}: column '{column}' has only {', '.join(only)}")
            found[row, column] = entry
    return found


@dataclass(frozen=True)
class Printing:
    """What all published numbers have in common: a factor to the measure's unit, and how many runs each is of."""

    times: float = 1.0
    n: int | None = None

    def number(self, value: float) -> float:
        return round(self.times * value, 10)  # 100 x 0.9663 is 96.63, not 96.63000000000001


def printing_of(part: Part) -> Printing:
    """Return what all published numbers have in common."""
    held = fields_of(part, ("times", "n"))
    times = held["times"].number(above=0) if held.has("times") else 1.0
    return Printing(times, held["n"].whole() if held.has("n") else None)


def numbers_of(
    part: Part, printed: Printing, rows: dict[str, Row], columns: dict[str, Column]
) -> dict[Cell, Published]:
    """Return the published numbers of the main measure by cell."""
    return {key: _published(entry, printed) for key, entry in grid_of(part, rows, columns).items()}


def also_of(
    part: Part, printed: Printing, rows: dict[str, Row], columns: dict[str, Column], measures: Sequence[str]
) -> dict[str, dict[Cell, Published]]:
    """Return the published numbers of measures other than the main one, by measure."""
    found = {}
    for name, entry in part.entries().items():
        if name not in measures[1:]:
            told = "its numbers go into `published`" if name == measures[0] else nearest(name, measures[1:])
            raise entry.error(f"{part.what}: '{name}' is none of the table's other measures: {told}")
        found[name] = numbers_of(entry, printed, rows, columns)
    return found


def _published(part: Part, printed: Printing) -> Published:
    if part.is_mapping():
        held = fields_of(part, ("mean", "std", "n"), ("mean",))
        std = printed.number(held["std"].number(low=0)) if held.has("std") else None
        n = held["n"].whole() if held.has("n") else printed.n
        return Published(printed.number(held["mean"].number()), std, n, part.line)
    text = part.text().strip()
    if text == CROSS:
        return Published(None, None, printed.n, part.line, CROSS)
    marked = _MARKED.fullmatch(text)
    match = _PRINTED.fullmatch(marked["number"] or marked["first"] if marked else text)
    if match is None:
        raise part.error(
            f'{part.what} is \'{part.text()}\': write a number, "94.0 ± 3.3", "94.0 (3.3)", '
            'or {mean: 94.0, std: 3.3, n: 5}; "89.3 ± 0.17 †" where training diverged after it, X where no model was learnt'
        )
    behind = match["std"] or match["inside"]
    if behind and float(behind) < 0:
        raise part.error(f"{part.what} is '{part.text()}': a standard deviation is at least 0")
    spread = printed.number(float(behind)) if behind else None
    mean = printed.number(float(match["mean"]))
    return Published(mean, spread, printed.n, part.line, DAGGER if marked else "")
