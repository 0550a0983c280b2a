"""What the parts of a table's file say of each other: claims and figures about cells that exist, and in a sensible way."""

from collections.abc import Iterable

from credit.errors import UserError, nearest
from credit.papers import expression
from credit.papers.nodes import refusal
from credit.papers.spec import Claim, Column, Figure, Spec, Words

OWN_KEYS = {"seed": "seeds are counted: a budget's `seeds`, or seeds=3 on the command line"}
"""Settings that a table makes itself, and what to write instead."""


def check_spec(spec: Spec) -> None:
    """Refuse a table whose parts do not fit together.

    Raises:
        UserError: naming file, line and, for a wrong name, the nearest.
    """
    for words in _all_words(spec):
        for word, line in zip(words.words, words.lines, strict=True):
            _check_word(spec, word, line)
    for column in spec.columns.values():
        _check_against(spec, column)
    for budget in spec.budgets.values():
        if not cells_of(spec, budget.rows, budget.columns):
            raise refusal(spec.file, budget.line, f"budgets.{budget.name}: no cell is in these rows and columns")
    seen: dict[str, int] = {}
    for claim in spec.claims:
        if seen.setdefault(claim.name, claim.line) != claim.line:
            raise refusal(spec.file, claim.line, f"two claims are named '{claim.name}': give this one another name")
        try:
            _check_claim(spec, claim)
        except UserError as error:
            raise refusal(spec.file, claim.line, f"claim '{claim.name}': {error}") from error
    for figure in spec.figures:
        _check_figure(spec, figure)


def cells_of(spec: Spec, rows: tuple[str, ...], columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the table's cells that lie in these rows and columns (empty: all), row by row."""
    return [
        (row, column) for row, column in spec.grid() if (not rows or row in rows) and (not columns or column in columns)
    ]


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


def _check_word(spec: Spec, word: str, line: int) -> None:
    key = word.partition("=")[0].lstrip("+")
    if key in OWN_KEYS:
        raise refusal(spec.file, line, f"'{word}': {OWN_KEYS[key]}")
    if key in spec.repeat:
        raise refusal(spec.file, line, f"'{word}': the repeats run through {key}, see `repeat`: keep one of the two")


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
    if figure.kind == "lines":
        try:
            places = {_x(spec, row) for row, _ in cells}
        except UserError as error:
            raise refusal(spec.file, figure.line, f"{text}{error}") from error
        if len(places) < 2:
            raise refusal(spec.file, figure.line, f"{text}lines need two rows or more with different x")
