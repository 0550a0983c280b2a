"""The blocks of a report, independent of its format (Markdown or HTML). Texts may contain `code` and **bold**."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `small` for a note."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Box:
    """A highlighted box with a bold first line; `loud` if the numbers are not those of the published setting."""

    lines: tuple[str, ...]
    loud: bool = True


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: the columns' headings.
        rows: the cells of each row; lines after the first one of a cell are printed small.
        align: ``l`` or ``r`` for every column.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


@dataclass(frozen=True)
class Verdict:
    """A claim: its verdict, its name, the paper's statement and the result."""

    verdict: str
    name: str
    says: str
    found: str


@dataclass(frozen=True)
class Verdicts:
    """A table of claims; `says` is the heading of the statements."""

    of: tuple[Verdict, ...]
    says: str = "the paper says"


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the report, with a title and a note."""

    file: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Lines of code."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are folded behind a summary."""

    summary: str
    blocks: "tuple[Block, ...]"


Block: TypeAlias = Heading | Text | Box | Table | Verdicts | Picture | Code | Fold
