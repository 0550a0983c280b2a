"""Sweeps and single runs for real, tiny: skipping, aggregation, failures, the user's own rule."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train

REPO = Path(__file__).resolve().parents[2]
TINY = ["arch.widths=[8]", "data.limit_train=200", "data.limit_test=50", "data.batch_size=20", "trainer.steps=4"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder that runs go to, while the working directory is another, empty one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "runs"
    assert list((tmp_path / "here").iterdir()) == []


def test_one_run(runs, capsys):
    assert train([*TINY, "rule=bp", "noise=0.2"]) == 0
    assert "complete" in capsys.readouterr().out
    [folder] = runs.iterdir()
    config = json.loads((folder / "result.json").read_text())["config"]
    assert config["noise"] == {"kind": "symmetric", "rate": 0.2, "seed": None}
    assert train([*TINY, "rule=bp", "noise=0.2"]) == 0
    assert "already complete" in capsys.readouterr().out


def test_settings_of_hydras_own_in_a_users_file_count(runs, capsys, tmp_path):
    """One run is composed without Hydra's main function where nothing is of its own."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "two.yaml").write_text(
        "# @package _global_\nrule: bp\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
    )
    assert train(["--config-dir", str(tmp_path / "conf"), "experiment=two", *TINY]) == 0
    assert "2 jobs to run" in capsys.readouterr().out and len(list(runs.iterdir())) == 2


def test_a_folder_that_hydra_is_given_counts_in_a_sweep(runs, tmp_path):
    (tmp_path / "more" / "noise").mkdir(parents=True)
    (tmp_path / "more" / "noise" / "little.yaml").write_text("kind: symmetric\nrate: 0.125\nseed: null\n")
    words = [f"hydra.searchpath=[file://{tmp_path / 'more'}]", *TINY, "rule=bp", "noise=little"]
    for flags in ([], ["-m"]):
        assert train([*flags, *words]) == 0
        [folder] = runs.iterdir()
        assert json.loads((folder / "result.json").read_text())["config"]["noise"]["rate"] == 0.125
        folder.rename(tmp_path / f"done {len(flags)}")


@pytest.mark.parametrize("word", ["optimizer.lr=1e-30", "rule.clip=1e-30", "replicas=2"])
def test_a_run_that_changes_no_weight_says_so(runs, capsys, word):
    line = [*TINY, "rule=bp", "optimizer.momentum=0", "optimizer.lr=1e-30" if word == "replicas=2" else "seed=0", word]
    for _ in range(2):  # trained, then found complete
        assert train(line) == 0
        assert word == "replicas=2" or "; no weight changed" in capsys.readouterr().out
    for folder in runs.iterdir():
        assert any("no weight changed" in note for note in json.loads((folder / "result.json").read_text())["notes"])
    assert train([*TINY, "rule=bp"]) == 0 and "no weight changed" not in capsys.readouterr().out


def test_a_sweep_runs_skips_and_averages(runs, capsys):
    line = ["-m", *TINY, "rule=bp,fa", "noise=0,0.4", "seed=0,1"]
    assert train(line) == 0
    first = capsys.readouterr().out
    assert "8 jobs to run" in first and "[8/8] rule=fa noise=0.4 seed=1: complete" in first
    assert len(list(runs.iterdir())) == 8
    commands = {json.loads((folder / "result.json").read_text())["provenance"]["command"] for folder in runs.iterdir()}
    assert commands == {shlex.join(["credit-train", *line])}
    rows = [row for row in first.splitlines() if row.startswith("│")]
    assert len(rows) == 4 and all("±" in row for row in rows)
    assert [row.split("│")[1].strip() for row in rows] == ["bp", "bp", "fa", "fa"]
    assert train(line) == 0
    second = capsys.readouterr().out
    assert "[1/" not in second and "8 already complete" in second
    assert [row for row in second.splitlines() if row.startswith("│")] == rows
    assert train([*line[:-1], "seed=0,1,2"]) == 0
    assert "4 jobs to run, 8 already complete" in capsys.readouterr().out


def test_the_commands_of_a_sweeps_jobs_are_the_jobs_own(runs, tmp_path, monkeypatch):
    """Typed with a folder of the user's and with flags: kept as typed; each job's own command, pasted, is that run."""
    (tmp_path / "my conf" / "rule").mkdir(parents=True)
    (tmp_path / "my conf" / "rule" / "mine.yaml").write_text("defaults: [bp, _self_]\nname: mine\nmargin: 1.0\n")
    line = ["-m", "--config-dir", str(tmp_path / "my conf"), *TINY, "rule=mine,fa", "noise=0.4", "seed=0,1"]
    assert train(line) == 0
    results = {folder.name: json.loads((folder / "result.json").read_text()) for folder in runs.iterdir()}
    assert {one["provenance"]["command"] for one in results.values()} == {shlex.join(["credit-train", *line])}
    assert len({one["provenance"]["job_command"] for one in results.values()}) == len(results) == 4
    name, result = next((name, one) for name, one in results.items() if "mine" in name and "-s1-" in name)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pasted"))
    program, *words = shlex.split(result["provenance"]["job_command"])
    assert program == "credit-train" and train(words) == 0
    [again] = (tmp_path / "pasted").iterdir()
    pasted = json.loads((again / "result.json").read_text())
    assert again.name == name and pasted["weights_sha256"] == result["weights_sha256"]
    assert pasted["provenance"]["command"] == result["provenance"]["job_command"]


def test_two_spellings_of_one_run_are_one_job(runs, capsys):
    assert train(["-m", *TINY, "rule=bp", "noise=none,0,0.0"]) == 0
    assert "1 job to run" in capsys.readouterr().out
    assert len(list(runs.iterdir())) == 1


def test_jobs_side_by_side_give_the_same_results(runs, capsys):
    line = ["-m", *TINY, "rule=bp", "seed=0,1"]
    assert train([*line, "hydra.launcher.jobs=2"]) == 0
    side_by_side = [row for row in capsys.readouterr().out.splitlines() if row.startswith("│")]
    for folder in runs.iterdir():
        folder.rename(folder.with_suffix(".before"))
    assert train(line) == 0
    after = [row for row in capsys.readouterr().out.splitlines() if row.startswith("│")]
    assert [row.split("│")[4] for row in after] == [row.split("│")[4] for row in side_by_side]


def test_a_job_that_fails_is_told_and_costs_no_other(runs, capsys):
    assert train(["-m", *TINY, "rule=bp", "seed=0"]) == 0
    [done] = runs.iterdir()
    broken = runs / done.name  # a run of another seed whose checkpoint nobody can read
    (broken / "result.json").unlink()
    for file in broken.glob("**/*"):
        if file.is_file() and file.suffix in (".pt", ".ckpt", ".safetensors"):
            file.write_bytes(b"not a checkpoint")
    capsys.readouterr()
    assert train(["-m", *TINY, "rule=bp", "seed=0,1"]) == 1
    shown = capsys.readouterr().out
    assert "seed=0: failed" in shown and "seed=1: complete" in shown
    assert "tries the rest again" in shown and "Traceback" not in shown


def test_an_unforeseen_error_shows_its_traceback(runs, capsys, tmp_path):
    folder = write_rule(tmp_path, body="        raise ZeroDivisionError('in my rule')")
    assert train(["-m", *TINY, "--config-dir", folder, "rule=mine", "seed=0"]) == 1
    shown = capsys.readouterr().out
    assert "ZeroDivisionError" in shown and "mine.py" in shown


def write_rule(tmp_path, body="        return super().compute(params, buffers, x, y, draws)"):
    folder = tmp_path / "my_conf"
    (folder / "rule").mkdir(parents=True)
    (folder / "rule" / "mine.yaml").write_text("# Backprop under another name.\nkind: mine\nname: mine\nloss: ce\n")
    (folder / "rule" / "mine.py").write_text(
        "import credit\n\n\n@credit.register_rule('mine')\nclass Mine(credit.BackwardRule):\n"
        f"    def compute(self, params, buffers, x, y, draws):\n{body}\n"
    )
    return str(folder)


def test_a_users_own_rule_by_name(runs, capsys, tmp_path):
    folder = write_rule(tmp_path)
    assert train(["--config-dir", folder, *TINY, "rule=mine"]) == 0
    assert train([*TINY, "rule=mine,bp", "-m", "--config-dir", folder, "seed=5"]) == 0
    capsys.readouterr()
    names = sorted(json.loads((run / "result.json").read_text())["config"]["rule"]["name"] for run in runs.iterdir())
    assert names == ["bp", "mine", "mine"]
    assert credit(["list", "rules", "--config-dir", folder]) == 0
    assert "Backprop under another name." in capsys.readouterr().out


def environment():
    return {**os.environ, "PYTHONPATH": str(REPO)}


@pytest.mark.slow
def test_an_interrupted_sweep_stops_its_jobs_and_goes_on(runs, tmp_path):
    line = [*TINY[:-1], "rule=bp", "trainer.epochs=100000", "trainer.checkpoint_every=100000"]
    command = [sys.executable, "-m", "credit.cli.train", "-m", *line, "seed=0,1"]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 60
    while not list(runs.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    sweep.send_signal(signal.SIGINT)
    _, errors = sweep.communicate(timeout=30)
    assert sweep.returncode == 130 and "the same command goes on" in errors and "Traceback" not in errors
    [started] = runs.iterdir()
    assert not (started / "result.json").exists()
    assert list(started.glob("**/*.pt")) or list(started.glob("**/*ckpt*")), "the interrupted job saved nothing"


@pytest.mark.slow
def test_the_live_table_on_a_terminal(runs):
    import pty

    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "credit.cli.train", "-m", *TINY, "rule=bp", "seed=0,1"]
    sweep = subprocess.Popen(command, stdout=writer, stderr=writer, env={**environment(), "TERM": "xterm"})
    os.close(writer)
    shown = b""
    while True:
        try:
            piece = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        shown += piece
        if not piece:
            break
    assert sweep.wait(timeout=60) == 0
    assert b"of 2 jobs done" in shown and b"running" in shown and b"test (last)" in shown
