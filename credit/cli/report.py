"""``credit report``: write a table's report from its finished runs. Trains nothing and imports no torch."""

import argparse
from pathlib import Path

from credit.core.errors import UserError, nearest
from credit.core.user_files import use_folders
from credit.tables.spec.schema import BUDGETS

HELP = """\
usage: credit report <paper>/<table> [budget=quick] [--to FOLDER] [--config-dir DIR]

Write a table's report from its finished runs alone: report.md, report.html, report.csv, runs.csv and the pictures.
What has not been run yet is shown as missing.

  budget=smoke|quick|paper  which run of the table (default: quick)
  --to FOLDER               where the files go (default: the table's folder among the runs), such as runs/reports/lisp-fig3
  --config-dir DIR          a folder with your own tables (DIR/paper/<paper>/<table>.yaml); may be repeated"""


def main(argv: list[str]) -> int:
    """Write the report, print the verdicts and the report's path, and return 0.

    Args:
        argv: the arguments behind ``credit report``.

    Raises:
        UserError: an argument is invalid.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    parser = argparse.ArgumentParser(prog="credit report", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--config-dir", action="append", default=[])
    try:
        asked, unknown = parser.parse_known_intermixed_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; see credit report --help") from error
    if unknown:
        raise UserError(f"unknown flag '{unknown[0]}': {nearest(unknown[0], ['--to', '--config-dir', '--help'])}")
    table, budget = _asked(asked.words)
    use_folders(asked.config_dir)
    return _report(table, budget, asked.to)


def _asked(words: list[str]) -> tuple[str, str]:
    tables = [word for word in words if "=" not in word]
    budget = "quick"
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key != "budget":
            raise UserError(
                f"'{word}': a report runs nothing, so it takes budget=... alone; settings belong to credit table"
            )
        budget = value if equals else budget
    if budget not in BUDGETS:
        raise UserError(f"budget={budget}: {nearest(budget, BUDGETS)}")
    if len(tables) != 1:
        given = ", ".join(tables) or "none"
        raise UserError(
            f"one table at a time, by name, and {given} given: credit report lisp/fig3; `credit table` lists all"
        )
    return tables[0], budget


def _report(table: str, budget: str, to: Path | None) -> int:
    from credit.tables.expand.manifest import read_manifest, table_folder
    from credit.tables.measures.collect import collect
    from credit.tables.report.report import verdict_lines, write_report
    from credit.tables.spec.load import load

    spec = load(table)
    manifest = read_manifest(table, budget)
    held = collect(spec, manifest)
    page = write_report(spec, manifest, to or table_folder(table, budget), held)
    for line in verdict_lines(spec, manifest, held):
        print(line)
    print(f"report: {page} (and {page.with_suffix('.html').name})")
    return 0
