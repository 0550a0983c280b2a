"""Runs for tests of reports: real ones on Digits, and result folders with given numbers in the same form."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from credit.core.user_files import use_folders
from credit.runs.places import runs_root
from credit.tables.claims.claims import judge
from credit.tables.claims.statistics import Estimate
from credit.tables.claims.verdicts import Judgement
from credit.tables.expand.manifest import Job, Manifest
from credit.tables.measures.collect import Collection, collect
from credit.tables.spec.load import load
from credit.tables.spec.schema import Spec
from tests.support.written import write

HIGH, LOW, NEAR = [91.2, 91.9, 90.8], [88.1, 87.2, 88.4], [90.9, 92.1, 91.2, 91.5]
ACCURACIES = dict[tuple[str, str], Sequence[float | None | str]]
"""Per cents of a cell's seeds 0, 1, ...; a status instead of a number for a run that has none; None for one not run."""

TABLE = """\
title: Methods a, b and c
source: nowhere
measures: [accuracy, gap]
accuracy: {accuracy}
split: none
test: {test}
rows:
  r0: {{label: row 0, x: 0}}
  r1: {{label: row 1, x: 1}}
  r2: {{label: row 2, x: 4}}
columns: {{a: {{set: [rule=bp]}}, b: {{set: [rule=fa]}}, c: {{set: [rule=dfa]}}}}
claims:
  - {{name: it, says: It is said., {claim}}}
budgets:
  smoke: {{says: It runs., seeds: 1}}
  quick: {{says: Small., seeds: 2}}
  paper: {{says: Whole., seeds: 3}}
"""


def table(folder: Path, claim: str, test: str = "welch", accuracy: str = "last") -> Spec:
    """Return a table of three rows and columns with one claim, such as ``compare: a > b``."""
    try:
        return load(write(folder, TABLE.format(claim=claim, test=test, accuracy=accuracy), "lab/three"))
    finally:
        use_folders([])


def held(spec: Spec, accuracies: ACCURACIES, budget: str = "quick") -> Collection:
    """Write result folders with these test accuracies and return them collected; other cells are not in the budget."""
    jobs = []
    for (row, column), values in accuracies.items():
        for seed, value in enumerate(values):
            folder = f"{column}-{row}-s{seed}"
            jobs.append(Job(row, column, {"seed": seed}, "train", {}, (f"rule={column}", f"seed={seed}"), {}, folder))
            if value is not None:
                write_result(folder, value)
    manifest = Manifest(spec.name, budget, 2, (), f"credit table {spec.name} budget={budget}", tuple(jobs))
    return collect(spec, manifest)


def write_result(folder: str, value: float | str, **more: Any) -> None:
    """Write a result.json with a test accuracy in per cent, or with a status other than complete."""
    path = runs_root() / folder
    path.mkdir(parents=True, exist_ok=True)
    accuracy = None if isinstance(value, str) else value / 100
    last = {"epoch": 2, "train_top1": 0.9, "test_top1": accuracy}
    status = value if isinstance(value, str) else "complete"
    result = {"status": status, "last": last, "best": last, "selected_by": "last", "seconds": 1.0, **more}
    (path / "result.json").write_text(json.dumps(result))


def change_result(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a result.json in place."""
    result = json.loads((path / "result.json").read_text())
    change(result)
    (path / "result.json").write_text(json.dumps(result))


def verdict(own: Path, claim: str, accuracies: ACCURACIES, test: str = "welch") -> Judgement:
    """Return the judgement of one claim about runs with these accuracies."""
    spec = table(own, claim, test)
    return judge(spec.claims[0], held(spec, accuracies))


def estimate(judgement: Judgement) -> Estimate:
    """Return the estimate of a judgement's first finding."""
    found = judgement.findings[0].estimate
    assert found is not None
    return found
