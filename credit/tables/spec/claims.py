"""Claims of a table: parse and check them."""

from credit.core.errors import UserError
from credit.tables.claims import expression
from credit.tables.spec.schema import Claim, Spec


def claim_tree(spec: Spec, claim: Claim) -> expression.Comparison | expression.Side:
    """Return the expression of a claim as a tree: a comparison, or a side that grows or falls.

    Raises:
        UserError: the expression cannot be parsed, or names a row or column that the table does not have.
    """
    if claim.compare is not None:
        return expression.parse_comparison(claim.compare, spec.columns, spec.rows)
    return expression.parse_side(claim.grows or claim.falls or "", spec.columns, spec.rows)


def claim_rows(spec: Spec, claim: Claim) -> tuple[str, ...]:
    """Return the rows at which a claim is judged: `at`, else all with its columns; empty if it names cells as ``row/column``."""
    free = [cell.column for cell in expression.cells(claim_tree(spec, claim)) if cell.row is None]
    if not free:
        return ()
    return claim.at or tuple(row for row in spec.rows if all(spec.has(row, column) for column in free))


def check_claim(spec: Spec, claim: Claim) -> None:
    """Refuse a claim about cells that the table does not have, one that is always true, and one that is never true.

    Raises:
        UserError: what is wrong, and what to write instead.
    """
    tree = claim_tree(spec, claim)
    cells = expression.cells(tree)
    if not cells:
        raise UserError("it speaks of no cell: name a column, or a row/column")
    rows = claim_rows(spec, claim)
    for cell in cells:
        for row in rows if cell.row is None else (cell.row,):
            spec.check_cell(row, cell.column)
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
    if len({place(spec, row) for row in rows}) < 2:
        raise UserError("growing and falling needs two rows or more with different x, and a column without a row")


def _check_sums(tree: expression.Comparison | expression.Side, rows: tuple[str, ...]) -> None:
    """Refuse a comparison that does not depend on the numbers: ``a > a``, ``a - a >= 0``, ``best(a, b) >= a`` (which may be a).

    A side that grows or falls may cancel at some rows, as ``a - first/a`` does, but not at all of them.
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


def place(spec: Spec, row: str) -> float:
    """Return a row's place on the numeric axis.

    Raises:
        UserError: it has none.
    """
    x = spec.rows[row].x
    if x is None:
        raise UserError(
            f"row '{row}' has no x (line {spec.rows[row].line}): write its place on the axis, or name rows in `at`"
        )
    return x
