"""What a published table is: plain frozen dataclasses, one a part of ``conf/paper/<paper>/<table>.yaml``; no torch.

A table is a grid. Rows and columns each bring settings in the command line's words; a cell is one of each. A cell is run
once a repeat (a seed, a fold, or both), and the repeats' spread is the cell's.

    settings of a cell = common, row, column, the cell's own, the budget's, the command line's: a later one wins
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUDGETS = ("smoke", "quick", "paper")
"""How much of the published run is made: seconds for CI, minutes on two CPU cores, everything."""

ACCURACIES = ("last", "best_val", "best_test")
"""Which epoch's test accuracy a paper reports: the last, the best on validation, or the best on test."""

TESTS = ("welch", "paired")
"""How two cells' repeats are compared: as two samples, or difference by difference (same folds, same seeds)."""

LINES = ("rows", "columns")
"""What the lines of the report's tables are: the table's rows, or its columns, where these are many."""


MOMENTS = ("mean", "spread")
"""What of a cell's repeats a claim compares: their mean, or their distance from the cell's median (Brown and Forsythe)."""


@dataclass(frozen=True)
class Words:
    """Settings as on the command line, such as ``optimizer.lr=0.1``, each with the line of the file it stands on."""

    words: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    def __add__(self, other: "Words") -> "Words":
        return Words(self.words + other.words, self.lines + other.lines)


NO_WORDS = Words()


@dataclass(frozen=True)
class Row:
    """One line of the table: a data set, a noise rate, an activation. `x` is its place on a numeric axis.

    `base` is the row that this one is held against by the measure ``noise_loss``: the same without noise; empty: none.
    """

    name: str
    label: str
    set: Words = Words()
    x: float | None = None
    line: int = 0
    base: str = ""


@dataclass(frozen=True)
class Column:
    """One method.

    Attributes:
        rows: the only rows that have this column; empty: all.
        why: in words, why the other rows do not have it.
        family: what it is one of, for tables and pictures that put families together.
        runner: what runs its cells, a name of `credit.sweeps.runners`: ``train``, ``trees``, ``gates``, ``shattering``,
            ``timing``.
        options: what that runner takes besides a run's configuration.
    """

    name: str
    label: str
    set: Words = Words()
    rows: tuple[str, ...] = ()
    runner: str = "train"
    options: dict[str, Any] = field(default_factory=dict)
    line: int = 0
    why: str = ""
    family: str = ""


@dataclass(frozen=True)
class Published:
    """A number as printed: in the measure's unit; None where the paper gives no spread or count.

    `mark` is one of `credit.tables.measures.marks`; where it is an X there is no number, and `mean` is None.
    """

    mean: float | None
    std: float | None = None
    n: int | None = None
    line: int = 0
    mark: str = ""


@dataclass(frozen=True)
class Setting:
    """Something the paper leaves out: what, the reading chosen, and why."""

    what: str
    reading: str
    why: str
    line: int = 0


@dataclass(frozen=True)
class Contradiction:
    """Two places of a paper that cannot both hold: what one says, what the other says, and the reading chosen."""

    says: str
    but: str
    reading: str
    line: int = 0


@dataclass(frozen=True)
class Diverged:
    """The number, in the main measure's unit, that a run counts with whose weights left the finite numbers, and why."""

    counts_as: float
    why: str
    line: int = 0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a comparison between cells; exactly one of `compare`, `grows`, `falls` is given.

    Attributes:
        name: a word for it in tables.
        says: what the paper says, in one sentence.
        compare: ``LEFT > RIGHT`` (also ``>= < <= ~``). A side is a column, a ``row/column``, a number, ``best(a, b)``
            (the larger mean), or a difference ``a - b`` of these.
        grows, falls: a side whose value rises, or drops, with the rows' `x`.
        at: the rows it is judged at; empty: all rows that have its columns.
        at_least: of these rows, how many must satisfy it; None: every one.
        tolerance: points within which ``~`` calls two sides equal, and by which ``>=`` may fall short.
        measure: which measure; None: the table's main one.
        of: one of `MOMENTS`.
    """

    name: str
    says: str
    compare: str | None = None
    grows: str | None = None
    falls: str | None = None
    at: tuple[str, ...] = ()
    at_least: int | None = None
    tolerance: float = 0.0
    measure: str | None = None
    of: str = "mean"
    line: int = 0


@dataclass(frozen=True)
class Figure:
    """A picture of the report.

    Attributes:
        kind: ``bars`` (published beside measured), ``lines`` (a measure against the rows' `x`), ``curves`` (a measure
            by epoch), ``steps`` (by step), ``boxes`` (least, quartiles and largest of the repeats), ``layers`` (alignment by
            layer and epoch), ``layer_curves``, ``layer_steps`` (a line a layer, by epoch, or by each of the first steps),
            ``gates`` (factors by pre-activation), ``pruning`` (accuracy by weights pruned), ``confusion`` (which classes are
            taken for which), ``embedding`` (t-SNE of the top representation), ``signals`` (the signal at the
            input by input), ``dots`` (a line a column, by family; rows with a `base` hollow beside it), ``trade`` (a measure
            against the time of a step).
        title: its heading.
        measure: what is drawn; None: the table's main measure. `layers` always shows the alignment, `gates` the factors,
            `signals` the signal; of `pruning` it is the diagnostic, ``pruning`` or ``pruning_by_layer``, of `layer_curves` and
            `layer_steps` one of `credit.tables.measures.angles.KEYS`, the angle where none is given.
        rows, columns: which; empty: all.
    """

    kind: str
    title: str
    measure: str | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True)
class Tuning:
    """What every cell may try before its seeds are run: the same candidates, the best of them on validation images.

    Attributes:
        candidates: settings, stronger than all of the table's.
        seeds: how many runs a candidate, of seeds of their own.
        like: rows whose cells take the choice of the same column in another row.
        trials: settings of the candidates' runs alone, such as a shorter length.
    """

    candidates: tuple[Words, ...]
    seeds: int = 1
    like: dict[str, str] = field(default_factory=dict)
    trials: Words = Words()
    line: int = 0


@dataclass(frozen=True)
class Costs:
    """Whose steps are timed and weighed beside the table's runs.

    Attributes:
        against: the column whose step is the unit.
        rows: the only rows it is done in; empty: all.
        seconds: how long a cell's rounds go on; None: as long as the runner ``timing`` goes by itself.
    """

    against: str
    rows: tuple[str, ...] = ()
    seconds: float | None = None
    line: int = 0


@dataclass(frozen=True)
class Budget:
    """How much is run.

    Attributes:
        says: what it is good for, in a sentence.
        seeds: how many seeds a cell.
        minutes: what it may cost on two CPU cores (`smoke`, `quick`) or one GPU (`paper`); None: not known.
        set: settings for every cell, stronger than the cell's own.
        row_set, column_set: settings by row or column, stronger than `set`.
        rows, columns: the only ones that are run; empty: all.
        claims: names of those it judges, the others needing longer training; None: all.
        tune: what every cell may try; None: nothing is tuned.
        without: cells that it leaves out though their row and column are run, with the reason in words.
    """

    name: str
    says: str
    seeds: int
    minutes: float | None = None
    set: Words = Words()
    row_set: dict[str, Words] = field(default_factory=dict)
    column_set: dict[str, Words] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    claims: tuple[str, ...] | None = None
    line: int = 0
    tune: Tuning | None = None
    without: dict[tuple[str, str], str] = field(default_factory=dict)

    def judges(self, claim: Claim) -> bool:
        """Return whether what is run can tell if a claim holds."""
        return self.claims is None or claim.name in self.claims


@dataclass(frozen=True)
class Spec:
    """A published table or figure.

    Attributes:
        name: ``<paper>/<table>``.
        title, source: what it is called and where it stands; no source: a comparison that no paper has.
        measures: names in `credit.tables.measures.measures`, the main one (which the published numbers are) first.
        accuracy: which epoch's accuracy the paper reports, one of `ACCURACIES`.
        split: in words, the split the paper used and ours.
        test: one of `TESTS`.
        repeat: values of settings that repeats run through besides seeds, such as ``{"data.fold": (0, 1, 2, 3, 4)}``.
        cells: settings of single cells by (row, column).
        published: numbers of the main measure by (row, column).
        also_published: the same of other measures, by their names.
        contradictions: what the paper says in two ways.
        diverged: what a diverged run counts as in the main measure; None: as no number.
        costs: what is timed beside the runs; None: nothing.
        lines: one of `LINES`.
    """

    name: str
    file: Path
    title: str
    source: str
    measures: tuple[str, ...]
    accuracy: str
    split: str
    test: str
    settings: tuple[Setting, ...]
    common: Words
    rows: dict[str, Row]
    columns: dict[str, Column]
    cells: dict[tuple[str, str], Words]
    published: dict[tuple[str, str], Published]
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...]
    budgets: dict[str, Budget]
    repeat: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    contradictions: tuple[Contradiction, ...] = ()
    diverged: Diverged | None = None
    also_published: dict[str, dict[tuple[str, str], Published]] = field(default_factory=dict)
    costs: Costs | None = None
    lines: str = LINES[0]

    def published_in(self, measure: str) -> dict[tuple[str, str], Published]:
        """Return the published numbers of a measure by (row, column); empty where there are none."""
        return self.published if measure == self.measures[0] else self.also_published.get(measure, {})

    def means_in(self, measure: str) -> dict[tuple[str, str], float]:
        """Return the means of a measure's published numbers by (row, column), of those that are one."""
        found = self.published_in(measure)
        return {cell: entry.mean for cell, entry in found.items() if entry.mean is not None}

    def has(self, row: str, column: str) -> bool:
        """Return whether the table has this cell."""
        return not self.columns[column].rows or row in self.columns[column].rows

    def grid(self) -> list[tuple[str, str]]:
        """Return every cell, row by row."""
        return [(row, column) for row in self.rows for column in self.columns if self.has(row, column)]
