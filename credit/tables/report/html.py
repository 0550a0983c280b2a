"""Write a report as one self-contained HTML page, with embedded styles and pictures, for light and dark screens."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from credit.tables.report.blocks import Block, Box, Code, Fold, Heading, Picture, Table, Text, Verdict, Verdicts
from credit.tables.report.markdown import SIGNS

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1f; --soft: #5b6169; --page: #ffffff; --card: #f5f6f8; --line: #d9dce1;
  --held: #0b6b50; --heldbg: #e2f4ed; --not: #a33600; --notbg: #fdebe1; --open: #5b6169; --openbg: #eceef1;
  --loud: #fff4d6; --loudline: #d99a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a7b0; --page: #15171a; --card: #1e2125;
  --line: #363b42; --held: #6fd6b1; --heldbg: #12332a; --not: #ffab80; --notbg: #3f2113; --open: #b4bac2;
  --openbg: #2a2e34; --loud: #3a2f12; --loudline: #d99a00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; } p { margin: .5rem 0; max-width: 62rem; }
.small { color: var(--soft); font-size: .85rem; }
.box { border-left: 5px solid var(--line); background: var(--card); padding: .7rem 1rem; margin: 1rem 0; border-radius: 4px; }
.box.loud { border-color: var(--loudline); background: var(--loud); } .box p:first-child { font-weight: 650; margin-top: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .8rem .32rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } .r { text-align: right; white-space: nowrap; }
.claims td { padding-top: .55rem; padding-bottom: .55rem; } .claims td:nth-child(2) { font-weight: 600; }
.sign { display: inline-block; white-space: nowrap; font-weight: 650; padding: .1rem .55rem; border-radius: 99px; }
.held { color: var(--held); background: var(--heldbg); } .not-held { color: var(--not); background: var(--notbg); }
.undecided { color: var(--open); background: var(--openbg); }
img { max-width: 100%; height: auto; background: white; border: 1px solid var(--line); border-radius: 6px; padding: .3rem; }
pre { background: var(--card); padding: .7rem .9rem; overflow-x: auto; border-radius: 4px; font-size: .82rem; }
code { font-family: ui-monospace, monospace; font-size: .88em; } :not(pre) > code { background: var(--card); padding: .05em .3em; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--soft); }
"""


def html(blocks: Sequence[Block], folder: Path) -> str:
    """Return a report as an HTML page.

    Args:
        blocks: the report's blocks.
        folder: folder of the PNG files of its pictures.
    """
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    body = "\n".join(_block(block, folder) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _block(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text, small):
            return f"<p{' class=small' if small else ''}>{_inline(text)}</p>"
        case Box(lines, loud):
            inside = "".join(f"<p>{_inline(line)}</p>" for line in lines)
            return f'<div class="box{" loud" if loud else ""}">{inside}</div>'
        case Table():
            return _table(block)
        case Verdicts(of, says):
            head = "".join(f"<th>{word}</th>" for word in ("", "claim", says, "found here"))
            rows = "".join(_verdict(verdict) for verdict in of)
            return f'<div class="wide"><table class="claims"><tr>{head}</tr>{rows}</table></div>'
        case Picture(file, title, note):
            data = base64.b64encode((folder / file).read_bytes()).decode()
            below = f"<p class=small>{_inline(note)}</p>" if note else ""
            return f'<h3>{_inline(title)}</h3><img alt="{escape(title)}" src="data:image/png;base64,{data}">{below}'
        case Code(text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Fold(summary, blocks):
            inside = "\n".join(_block(inner, folder) for inner in blocks)
            return f"<details><summary>{_inline(summary)}</summary>{inside}</details>"


def _verdict(verdict: Verdict) -> str:
    kind = verdict.verdict.replace(" ", "-") if verdict.verdict in ("held", "not held") else "undecided"
    sign = f'<span class="sign {kind}">{SIGNS[verdict.verdict]} {verdict.verdict}</span>'
    cells = "".join(f"<td>{_inline(text)}</td>" for text in (verdict.name, verdict.says, verdict.found))
    return f"<tr><td>{sign}</td>{cells}</tr>"


def _table(table: Table) -> str:
    head = "".join(f"<th{_side(side)}>{_inline(text)}</th>" for text, side in zip(table.head, table.align, strict=True))
    rows = [
        "".join(f"<td{_side(side)}>{_cell(text)}</td>" for text, side in zip(row, table.align, strict=True))
        for row in table.rows
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(text: str) -> str:
    first, *below = (_inline(line) for line in text.split("\n"))
    return first + "".join(f"<br><span class=small>{line}</span>" for line in below)


def _side(side: str) -> str:
    return " class=r" if side == "r" else ""


def _inline(text: str) -> str:
    parts = escape(text).split("`")
    told = [f"<code>{part}</code>" if i % 2 else _bold(part) for i, part in enumerate(parts)]
    return "".join(told)


def _bold(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
