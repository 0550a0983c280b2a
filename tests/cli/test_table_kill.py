"""A table killed at random moments ends as one that was left alone: the same report but for times."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tables import rows, timeless, write_table

REPO = Path(__file__).resolve().parents[2]
LINES = 4 * 2 * 40  # of metrics in all: cells, seeds, epochs


def start(folder: str, runs: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "credit.cli.main", "table", "lab/digits", "budget=paper", "hydra.launcher.jobs=2"]
    words += ["replicas=1"]  # seeds that are trained together are the same to rounding, not to the bit
    return subprocess.Popen(
        [*words, "--config-dir", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Without git on the path: the checkout, whose state a report tells, may change while this runs.
        env={**os.environ, "PYTHONPATH": str(REPO), "CREDIT_RUNS": str(runs), "PATH": "/nowhere"},
    )


def finish(table: subprocess.Popen[str]) -> str:
    shown, _ = table.communicate(timeout=240)
    assert table.returncode == 0, shown
    return shown


def lines_written(runs: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in runs.glob("*/metrics.jsonl"))


@pytest.mark.slow
def test_killed_twice_and_given_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_table(tmp_path / "conf")
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    finish(start(folder, alone))
    assert lines_written(alone) == LINES

    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    for low, high in ((5, LINES // 2), (LINES // 2 + 10, LINES - 20)):
        table, wanted = start(folder, killed), moments.randrange(low, high)
        while lines_written(killed) < wanted and table.poll() is None:
            time.sleep(0.01)
        assert table.poll() is None, f"it ended before it was killed (moments of seed {seed})"
        table.send_signal(signal.SIGKILL)
        table.communicate(timeout=60)
    shown = finish(start(folder, killed))
    assert "already complete" in shown and " 0 already complete" not in shown

    there, here = (runs / "tables" / "lab-digits-paper" for runs in (alone, killed))
    assert timeless(here / "report.md") == timeless(there / "report.md"), f"moments of seed {seed}"
    for name in ("report.csv", "runs.csv"):
        assert rows(here / name) == rows(there / name), f"{name}, moments of seed {seed}"
    pictures = sorted(file.name for file in there.glob("*.png"))
    assert pictures and all((here / name).read_bytes() == (there / name).read_bytes() for name in pictures)
