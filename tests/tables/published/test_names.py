"""A run's name is for good: the committed reports' runs would be found again under the names that stand there."""

import csv
from pathlib import Path

import pytest

from credit.tables.expand.jobs import expand
from credit.tables.spec.load import load

REPORTS = Path(__file__).parents[2] / "runs" / "reports"


@pytest.mark.parametrize(
    ("table", "budget"),
    [
        ("untied/table4", "quick"), ("untied/table2", "paper"), ("untied/transformers", "quick"),
        ("lfp/figA1", "paper"), ("lfp/figA3", "paper"), ("lfp/fig5", "quick"),
    ],
)  # fmt: skip
def test_the_reports_runs_keep_their_names(monkeypatch: pytest.MonkeyPatch, table: str, budget: str) -> None:
    monkeypatch.setattr("credit.runs.versions.VERSIONS", ())  # components that changed since rename their runs, and may
    with (REPORTS / f"{table.replace('/', '-')}-{budget}" / "runs.csv").open(encoding="utf-8") as file:
        told = {(row["row"], row["column"], row["folder"]) for row in csv.DictReader(file)}
    named = [(job.row, job.column, job.folder) for job in expand(load(table), budget, seeds=1).jobs]
    known = {(row, column) for row, column, _ in told}  # a report may be older than a cell
    assert len(named) > 2 and not [cell for cell in named if cell[:2] in known and cell not in told]
