"""`credit list`: every choice of every group with one line of description, from the files themselves."""

import argparse
import sys

from credit.core.config.folders import OVERLAYS, choices
from credit.core.config.schema import GROUPS
from credit.core.errors import UserError, nearest
from credit.core.user_files import use_folders

TABLES = "paper"
"""Folder of the published tables, which are no group of a run."""

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


def main(args: list[str]) -> int:
    """Print the choices of the groups named in `args`, or of every group."""
    parser = argparse.ArgumentParser(prog="credit list", description="Show what can be chosen, by name.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(_names())}; none: all")
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="a folder of your own")
    given = parser.parse_args(args)
    use_folders(given.config_dir)
    groups = [_group(name) for name in given.groups] or _every()
    shown = {group: names for group in groups if (names := choices(group))}
    print("\n\n".join(_section(group, names) for group, names in shown.items()))
    return 0


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
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in names.items()]
    how = "tables" if group == TABLES else group
    told = "credit table NAME" if group == TABLES else f"credit-train {group}=NAME"
    return "\n".join([f"{bold}{how}{plain}  ({told})", *lines])
