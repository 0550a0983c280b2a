"""How fast a report is rebuilt: a hundred runs, and three thousand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from credit.runs.places import runs_root
from credit.tables.expand.manifest import Job, Manifest, write_manifest


def many_runs(own: Path, rows: int, seeds: int) -> None:
    """Write a table of `rows` rows and 5 columns with its manifest and finished runs of 20 epochs."""
    columns = ["bp", "fa", "dfa", "lisp_ce", "lisp_margin"]
    names = [f"r{i}" for i in range(rows)]
    grid = ", ".join(f"{name}: {{x: {i}}}" for i, name in enumerate(names))
    text = f"""\
title: Many
source: nowhere
measures: [accuracy, gap]
accuracy: best_test
split: none
rows: {{{grid}}}
columns: {{{", ".join(f"{c}: {{set: [rule={c}]}}" for c in columns)}}}
claims:
  - {{name: one, says: One., compare: bp > fa}}
  - {{name: two, says: Two., compare: "best(lisp_ce, lisp_margin) >= best(bp, dfa)", at_least: 2}}
  - {{name: three, says: Three., falls: bp - fa}}
figures:
  - {{kind: lines, title: Lines}}
  - {{kind: curves, title: Curves, rows: [r0]}}
budgets: {{smoke: {{says: a, seeds: 1}}, quick: {{says: b, seeds: {seeds}}}, paper: {{says: c, seeds: {seeds}}}}}
"""
    (own / "paper" / "lab").mkdir(parents=True)
    (own / "paper" / "lab" / "many.yaml").write_text(text)
    jobs = []
    for i, row in enumerate(names):
        for j, column in enumerate(columns):
            for seed in range(seeds):
                folder = f"{column}-{row}-s{seed}"
                words = (f"rule={column}", f"seed={seed}")
                jobs.append(Job(row, column, {"seed": seed}, "train", {}, words, {"seed": seed}, folder))
                _finished(runs_root() / folder, 0.5 + (7 * i + 3 * j + seed * seed) % 40 / 100)
    write_manifest(Manifest("lab/many", "quick", seeds, (), "credit table lab/many", tuple(jobs)))


def _finished(folder: Path, accuracy: float) -> None:
    folder.mkdir(parents=True)
    layers = {f"conv{i}": {"cosine": 0.9, "norm_ratio": 1.0} for i in range(8)}
    common = {"train_loss": 0.5, "train_top1": 0.99, "val_top1": accuracy, "memorized": 0.1, "recovered": 0.2}
    rows = [{"epoch": e, "step": 78 * e, **common, "test_top1": accuracy * e / 20} for e in range(1, 21)]
    text = "".join(json.dumps({**row, "alignment": layers}) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    result = {"status": "complete", "selected_by": "val_top1", "best": rows[-2], "last": rows[-1], "seconds": 30.0}
    (folder / "result.json").write_text(json.dumps({**result, "seconds_per_epoch": 1.5, "data_digest": "0" * 64}))


def reported(conf: Path, compiled: Path | None = None) -> float:
    """Run ``credit report`` as a process of its own, which must not import torch, and return the processor's seconds.

    Not the clock's, which tells of whatever else the machine does; and Python's compiled modules are there, as in any
    installation.
    """
    code = (
        "import sys; from credit.cli.main import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "report", "lab/many", "--config-dir", str(conf)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3])}
    environment |= {"PYTHONPYCACHEPREFIX": str(compiled)} if compiled else {}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def test_runs_are_reported_without_torch(own: Path) -> None:
    many_runs(own, rows=2, seeds=2)
    reported(own)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "seeds", "seconds"), [(5, 4, 2), (60, 10, 20)])
def test_a_hundred_runs_are_reported_in_two_seconds_and_thirty_times_as_many_in_twenty(
    own: Path, tmp_path: Path, rows: int, seeds: int, seconds: float
) -> None:
    many_runs(own, rows, seeds)
    reported(own, tmp_path / "compiled")
    assert reported(own, tmp_path / "compiled") < seconds
