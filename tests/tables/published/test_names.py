"""A run's name is for good: the committed reports' runs would be found again under the names that are written there."""

import csv
from pathlib import Path

import pytest

from credit.tables.expand.jobs import expand
from credit.tables.spec.load import load

REPORTS = Path(__file__).parents[3] / "runs" / "reports"


MEASURED = {
    ("lfp/figA2", "paper", "t500", "alphabeta"): "shattering-lfp_alphabeta-deep_mlp-s0-942312f033",
    ("untied/fig6", "smoke", "relu", "logistic"): "gate-untied_logistic-relu-s0-4180653771",
    ("lisp/table2", "quick", "plain", "lisp_margin"):
        "timing-lisp_margin-plain_conv_bn-cifar10-lr0.02-s0-c0ff697770-1bff1f354f",
    ("lisp/table3", "smoke", "iris", "xgboost"): "xgboost-tabular_iris-f4-s0-184f7581fe",
}  # fmt: skip
"""Names of cells that are not trained but measured, one of each runner; of several runs the last."""


@pytest.mark.parametrize(
    ("table", "budget"),
    [
        ("untied/table4", "quick"), ("untied/table2", "paper"), ("untied/table8", "quick"),
        ("lfp/figA1", "paper"), ("lfp/figA3", "paper"), ("lfp/fig5", "quick"),
    ],
)  # fmt: skip
def test_the_reports_runs_keep_their_names(table: str, budget: str) -> None:
    with (REPORTS / f"{table.replace('/', '-')}-{budget}" / "runs.csv").open(encoding="utf-8") as file:
        reported = {(row["row"], row["column"], row["folder"]) for row in csv.DictReader(file)}
    named = [(job.row, job.column, job.folder) for job in expand(load(table), budget, seeds=1).jobs]
    known = {(row, column) for row, column, _ in reported}  # a report may be older than a cell
    assert len(named) > 2 and not [cell for cell in named if cell[:2] in known and cell not in reported]


@pytest.mark.parametrize(("table", "budget", "row", "column"), MEASURED)
def test_measured_cells_keep_their_names(table: str, budget: str, row: str, column: str) -> None:
    named = {(job.row, job.column): job.folder for job in expand(load(table), budget, seeds=1).jobs}
    assert named[row, column] == MEASURED[table, budget, row, column]
