"""``credit list``: print every choice of every group with a line of description, or the options of one choice as a table."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator

from credit.core import registry
from credit.core.config.folders import OVERLAYS, choices, settings
from credit.core.config.schema import GROUPS, OPEN_GROUPS
from credit.core.config.validate import TAGGED, option_set
from credit.core.errors import UserError, nearest
from credit.core.options import Option, describe, written
from credit.core.user_files import use_folders

_FIXED = "\N{NO-BREAK SPACE}"
TABLES = "paper"
"""Folder of the published tables, which are not a group of a run's configuration."""

PLURALS = {
    "rules": "rule",
    "archs": "arch",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "trainers": "trainer",
    "loggers": "logger",
    "experiments": "experiment",
    "tables": "paper",
}


OPTIONS_ALONE = {"trainer": "default", "logger": "files"}
"""Groups without kinds, with the choice whose options are listed."""


def main(args: list[str]) -> int:
    """Print the choices of the groups in `args`, or of every group; for ``group=choice`` print its options. Return 0.

    Args:
        args: the arguments behind ``credit list``.

    Raises:
        UserError: a group or a choice does not exist.
    """
    parser = argparse.ArgumentParser(
        prog="credit list",
        description="Show what can be chosen, by name, or the options of a choice: credit list rule=dp",
    )
    named = f"of {', '.join(_names())}; none: all. GROUP=CHOICE, and trainer or logger: a table of options"
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=named)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="a folder of your own")
    given = parser.parse_args(args)
    use_folders(given.config_dir)
    shown = []
    for word in given.groups or _every():
        group, _, choice = word.partition("=")
        if choice or word in OPTIONS_ALONE:
            shown.append(option_table(group, choice or OPTIONS_ALONE[word]))
        elif names := choices(_group(word)):
            shown.append(_section(_group(word), names))
    print("\n\n".join(shown))
    return 0


def option_table(group: str, choice: str, width: int = 0) -> str:
    """Return the options of a choice as a text table: name, values, default, and meaning with symbol, source and condition.

    Args:
        group: a group of `GROUPS`.
        choice: name of the choice.
        width: width of the table in characters; 0 for the terminal's.

    Raises:
        UserError: the group or the choice does not exist.
    """
    if group not in GROUPS:
        raise UserError(f"{group}={choice}: '{group}' is no group with options; {nearest(group, GROUPS)}")
    offered = choices(group)
    if choice not in offered:
        raise UserError(f"unknown {group} '{choice}': {nearest(choice, offered)}")
    given = settings(group, choice) or {"kind": choice}
    kinds = group in (*OPEN_GROUPS, *TAGGED)
    options = option_set(group, given["kind"] if kinds else "")
    rows: list[tuple[str, str, str, str]] = []
    for option in options.every():
        head = "" if option.owner is None else f"{group}.{option.owner[0]}={option.owner[1]}"
        if head and (not rows or head not in (row[3] for row in rows if not row[0])):
            rows.append(("", "", "", head))
        if option.name != "kind" and (condition := options.condition(option)) is not None:
            default = given.get(option.name, option.default)
            rows.append((option.name, _values(option), written(default), _meaning(option, condition)))
    of_kind = f" (kind {given['kind']})" if kinds and given["kind"] != choice else ""
    title = f"{_bold(f'{group}={choice}')}{of_kind}  {offered[choice]}".rstrip()
    columns = width or max(80, min(shutil.get_terminal_size((100, 24)).columns, 130))
    return "\n".join([*textwrap.wrap(title, columns), "", *_table(rows, columns)])


def _values(option: Option) -> str:
    """Return the valid values of an option as a text: its type, its range, or its choices."""
    meta = option.meta
    if meta.family:
        return "one of " + ", ".join(registry.names(meta.family)) + (" or null" if option.default is None else "")
    words = meta.choices() if callable(meta.choices) else meta.choices
    text = f"one of {', '.join(words)}" if words else describe(option.hint)
    if words and isinstance(option.default, list):
        text = f"a list {text.removeprefix('one ')}"
    interval = f" in {meta.interval.replace(' ', _FIXED)}" if meta.interval else ""
    return f"{text.removesuffix(' or null')}{interval}{' or null' if text.endswith(' or null') else ''}"


def _meaning(option: Option, condition: str) -> str:
    meta = option.meta
    text = "; ".join(filter(None, (meta.doc, f"read {condition}" if condition else "")))
    origin = ", ".join(filter(None, (f"{meta.symbol} in the paper" if meta.symbol else "", meta.source)))
    return f"{text} [{origin}]" if origin else text


def _table(rows: list[tuple[str, str, str, str]], width: int) -> Iterator[str]:
    """Yield the lines of a table; a row without a name is a heading."""
    if not any(row[0] for row in rows):
        yield "  no options"
        return
    head = ("option", "values", "default", "meaning")
    limits = (24, 26, 14)
    sizes = [min(limit, max(len(row[at]) for row in [head, *rows])) for at, limit in enumerate(limits)]
    sizes.append(width - sum(sizes) - 8)
    for row in [head, *rows]:
        if not row[0]:
            yield f"\n  with {row[3]}:"
            continue
        cells = [
            textwrap.wrap(text, size, break_on_hyphens=False) or [""] for text, size in zip(row, sizes, strict=True)
        ]
        for line in range(max(map(len, cells))):
            parts = [
                (cell[line] if line < len(cell) else "").ljust(size) for cell, size in zip(cells, sizes, strict=True)
            ]
            text = ("  " + "  ".join(parts)).rstrip().replace(_FIXED, " ")
            yield _bold(text) if row is head else text


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def _every() -> list[str]:
    return [*GROUPS, *OVERLAYS, TABLES]


def _names() -> list[str]:
    singular = [group for group in _every() if group not in PLURALS.values()]
    return [*PLURALS, *singular]


def _group(name: str) -> str:
    group = PLURALS.get(name, name)
    if group not in _every():
        raise UserError(f"unknown group '{name}': {nearest(name, _names())}")
    return group


def _section(group: str, names: dict[str, str]) -> str:
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in names.items()]
    how = "tables" if group == TABLES else group
    told = "credit table NAME" if group == TABLES else f"credit-train {group}=NAME"
    return "\n".join([f"{_bold(how)}  ({told})", *lines])
