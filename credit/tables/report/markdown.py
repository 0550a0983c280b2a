"""Write a report as Markdown."""

import re
from collections.abc import Sequence

from credit.tables.report.blocks import Block, Box, Code, Fold, Heading, Picture, Table, Text, Verdicts

SIGNS = {"held": "✓", "not held": "✗", "undecided": "?", "too few repeats": "–", "identical": "=", "not judged": "–"}


def markdown(blocks: Sequence[Block]) -> str:
    """Return a report's blocks as Markdown."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_safe(text)}"
        case Text(text, small):
            return f"<sub>{_safe(text)}</sub>" if small else _safe(text)
        case Box(lines, _):
            told = [f"**{_safe(lines[0])}**", *map(_safe, lines[1:])]
            return "\n>\n".join(f"> {line}" for line in told)
        case Table():
            return _table(block)
        case Verdicts(of, says):
            rows = tuple((f"{SIGNS[v.verdict]} **{v.verdict}**", v.name, v.says, v.found) for v in of)
            return _table(Table(("verdict", "claim", says, "found here"), rows, "llll"))
        case Picture(file, title, note):
            return f"### {_safe(title)}\n\n![{_safe(title)}]({file})" + (
                f"\n\n<sub>{_safe(note)}</sub>" if note else ""
            )
        case Code(text):
            return f"```sh\n{text}\n```"
        case Fold(summary, blocks):
            return f"<details><summary>{_safe(summary)}</summary>\n\n{markdown(blocks)}\n</details>"


def _table(table: Table) -> str:
    rule = "|".join({"l": "---", "r": "--:"}[side] for side in table.align)
    return "\n".join([_line(table.head), f"|{rule}|", *map(_line, table.rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_safe(cell).replace("|", "\\|") for cell in cells) + " |"


def _safe(text: str) -> str:
    """Return a text on one line, without the start of an HTML tag outside of code."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if i % 2 else re.sub(r"<(?=[A-Za-z/!?])", "&lt;", part) for i, part in enumerate(parts))
