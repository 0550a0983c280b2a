"""What the parts of a table's file say of each other: claims and figures about cells that exist, and in a sensible way."""

import re
from collections.abc import Iterable

from credit.core.config.folders import OVERLAYS
from credit.core.errors import UserError, nearest
from credit.tables.claims import expression
from credit.tables.expand.tuning import check_tuning
from credit.tables.measures import angles
from credit.tables.measures.measures import measure
from credit.tables.spec.nodes import refusal
from credit.tables.spec.schema import Budget, Claim, Column, Costs, Figure, Row, Spec, Words

OWN_KEYS = {"seed": "seeds are counted: a budget's `seeds`, or seeds=3 on the command line"}
"""Settings that a table makes itself, and what to write instead."""

OPTIONS = {
    "train": (),
    "trees": ("model", "params", "threads"),
    "gates": ("reach",),
    "shattering": ("lags",),
    "timing": ("against", "seconds"),
}
"""What a column's `options` may hold, by runner."""


_BY_RUNNER = {"gates": ("gates", "the factor by z"), "signals": ("shattering", "the signal by input")}
"""Figures of what only one runner measures: which, and what they show."""

_PRUNINGS = ("pruning", "pruning_by_layer")
_OF_CLASSES = {"confusion": "the confusion matrix", "embedding": "t-SNE's points"}
"""Figures without a measure, and what they show."""


def check_spec(spec: Spec) -> None:
    """Refuse a table whose parts do not fit together.

    Raises:
        UserError: naming file, line and, for a wrong name, the nearest.
    """
    for words in _all_words(spec):
        for word, line in zip(words.words, words.lines, strict=True):
            _check_word(spec, word, line)
    _check_labels(spec, spec.rows.values(), "rows")
    _check_labels(spec, spec.columns.values(), "columns")
    for column in spec.columns.values():
        _check_options(spec, column)
        _check_why(spec, column)
        _check_against(spec, column)
    for row in spec.rows.values():
        _check_base(spec, row)
    if spec.costs is not None:
        _check_costs(spec, spec.costs)
    check_tuning(spec)
    printed = [*spec.published.values(), *(entry for found in spec.also_published.values() for entry in found.values())]
    if printed and not spec.source:
        raise refusal(spec.file, printed[0].line, "published numbers stand somewhere: name the table's `source`")
    for budget in spec.budgets.values():
        if not cells_in(spec, budget):
            raise refusal(spec.file, budget.line, f"budgets.{budget.name}: no cell is in these rows and columns")
    seen: dict[str, int] = {}
    for claim in spec.claims:
        if seen.setdefault(claim.name, claim.line) != claim.line:
            raise refusal(spec.file, claim.line, f"two claims are named '{claim.name}': give this one another name")
        try:
            _check_claim(spec, claim)
        except UserError as error:
            raise refusal(spec.file, claim.line, f"claim '{claim.name}': {error}") from error
        if claim.measure is not None:
            check_measured(spec, claim.measure, claim.line)
    for figure in spec.figures:
        _check_figure(spec, figure)


def check_measured(spec: Spec, name: str, line: int) -> None:
    """Refuse a measure that is of a diagnostic which no run of the table makes.

    Raises:
        UserError: naming file and line.
    """
    diagnostic = measure(name).diagnostic
    words = [word.lstrip("+").partition("=") for part in _all_words(spec) for word in part.words]
    # A choice of the user's may set it, or a reference, and neither can be seen here.
    hidden = any(
        key in ("trainer", *OVERLAYS) or (key == "trainer.measure" and "$" in value) for key, _, value in words
    )
    made = {found for key, _, value in words if key == "trainer.measure" for found in re.findall(r"\w+", value)}
    if measure(name).timed and spec.costs is None and all(c.runner != "timing" for c in spec.columns.values()):
        text = f"{name} is measured by no run of the table: give it `costs`, or columns with `runner: timing`"
        raise refusal(spec.file, line, text)
    if measure(name).of and not any(row.base for row in spec.rows.values()):
        raise refusal(spec.file, line, f"{name} needs a row with a `base`, the row it is held against; no row has one")
    if diagnostic and diagnostic not in made and not hidden:
        text = f'{name} is measured by no run of the table: add "trainer.measure=[{diagnostic}]" to its `common`'
        raise refusal(spec.file, line, text)


def cells_of(spec: Spec, rows: tuple[str, ...], columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the table's cells that lie in these rows and columns (empty: all), row by row."""
    return [
        (row, column) for row, column in spec.grid() if (not rows or row in rows) and (not columns or column in columns)
    ]


def cells_in(spec: Spec, budget: Budget) -> list[tuple[str, str]]:
    """Return the cells that a budget runs, row by row."""
    return [cell for cell in cells_of(spec, budget.rows, budget.columns) if cell not in budget.without]


def claim_tree(spec: Spec, claim: Claim) -> expression.Comparison | expression.Side:
    """Return what a claim compares, or what it says grows or falls, as a tree.

    Raises:
        UserError: it cannot be read, or names what the table does not have.
    """
    if claim.compare is not None:
        return expression.parse_comparison(claim.compare, spec.columns, spec.rows)
    return expression.parse_side(claim.grows or claim.falls or "", spec.columns, spec.rows)


def claim_rows(spec: Spec, claim: Claim) -> tuple[str, ...]:
    """Return the rows a claim is judged at: `at`, else all that have its columns; none where it names every cell whole."""
    free = [cell.column for cell in expression.cells(claim_tree(spec, claim)) if cell.row is None]
    if not free:
        return ()
    return claim.at or tuple(row for row in spec.rows if all(spec.has(row, column) for column in free))


def _all_words(spec: Spec) -> Iterable[Words]:
    yield spec.common
    yield from (row.set for row in spec.rows.values())
    yield from (column.set for column in spec.columns.values())
    yield from spec.cells.values()
    for budget in spec.budgets.values():
        yield from (budget.set, *budget.row_set.values(), *budget.column_set.values())
        if budget.tune is not None:
            yield from (*budget.tune.candidates, budget.tune.trials)


def _check_word(spec: Spec, word: str, line: int) -> None:
    key = word.partition("=")[0].lstrip("+")
    if key in OWN_KEYS:
        raise refusal(spec.file, line, f"'{word}': {OWN_KEYS[key]}")
    if key.startswith(("hydra.", "hydra/")):
        text = f"'{word}': how runs are launched is no part of a table: give it to `credit table {spec.name}`"
        raise refusal(spec.file, line, text)
    if key in spec.repeat:
        raise refusal(spec.file, line, f"'{word}': the repeats run through {key}, see `repeat`: keep one of the two")


def _check_why(spec: Spec, column: Column) -> None:
    if column.why and not column.rows:
        text = (
            f"columns.{column.name}.why says why rows lack the column, and all have it: name its rows, or leave it out"
        )
        raise refusal(spec.file, column.line, text)


def _check_labels(spec: Spec, entries: Iterable[Row | Column], what: str) -> None:
    seen: dict[str, Row | Column] = {}
    for entry in entries:
        first = seen.setdefault(entry.label, entry)
        if first is not entry:
            text = f"two {what} are labelled '{entry.label}', {first.name} and {entry.name}: give one another label"
            raise refusal(spec.file, entry.line, text)


def _check_base(spec: Spec, row: Row) -> None:
    if not row.base:
        return
    text = f"rows.{row.name}.base: "
    if row.base not in spec.rows:
        raise refusal(spec.file, row.line, f"{text}unknown row '{row.base}': {nearest(row.base, spec.rows)}")
    if spec.rows[row.base].base or row.base == row.name:
        raise refusal(spec.file, row.line, f"{text}row '{row.base}' must be one without a base of its own")
    for column in spec.columns:
        if spec.has(row.name, column) and not spec.has(row.base, column):
            raise refusal(spec.file, row.line, f"{text}no cell {row.base}/{column} to hold {row.name}/{column} against")


def _check_costs(spec: Spec, costs: Costs) -> None:
    for row in costs.rows or spec.rows:
        if not spec.has(row, costs.against):
            text = (
                f"costs: no cell {row}/{costs.against} to measure the row's others against: leave the row out in `rows`"
            )
            raise refusal(spec.file, costs.line, text)
    others = [column for column in spec.columns.values() if column.runner != "train"]
    if others:
        text = (
            f"costs: column '{others[0].name}' has the runner {others[0].runner}: only training is timed beside a table"
        )
        raise refusal(spec.file, costs.line, text)


def _check_options(spec: Spec, column: Column) -> None:
    known = OPTIONS[column.runner]
    for key in column.options:
        if key not in known:
            told = nearest(key, known) if known else "it takes none; timing and trees do"
            text = f"columns.{column.name}.options: '{key}' is no option of the runner {column.runner}: {told}"
            raise refusal(spec.file, column.line, text)


def _check_against(spec: Spec, column: Column) -> None:
    against = column.options.get("against")
    if against is None:
        return
    if against not in spec.columns:
        text = f"columns.{column.name}.options: unknown column '{against}': {nearest(against, spec.columns)}"
        raise refusal(spec.file, column.line, text)
    for row in spec.rows:
        if spec.has(row, column.name) and not spec.has(row, against):
            text = f"columns.{column.name}.options: no cell {row}/{against} to measure {row}/{column.name} against"
            raise refusal(spec.file, column.line, text)


def _check_claim(spec: Spec, claim: Claim) -> None:
    tree = claim_tree(spec, claim)
    cells = expression.cells(tree)
    if not cells:
        raise UserError("it speaks of no cell: name a column, or a row/column")
    rows = claim_rows(spec, claim)
    for cell in cells:
        for row in rows if cell.row is None else (cell.row,):
            if not spec.has(row, cell.column):
                only = ", ".join(spec.columns[cell.column].rows)
                raise UserError(f"no cell {row}/{cell.column}: column '{cell.column}' has only {only}")
    if not rows and any(cell.row is None for cell in cells):
        raise UserError(f"no row has all of {', '.join(expression.columns(tree))}")
    if not rows and claim.at:
        raise UserError("`at` changes nothing where every cell is named row/column: leave it out")
    _check_sums(tree, rows)
    loose = isinstance(tree, expression.Comparison) and tree.op in (">=", "<=", "~")
    if claim.tolerance and not loose:
        told = f"`{tree.op}`" if isinstance(tree, expression.Comparison) else "growing and falling"
        raise UserError(f"tolerance: {told} has none; it is what `>=`, `<=` and `~` allow")
    if isinstance(tree, expression.Comparison):
        if claim.at_least is not None and claim.at_least > max(len(rows), 1):
            raise UserError(f"at_least: {claim.at_least} of {max(len(rows), 1)} rows cannot hold")
        if tree.op == "~" and not claim.tolerance:
            raise UserError("`~` needs a tolerance: within how many points are the two sides equal?")
        return
    if claim.at_least is not None:
        raise UserError("at_least counts rows of a `compare`; growing and falling is said of all rows together")
    if len({_x(spec, row) for row in rows}) < 2:
        raise UserError("growing and falling needs two rows or more with different x, and a column without a row")


def _check_sums(tree: expression.Comparison | expression.Side, rows: tuple[str, ...]) -> None:
    """Refuse what says the same of any numbers: ``a > a``, ``a - a >= 0``, ``best(a, b) >= a``, which may be a itself.

    What grows or falls may well cancel at some rows, as ``a - first/a`` does, but not at all of them.
    """
    compared = isinstance(tree, expression.Comparison)
    side = expression.Minus(tree.left, tree.right) if isinstance(tree, expression.Comparison) else tree
    empty: dict[str, bool] = {}  # by row; whether cells cancelled or there were none
    for row in rows or ("",):
        for found in expression.sums(side, row):
            coefficients = [c for cell, c in found.items() if cell is not None]
            if not any(coefficients):
                empty.setdefault(row, bool(coefficients))
    if not empty or (not compared and len(empty) < len(rows)):
        return
    row, cancels = next(iter(empty.items()))
    where = f"at row {row} " if row and len(rows) > 1 and len(empty) < len(rows) else ""
    if not cancels:
        raise UserError(
            f"{where}`best` may be its number, and then no cell is compared: compare with the number itself"
        )
    remedy = "leave the row out, in `at`" if where else "name two different ones"
    raise UserError(f"{where}a cell is compared with itself: {remedy}")


def _x(spec: Spec, row: str) -> float:
    x = spec.rows[row].x
    if x is None:
        raise UserError(
            f"row '{row}' has no x (line {spec.rows[row].line}): write its place on the axis, or name rows in `at`"
        )
    return x


def _check_figure(spec: Spec, figure: Figure) -> None:
    cells = cells_of(spec, figure.rows, figure.columns)
    text = f"figure '{figure.title}': "
    for row in figure.rows:
        if all(cell[0] != row for cell in cells):
            raise refusal(spec.file, figure.line, f"{text}no cell {row}/{' or '.join(figure.columns)}")
    for column in figure.columns:
        if all(cell[1] != column for cell in cells):
            only = ", ".join(spec.columns[column].rows)
            raise refusal(spec.file, figure.line, f"{text}column '{column}' has only the rows {only}")
    if figure.kind == "layers":
        if figure.measure is not None:
            raise refusal(spec.file, figure.line, f"{text}layers always shows the alignment: leave `measure` out")
        check_measured(spec, "alignment", figure.line)
        return
    if figure.kind in ("layer_curves", "layer_steps"):
        if figure.measure not in (None, *angles.KEYS):
            text += f"{figure.kind} shows a number of each layer's alignment, one of {', '.join(angles.KEYS)}, not {figure.measure}"
            raise refusal(spec.file, figure.line, text)
        check_measured(spec, "alignment", figure.line)
        return
    if figure.kind in _BY_RUNNER:
        runner, shows = _BY_RUNNER[figure.kind]
        if figure.measure is not None:
            raise refusal(spec.file, figure.line, f"{text}{figure.kind} always shows {shows}: leave `measure` out")
        others = [column for _, column in cells if spec.columns[column].runner != runner]
        if others:
            raise refusal(
                spec.file, figure.line, f"{text}column '{others[0]}' has no `runner: {runner}`, which measures one"
            )
        return
    if figure.kind in _OF_CLASSES:
        if figure.measure is not None:
            text += f"{figure.kind} always shows {_OF_CLASSES[figure.kind]}: leave `measure` out"
            raise refusal(spec.file, figure.line, text)
        if figure.kind == "embedding":
            check_measured(spec, "embedding.neighbours", figure.line)
        return
    if figure.kind == "pruning":
        if figure.measure not in (None, *_PRUNINGS):
            text += f"pruning shows the curve of one of the diagnostics {', '.join(_PRUNINGS)}, not {figure.measure}"
            raise refusal(spec.file, figure.line, text)
        check_measured(spec, f"{figure.measure or _PRUNINGS[0]}.prunable", figure.line)
        return
    name = figure.measure or spec.measures[0]
    check_measured(spec, name, figure.line)
    if figure.kind == "trade":
        check_measured(spec, "time_ratio", figure.line)
    if figure.kind in ("curves", "steps") and measure(name).by_epoch is None:
        text += f"{name} is one number a run and has no course by epoch: use bars or lines"
        raise refusal(spec.file, figure.line, text)
    if figure.kind == "lines":
        try:
            places = {_x(spec, row) for row, _ in cells}
        except UserError as error:
            raise refusal(spec.file, figure.line, f"{text}{error}") from error
        if len(places) < 2:
            raise refusal(spec.file, figure.line, f"{text}lines need two rows or more with different x")
