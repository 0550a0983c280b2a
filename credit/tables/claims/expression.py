"""Parse the expressions of claims: ``lisp_margin > bp``, ``best(lisp_margin, lisp_ce) - best(bp, bp_hinge) >= 1.5``.

    comparison = side OP side              OP: > >= < <= ~
    side       = term { - term }
    term       = number | column | row/column | best(side, side, ...)

A column alone is evaluated in each row of the claim; ``row/column`` is the same cell in every row. The parser builds a tree, which
`credit.tables.claims.claims` evaluates.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from credit.core.errors import UserError, nearest

OPERATORS = (">=", "<=", ">", "<", "~")
NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?")

_TOKEN = re.compile(
    rf"(?P<cell>[A-Za-z0-9_]+\s*/\s*[A-Za-z0-9_]+)|(?P<number>(?:{NUMBER.pattern})(?![A-Za-z0-9_]))"
    r"|(?P<name>[A-Za-z0-9_]+)|(?P<mark>>=|<=|[-><~(),])"
)


@dataclass(frozen=True)
class Number:
    """A number, in the measure's unit."""

    value: float


@dataclass(frozen=True)
class CellRef:
    """A cell; a `row` of None is the row at which the claim is evaluated."""

    row: str | None
    column: str


@dataclass(frozen=True)
class Best:
    """The option with the largest mean."""

    of: tuple["Side", ...]


@dataclass(frozen=True)
class Minus:
    """The difference of two sides."""

    left: "Side"
    right: "Side"


Side: TypeAlias = Number | CellRef | Best | Minus


@dataclass(frozen=True)
class Comparison:
    """A comparison of two sides; `op` is one of `OPERATORS`."""

    left: Side
    op: str
    right: Side


def parse_comparison(text: str, columns: Collection[str], rows: Collection[str]) -> Comparison:
    """Parse ``LEFT op RIGHT`` and return its tree.

    Args:
        text: the comparison.
        columns, rows: names of the table's columns and rows.

    Raises:
        UserError: the text cannot be parsed, or has a name that the table does not have (with the nearest name).
    """
    parser = _Parser(text, columns, rows)
    left = parser.side()
    op = parser.take()
    if op not in OPERATORS:
        raise parser.unreadable(f"after its left side belongs one of {' '.join(OPERATORS)}")
    right = parser.side()
    parser.end()
    return Comparison(left, op, right)


def parse_side(text: str, columns: Collection[str], rows: Collection[str]) -> Side:
    """Parse one side, as in `grows` and `falls`, and return its tree.

    Raises:
        UserError: as in `parse_comparison`.
    """
    parser = _Parser(text, columns, rows)
    side = parser.side()
    if parser.peek() in OPERATORS:
        raise UserError(f"'{text}': one side is wanted here, such as lisp_margin - bp, not a comparison")
    parser.end()
    return side


def cells(tree: Comparison | Side) -> tuple[CellRef, ...]:
    """Return the distinct cells in a tree, in reading order."""
    if isinstance(tree, CellRef):
        return (tree,)
    if isinstance(tree, Number):
        return ()
    parts = tree.of if isinstance(tree, Best) else (tree.left, tree.right)
    return tuple(dict.fromkeys(cell for part in parts for cell in cells(part)))


def columns(tree: Comparison | Side) -> tuple[str, ...]:
    """Return the distinct columns in a tree, in reading order."""
    return tuple(dict.fromkeys(cell.column for cell in cells(tree)))


def sums(side: Side, row: str) -> list[dict[CellRef | None, float]]:
    """Return a side at a row as linear forms of cells, one for each choice of its `best`.

    A linear form has coefficients by cell (0 for a cell that cancels), and the constant under None.

    Raises:
        UserError: a `best` has the same option twice.
    """
    if isinstance(side, Number):
        return [{None: side.value}]
    if isinstance(side, CellRef):
        return [{CellRef(side.row or row, side.column): 1.0}]
    if isinstance(side, Best):
        found = [sums(option, row) for option in side.of]
        for index, option in enumerate(found):
            if option in found[:index]:
                raise UserError("`best` has one option twice: name each once")
        return [choice for option in found for choice in option]
    return [
        {key: left.get(key, 0.0) - right.get(key, 0.0) for key in {**left, **right}}
        for left in sums(side.left, row)
        for right in sums(side.right, row)
    ]


class _Parser:
    """A recursive-descent parser of one text, with one token of look-ahead."""

    def __init__(self, text: str, columns: Collection[str], rows: Collection[str]) -> None:
        self.text, self.columns, self.rows = text, columns, rows
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match:
                self.tokens.append((str(match.lastgroup), match[0]))
                at = match.end()
            elif text[at].isspace():
                at += 1
            else:
                raise self.unreadable(f"'{text[at]}' has no meaning here")
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def side(self) -> Side:
        left = self.term()
        while self.peek() == "-":
            self.take()
            left = Minus(left, self.term())
        return left

    def term(self) -> Side:
        sign = -1 if self.peek() == "-" else 1
        if sign < 0:
            self.take()
        kind = self.tokens[self.at][0] if self.at < len(self.tokens) else "end"
        token = self.take()
        if kind == "number":
            return Number(sign * float(token))
        if sign < 0:
            raise self.unreadable("a minus belongs between two sides or before a number")
        if kind == "cell":
            row, column = (part.strip() for part in token.split("/"))
            return CellRef(self._known(row, "row", self.rows), self._known(column, "column", self.columns))
        if kind == "name" and token == "best" and self.peek() == "(":
            return self._best()
        if kind == "name":
            return CellRef(None, self._known(token, "column", self.columns))
        found = f"not '{token}'" if token else "not its end"
        raise self.unreadable(f"a column, a row/column, a number or best(a, b) is wanted, {found}")

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.unreadable(f"'{self.peek()}' is left over")

    def unreadable(self, why: str) -> UserError:
        return UserError(
            f"cannot read '{self.text}': {why}. Write for example lisp_margin > bp, noise40/bp <= 82, "
            "best(lisp_margin, lisp_ce) - bp >= 1.5"
        )

    def _best(self) -> Best:
        of = []
        while self.take() in ("(", ","):  # the opening bracket, then a comma before each further option
            of.append(self.side())
        if self.tokens[self.at - 1 : self.at] != [("mark", ")")]:
            raise self.unreadable("best( is not closed")
        if len(of) < 2:
            raise self.unreadable("best takes two or more")
        return Best(tuple(of))

    def _known(self, name: str, what: str, valid: Collection[str]) -> str:
        if name not in valid:
            raise UserError(f"'{self.text}': unknown {what} '{name}': {nearest(name, valid)}")
        return name
