"""``credit check``: the battery on any rule, a user's too, as a pass/fail table."""

import argparse


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    p = argparse.ArgumentParser(
        prog="credit check",
        description="Run the battery that every rule must pass on two small networks: it learns, has no dead layer, stays "
        "finite, is deterministic, saves and restores, treats no sample by its place, is the same compiled and mapped over "
        "seeds, and refuses what it does not know.",
    )
    p.add_argument("rules", nargs="*", metavar="RULE", help="names; none: all of `credit list rules`")
    p.add_argument("--config-dir", action="append", default=[], help="a folder with rules of your own")
    return p


def main(argv: list[str]) -> int:
    """Run the battery, print the table; return 1 if anything failed."""
    args = parser().parse_args(argv)
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from credit.config.plugins import use_folders
    from credit.diagnostics.battery import NETS, TRIALS, Case, attempt
    from credit.errors import UserError, nearest
    from credit.rules import api

    use_folders(args.config_dir)
    for name in args.rules:
        if name not in api.names():
            raise UserError(f"there is no rule '{name}': {nearest(name, api.names())}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # a log has room for the whole table
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), title="P pass   F fail   - refused by the rule", title_justify="left"
    )
    for column in ("rule", "network"):
        table.add_column(column, no_wrap=True)
    for trial in TRIALS:
        table.add_column(trial, justify="center", no_wrap=True)
    notes: dict[str, None] = {}
    failed = 0
    marks = {"pass": "[green]P[/]", "fail": "[bold red]F[/]", "refused": "-"}
    for name in args.rules or api.names():
        for net in NETS:
            cells = []
            for trial in TRIALS:
                outcome, found = attempt(trial, Case(name, net))
                failed += outcome == "fail"
                cells.append(marks[outcome])
                if found:
                    what = f"{trial}: " if outcome == "fail" else "refused: "
                    notes[f"{name} on {net}, {what}{found}"] = None
            table.add_row(name, net, *cells)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)
    console.print("every trial passed" if not failed else f"{failed} failed")
    return 1 if failed else 0
