"""What a report is made of, before it is written as Markdown or HTML. In all text, `code` and **bold** mean what they look like."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """A heading: level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; a `small` one is a note."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Box:
    """What must not be overlooked: its first line stands out. `loud` where the numbers are not of the published setting."""

    lines: tuple[str, ...]
    loud: bool = True


@dataclass(frozen=True)
class Table:
    """A table; `align` has ``l`` or ``r`` for every column. What follows a line break in a cell is of less weight."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


@dataclass(frozen=True)
class Verdict:
    """One claim: its verdict, name, what the paper says, what was found."""

    verdict: str
    name: str
    says: str
    found: str


@dataclass(frozen=True)
class Verdicts:
    """All claims, first thing on the page."""

    of: tuple[Verdict, ...]
    says: str = "the paper says"


@dataclass(frozen=True)
class Picture:
    """A PNG beside the report."""

    file: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks behind a line to click on."""

    summary: str
    blocks: "tuple[Block, ...]"


Block: TypeAlias = Heading | Text | Box | Table | Verdicts | Picture | Code | Fold
