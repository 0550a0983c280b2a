"""A published table as frozen classes of options, one for each section of ``conf/paper/<paper>/<table>.yaml``; no torch.

An option's name is its key in the file, without the underscore behind a word of Python. `credit.tables.spec.sections` reads a
section by its class. The other fields (`name`, `line`) say where a section stands in the file.

A table is a grid. Rows and columns each bring settings in the command line's words; a cell is one of each. A cell is run
once for each repeat (a seed, a fold, or both); its standard deviation is over its repeats.

    settings of a cell = common, row, column, the cell's own, the budget's, the command line's: a later one replaces an earlier
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from credit.core.config.schema import GROUPS
from credit.core.errors import UserError, nearest
from credit.core.options import opt
from credit.tables.spec.published import Printed, Published

BUDGETS = ("smoke", "quick", "paper")
"""How much of the published run is made: seconds for CI, minutes on two CPU cores, everything."""

ACCURACIES = ("last", "best_val", "best_test")
"""Which epoch's test accuracy a paper reports: the last, the best on validation, or the best on test."""

TESTS = ("welch", "paired")
"""How two cells' repeats are compared: as two samples, or difference by difference (same folds, same seeds)."""

LINES = ("rows", "columns")
"""What the lines of the report's tables are: the table's rows, or its columns, where these are many."""

MOMENTS = ("mean", "spread")
"""What a claim compares of a cell's repeats: their mean, or their distance from the cell's median (Brown and Forsythe)."""

WAYS = ("compare", "grows", "falls")
"""The ways to write a claim."""

Cell: TypeAlias = tuple[str, str]
"""A row and a column."""

Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """Settings as on the command line, such as ``optimizer.lr=0.1``, each with its line in the file."""

    words: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    @property
    def line(self) -> int:
        """The line of the first."""
        return self.lines[0] if self.lines else 0

    def __add__(self, other: "Words") -> "Words":
        return Words(self.words + other.words, self.lines + other.lines)


NO_WORDS = Words()


@dataclass(frozen=True)
class Entry:
    """A row or a column."""

    name: str
    label: str = opt("", "its name in tables and pictures; the key where none is given")
    set: Words = opt(NO_WORDS, "settings of its cells")
    line: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)
        axis = f"{type(self).__name__.lower()}s"
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.name):
            raise UserError(f"'{self.name}' in {axis} is no name: use letters, digits and _; `label` takes any text")
        if self.name == "best":
            raise UserError(f"'best' in {axis}: in claims that is best(a, b): choose another name")
        if axis == "columns" and re.fullmatch(r"[0-9]+(e[0-9]+)?", self.name, re.IGNORECASE):
            raise UserError(f"'{self.name}' in columns is a number, and claims could not tell: begin it with a letter")


@dataclass(frozen=True)
class Row(Entry):
    """One condition: a data set, a noise rate, an activation."""

    x: float | None = opt(None, "place on a numeric axis")
    base: str = opt("", "the same condition without noise, for the measure `noise_loss`", family="row")


@dataclass(frozen=True)
class Column(Entry):
    """One method."""

    rows: Names = opt((), "the only rows with this column; empty: all", family="row")
    runner: str = opt("train", "what runs its cells", family="runner")
    options: dict[str, Any] = opt({}, "options of the runner")
    why: str = opt("", "why the other rows do not have it")
    family: str = opt("", "family of methods, for tables and pictures that group by it")


@dataclass(frozen=True)
class Setting:
    """Something the paper leaves out."""

    what: str = opt(MISSING, "what is left out")
    reading: str = opt(MISSING, "the value chosen")
    why: str = opt(MISSING, "the reason")
    line: int = 0


@dataclass(frozen=True)
class Contradiction:
    """Two statements of a paper that cannot both be true."""

    says: str = opt(MISSING, "one statement")
    but: str = opt(MISSING, "the other")
    reading: str = opt(MISSING, "the one chosen")
    line: int = 0


@dataclass(frozen=True)
class Diverged:
    """The number of a run whose weights became infinite or NaN."""

    as_: float = opt(MISSING, "the number, in the main measure's unit")
    why: str = opt(MISSING, "the reason")
    line: int = 0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a comparison between cells, written in exactly one of `WAYS`."""

    name: str = opt(MISSING, "a few words for it in tables")
    says: str = opt(MISSING, "what the paper says, in one sentence")
    compare: str | None = opt(None, "``LEFT > RIGHT`` (also ``>= < <= ~``); see `credit.tables.claims.expression`")
    grows: str | None = opt(None, "a side whose value increases with the rows' `x`")
    falls: str | None = opt(None, "a side whose value decreases with the rows' `x`")
    at: Names = opt((), "rows it is judged at; empty: all rows that have its columns", family="row")
    at_least: int | None = opt(None, "number of these rows that must satisfy it; none: every row", ge=1)
    tolerance: float = opt(0.0, "points within which ``~`` is equal, and by which ``>=`` and ``<=`` may miss", ge=0)
    measure: str | None = opt(None, "its measure; none: the table's main one", family="measure")
    of: str = opt("mean", "what is compared of a cell's repeats", choices=MOMENTS)
    line: int = 0
    line_of: ClassVar = WAYS

    def __post_init__(self) -> None:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise UserError(f"claim '{self.name}' needs exactly one of {', '.join(WAYS)}")


@dataclass(frozen=True)
class Figure:
    """A picture of the report; ``conf/paper/README.md`` describes the kinds."""

    kind: str = opt(MISSING, "kind of picture", family="figure")
    title: str = opt(MISSING, "its heading")
    measure: str | None = opt(None, "what is drawn; none: the table's main measure, or the kind's own")
    rows: Names = opt((), "its rows; empty: all", family="row")
    columns: Names = opt((), "its columns; empty: all", family="column")
    line: int = 0


@dataclass(frozen=True)
class Tuning:
    """The candidates of every cell; the cell's seeds are run with the candidate that is best on validation images."""

    set: tuple[Words, ...] = opt(MISSING, "the candidates: settings, stronger than all of the table's")
    seeds: int = opt(1, "runs of each candidate, with seeds of their own", ge=1)
    like: dict[str, str] = opt({}, "rows whose cells take the choice of the same column in another row", family="row")
    trials: Words = opt(NO_WORDS, "settings of the candidates' runs alone, such as a shorter length")
    line: int = 0

    def __post_init__(self) -> None:
        if len(self.set) < 2:
            raise UserError("set: give two candidates or more, as [[optimizer.lr=0.1], [optimizer.lr=0.01]]")
        for row, of in self.like.items():
            if of in self.like:
                told = "itself" if of == row else f"row '{of}', which takes that of another"
                raise UserError(f"like: row '{row}' takes the choice of {told}: name a row that is tuned")


@dataclass(frozen=True)
class Costs:
    """Time and peak memory of a step, measured beside the table's runs."""

    against: str = opt(MISSING, "column whose step is the unit", family="column")
    rows: Names = opt((), "the only rows that are measured; empty: all", family="row")
    seconds: float | None = opt(None, "duration of a cell's measurement; none: that of the runner ``timing``", gt=0)
    line: int = 0


@dataclass(frozen=True)
class Without:
    """Cells of one column that a budget leaves out."""

    rows: Names = opt(MISSING, "their rows", family="row")
    why: str = opt(MISSING, "the reason")
    line: int = 0


@dataclass(frozen=True)
class Only:
    """The only rows and columns that a budget runs."""

    rows: Names = opt((), "the rows; empty: all", family="row")
    columns: Names = opt((), "the columns; empty: all", family="column")


@dataclass(frozen=True)
class Budget:
    """How much of a table is run."""

    name: str
    says: str = opt(MISSING, "what it is good for, in a sentence")
    seeds: int = opt(MISSING, "seeds of a cell: 0, 1, ...", ge=1)
    minutes: float | None = opt(None, "duration on two CPU cores, of `paper` on one GPU; none: unknown", gt=0)
    set: Words = opt(NO_WORDS, "settings of every cell, stronger than the cell's own")
    rows: Names | dict[str, Words] = opt((), "the only rows, or settings by row, stronger than `set`", family="row")
    columns: Names | dict[str, Words] = opt((), "the only columns, or settings by column, stronger", family="column")
    only: Only = opt(Only(), "the only rows and columns, beside settings by row or column")
    claims: Names | None = opt(
        None, "the claims that can be judged after so little training; none: all", family="claim"
    )
    tune: Tuning | None = opt(None, "what differs from the table's `tune`")
    without: dict[str, Without] = opt({}, "cells left out, by column", family="column")
    line: int = 0

    def __post_init__(self) -> None:
        for axis in LINES:
            if isinstance(getattr(self, axis), tuple) and getattr(self, axis) and getattr(self.only, axis):
                raise UserError(f"only: the budget restricts its {axis} twice, in {axis} and in only: keep one")

    def judges(self, claim: Claim) -> bool:
        """Return whether the budget is long enough to judge a claim."""
        return self.claims is None or claim.name in self.claims

    def listed(self, axis: str) -> Names:
        """Return the only ``rows``, or ``columns``, that are run; empty: all."""
        given = getattr(self, axis)
        return given if isinstance(given, tuple) and given else getattr(self.only, axis)

    def settings(self, axis: str) -> dict[str, Words]:
        """Return the settings by row (`axis` ``rows``) or by column (``columns``)."""
        given = getattr(self, axis)
        return given if isinstance(given, dict) else {}

    def why_without(self, cell: Cell) -> str:
        """Return why a cell is left out; empty: it is not."""
        found = self.without.get(cell[1])
        return found.why if found and cell[0] in found.rows else ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A published table or figure."""

    name: str
    file: Path
    title: str = opt(MISSING, "its title")
    source: str = opt("", "where it is published; empty: a comparison that no paper has")
    measures: Names = opt(MISSING, "its measures; the first is the main one, as published", family="measure")
    accuracy: str = opt(MISSING, "the epoch whose accuracy the paper reports", choices=ACCURACIES)
    split: str = opt(MISSING, "in words, the paper's split of the data and ours")
    test: str = opt("welch", "test of a difference between two cells", choices=TESTS)
    settings: tuple[Setting, ...] = opt((), "what the paper leaves out")
    contradictions: tuple[Contradiction, ...] = opt((), "where the paper contradicts itself")
    common: Words = opt(NO_WORDS, "settings of every cell")
    rows: dict[str, Row] = opt(MISSING, "its rows")
    columns: dict[str, Column] = opt(MISSING, "its columns")
    repeat: dict[str, tuple[Any, ...]] = opt({}, "values that every seed is run with: ``{data.fold: [0, 1, 2]}``")
    cells: dict[Cell, Words] = opt({}, "settings of single cells")
    printed: Printed = opt(Printed(), "what all published numbers have in common")
    published: dict[Cell, Published] = opt({}, "published numbers of the main measure")
    also_published: dict[str, dict[Cell, Published]] = opt({}, "published numbers of the other measures")
    diverged: Diverged | None = opt(None, "the number of a run that diverged; none: it has none")
    claims: tuple[Claim, ...] = opt((), "what the paper claims")
    figures: tuple[Figure, ...] = opt((), "pictures of the report")
    tune: Tuning | None = opt(None, "candidates that every cell chooses from; none: nothing is tuned")
    budgets: dict[str, Budget] = opt(MISSING, "how much is run", family="budget")
    costs: Costs | None = opt(None, "measurements of time and memory beside the runs; none: no such measurements")
    lines: str = opt("rows", "what has a line in the report's tables", choices=LINES)

    def __post_init__(self) -> None:
        for axis in LINES:
            if not getattr(self, axis):
                raise UserError(f"{axis}: name at least one")
        main, *others = self.measures
        for name in self.also_published:
            if name not in others:
                told = "its numbers go into `published`" if name == main else nearest(name, others)
                raise UserError(f"also_published: '{name}' is none of the table's other measures: {told}")
        for key in self.repeat:
            if key == "seed":
                raise UserError("repeat: seeds are counted by each budget's `seeds`, not listed here")
            if key in GROUPS or not re.fullmatch(r"[a-z_]+(\.\w+)+", key):
                raise UserError(f"repeat: '{key}' is no option: repeats run through one such as data.fold")
        for name in BUDGETS:
            if name not in self.budgets:
                raise UserError(f"budgets: '{name}' is missing: a table needs {', '.join(BUDGETS)}")

    def published_in(self, measure: str) -> dict[Cell, Published]:
        """Return the published numbers of a measure by (row, column); empty where there are none."""
        return self.published if measure == self.measures[0] else self.also_published.get(measure, {})

    def means_in(self, measure: str) -> dict[Cell, float]:
        """Return the published means of a measure by (row, column), without the entries that have a mark alone."""
        found = self.published_in(measure)
        return {cell: entry.mean for cell, entry in found.items() if entry.mean is not None}

    def has(self, row: str, column: str) -> bool:
        """Return whether the table has this cell."""
        return not self.columns[column].rows or row in self.columns[column].rows

    def check_cell(self, row: str, column: str) -> None:
        """Refuse a cell that the table does not have.

        Raises:
            UserError: the rows that have the column.
        """
        if not self.has(row, column):
            only = ", ".join(self.columns[column].rows)
            raise UserError(f"no cell {row}/{column}: column '{column}' has only {only}")

    def grid(self, rows: Names = (), columns: Names = ()) -> list[Cell]:
        """Return the cells in these rows and columns (empty: all), row by row."""
        return [
            (row, column)
            for row in self.rows
            for column in self.columns
            if self.has(row, column) and (not rows or row in rows) and (not columns or column in columns)
        ]

    def cells_in(self, budget: Budget) -> list[Cell]:
        """Return the cells that a budget runs, row by row."""
        cells = self.grid(budget.listed("rows"), budget.listed("columns"))
        return [cell for cell in cells if not budget.why_without(cell)]

    def every_words(self) -> Iterator[Words]:
        """Yield the settings of every section."""
        yield self.common
        yield from (entry.set for entry in (*self.rows.values(), *self.columns.values()))
        yield from self.cells.values()
        for budget in self.budgets.values():
            yield from (budget.set, *budget.settings("rows").values(), *budget.settings("columns").values())
            if budget.tune is not None:
                yield from (*budget.tune.set, budget.tune.trials)
