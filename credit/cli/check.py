"""``credit check``: run the battery of tests on rules, a user's too, and print a pass/fail table."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from credit.core.errors import UserError, nearest


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    p = argparse.ArgumentParser(
        prog="credit check",
        description="Run the battery that every rule must pass on two small networks: it learns, has no dead layer, stays "
        "finite, is deterministic, saves and restores, treats no sample by its place, is the same compiled and mapped over "
        "seeds, and refuses what it does not know.",
    )
    p.add_argument(
        "rules",
        nargs="*",
        metavar="RULE",
        help="names, and options such as rule.batchnorm=frozen; no name: all of `credit list rules`",
    )
    p.add_argument("--config-dir", action="append", default=[], help="a folder with rules of your own")
    return p


def main(argv: list[str]) -> int:
    """Run the battery and print the table; return 1 if a trial failed, else 0.

    Args:
        argv: the arguments behind ``credit check``.

    Raises:
        UserError: an argument is invalid.
    """
    args = parser().parse_args(argv)
    from credit.core.user_files import use_folders
    from credit.rules import api

    use_folders(args.config_dir)
    names = [word for word in args.rules if "=" not in word]
    options = _options([word for word in args.rules if "=" in word])
    for name in names:
        if name not in api.names():
            raise UserError(f"there is no rule '{name}': {nearest(name, api.names())}")
    return _tried(names or api.names(), options)


def _options(words: list[str]) -> dict[str, Any]:
    """Return the options given as ``rule.batchnorm=frozen``, by name without ``rule.``."""
    import yaml

    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if not key.startswith("rule."):
            raise UserError(
                f"{word}: the battery takes names of rules and options of theirs, such as rule.batchnorm=frozen"
            )
        found[key.removeprefix("rule.")] = yaml.safe_load(value)
    return found


def _tried(names: Sequence[str], options: dict[str, Any]) -> int:
    """Run the battery on rules with the given options, print the results and return the exit code."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from credit.testing.battery import NETS, TRIALS, Case, attempt

    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # wide enough for the whole table in a log
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), title="P pass   F fail   - refused by the rule", title_justify="left"
    )
    for column in ("rule", "network"):
        table.add_column(column, no_wrap=True)
    for trial in TRIALS:
        table.add_column(trial, justify="center", no_wrap=True)
    notes: dict[str, None] = {}
    whole: dict[str, str] = {}
    failed = 0
    marks = {"pass": "[green]P[/]", "fail": "[bold red]F[/]", "refused": "-"}
    for name in names:
        for net in NETS:
            outcomes = {trial: attempt(trial, Case(name, net, options)) for trial in TRIALS}
            failed += sum(outcome == "fail" for outcome, _ in outcomes.values())
            for trial, (outcome, found) in outcomes.items():
                if found:
                    what = f"{trial}: " if outcome == "fail" else "refused: "
                    notes[f"{name} on {net}, {what}{found}"] = None
            if outcomes["alive"][0] == "refused":  # the network itself is refused, not the requirement of one trial
                whole[f"{name} on {net}"] = _remedy(name, outcomes["alive"][1])
            table.add_row(name, net, *(marks[outcome] for outcome, _ in outcomes.values()))
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)
    console.print(
        f"{failed} failed" if failed else "every trial that was run passed" if whole else "every trial passed"
    )
    for case, remedy in whole.items():
        console.print(f"not tried, refused whole: {case}{remedy}", markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _remedy(name: str, refusal: str) -> str:
    """Return the command with the option that a refusal's message names; empty if the message names none."""
    option = re.search(r"rule\.\w+=\w+", refusal)
    return f"; to try it: credit check {name} {option[0]}" if option else ""
