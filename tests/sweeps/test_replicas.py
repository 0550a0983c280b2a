"""Several seeds of one configuration by one command: the same runs as one by one, together where that is faster."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train
from credit.core.config.compose import compose
from credit.runs.folder import locked, run_folder
from credit.sweeps import worker
from credit.sweeps.estimate import outline
from credit.sweeps.groups import Group, Job, Unit, groups, spans, told, units, with_seeds
from credit.training.prepare import prepare
from tests.support.tables import rows, write_table

REPO = Path(__file__).resolve().parents[2]
TINY = ["arch.widths=[8]", "data.limit_train=200", "data.limit_test=50", "data.batch_size=20", "rule=bp"]
TINY += ["trainer.device=cpu", "trainer.precision=float64"]
SHORT = [*TINY, "trainer.steps=12"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder that runs go to, while the working directory is another, empty one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "runs"
    assert list((tmp_path / "here").iterdir()) == []


def results(runs: Path) -> dict[int, dict]:
    """Return the results that are there, by seed."""
    held = [json.loads(file.read_text()) for file in runs.glob("*/result.json")]
    return {one["config"]["seed"]: one for one in held}


def table_rows(shown: str) -> list[str]:
    return [row for row in shown.splitlines() if row.startswith("│")]


def same(one: dict, other: dict) -> None:
    """The same run: its names, and its numbers to the rounding of float64."""
    assert (one["name"], one["group"], one["steps"], one["status"]) == (
        other["name"],
        other["group"],
        other["steps"],
        other["status"],
    )
    for key in ("train_loss", "val_loss", "test_loss", "test_top1"):
        assert one["last"][key] == pytest.approx(other["last"][key], rel=1e-9), key


@pytest.mark.parametrize("how", ["map", "processes"])
def test_replicas_are_the_runs_of_their_seeds(runs, capsys, how):
    """Made together, each is found by its seed's own command, and the other way round."""
    assert train(["-m", *SHORT, "seed=3,4,5"]) == 0
    one_by_one, shown = results(runs), table_rows(capsys.readouterr().out)
    for folder in runs.iterdir():
        folder.rename(folder.with_name(f"before-{folder.name}"))
    line = [*SHORT, "seed=3", f"trainer.replicate={how}", "hydra.launcher.jobs=1"]
    assert train([*line, "replicas=3"]) == 0
    first = capsys.readouterr().out
    assert "3 jobs to run\n" in first and ("seeds 3-5: 3 complete" in first) == (how == "map")
    assert [row.split("│")[1:6] for row in table_rows(first)] == [row.split("│")[1:6] for row in shown]
    together = {seed: json.loads((runs / one["name"] / "result.json").read_text()) for seed, one in one_by_one.items()}
    for seed, one in one_by_one.items():
        same(together[seed], one)
        assert together[seed]["config"]["replicas"] == 1
    command = shlex.join(["credit-train", *line, "replicas=3"])
    assert {one["provenance"]["command"] for one in together.values()} == {command}
    for seed, one in together.items():
        assert shlex.split(one["provenance"]["job_command"])[-1] == f"seed={seed}"
        assert "replicas" not in one["provenance"]["job_command"]
    assert train([*SHORT, "seed=4"]) == 0
    assert "already complete" in capsys.readouterr().out
    assert train([*line, "replicas=3"]) == 0
    assert "nothing to run, 3 already complete" in capsys.readouterr().out
    assert train([*line, "replicas=4"]) == 0
    assert "1 job to run, 3 already complete" in capsys.readouterr().out


def test_every_job_of_a_sweep_has_the_replicas(runs, capsys):
    line = [
        "-m",
        *SHORT[:-3],
        "rule=bp,fa",
        *SHORT[-2:],
        "replicas=2",
        "trainer.replicate=map",
        "hydra.launcher.jobs=1",
    ]
    line = [word for word in line if word != "rule=bp"]
    assert train(line) == 0
    shown = capsys.readouterr().out
    assert "4 jobs to run" in shown and "4 runs of 2 configurations trained together" in shown
    assert "[2/4] rule=bp seeds 0-1: 2 complete" in shown and "[4/4] rule=fa seeds 0-1: 2 complete" in shown
    assert [row.split("│")[1:4] for row in table_rows(shown)] == [
        [" bp   ", " clean ", "    2 "],
        [" fa   ", " clean ", "    2 "],
    ]


def test_a_sweeps_seeds_go_together_by_auto_alone(runs, capsys):
    line = ["-m", *SHORT, "seed=0,1,7", "noise=0,0.2", "trainer.replicate=map", "hydra.launcher.jobs=1"]
    assert train([*line, "replicas=auto"]) == 0
    shown = capsys.readouterr().out
    assert "[3/6] noise=0 seeds 0-1,7: 3 complete" in shown and "[6/6] noise=0.2 seeds 0-1,7: 3 complete" in shown
    assert train([*line, "optimizer.lr=0.06"]) == 0
    shown = capsys.readouterr().out
    assert "[1/6] seed=0 noise=0: complete" in shown and "together" not in shown


def test_values_that_follow_the_seed_follow_each_replicas(runs):
    assert train([*SHORT, "replicas=2", "data.split_seed=${seed}", "trainer.replicate=processes"]) == 0
    assert {seed: one["config"]["data"]["split_seed"] for seed, one in results(runs).items()} == {0: 0, 1: 1}


def test_replicas_of_an_experiment_file(runs, tmp_path, capsys):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nreplicas: 2\ntrainer: {steps: 4, replicate: processes}\n"
    (tmp_path / "conf" / "experiment" / "two.yaml").write_text(text)
    assert train(["--config-dir", str(tmp_path / "conf"), *TINY, "experiment=two"]) == 0
    assert "2 jobs to run" in capsys.readouterr().out and len(results(runs)) == 2


def test_a_seed_that_cannot_be_trained_costs_no_other(runs, capsys):
    line = [*SHORT, "replicas=5", "trainer.replicate=map", "hydra.launcher.jobs=1"]
    with locked(run_folder(compose([*SHORT, "seed=2"]))):
        assert train(line) == 1
    shown = capsys.readouterr().out
    assert "4 complete, 1 failed" in shown and "is training this very run" in shown
    assert [text.split(":")[0] for text in shown.splitlines() if "very run" in text] == ["seed=2"]
    assert sorted(results(runs)) == [0, 1, 3, 4]
    assert train(line) == 0
    assert "1 job to run, 4 already complete" in capsys.readouterr().out


def test_diverged_seeds_are_told_by_name(runs, capsys):
    line = [*SHORT, "replicas=2", "trainer.replicate=map", "optimizer.lr=1e200", "hydra.launcher.jobs=1"]
    assert train(line) == 1
    shown = capsys.readouterr().out
    assert "[2/2] seeds 0-1: 2 diverged" in shown and "seed=0: diverged; see " in shown and "seed=1: diverged" in shown


@pytest.mark.slow
def test_a_unit_killed_is_resumed_by_the_same_command(runs, capsys, monkeypatch):
    """kill -9 of the process that trains six seeds: the sweep says so, and the same command ends in the same runs."""
    line = [*TINY, "replicas=6", "trainer.replicate=map", "trainer.epochs=60", "hydra.launcher.jobs=1"]
    assert train(line) == 0
    alone = results(runs)
    capsys.readouterr()
    killed = runs.with_name("killed")
    monkeypatch.setenv("CREDIT_RUNS", str(killed))
    command = [sys.executable, "-m", "credit.cli.train", *line]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    while not list(killed.glob("*-s5-*/checkpoints/*.ckpt")) and sweep.poll() is None:
        time.sleep(0.01)
    assert sweep.poll() is None, sweep.communicate()[0]
    [worker] = {int(file.read_text().split()[1]) for file in killed.glob("*/lock")}
    os.kill(worker, signal.SIGKILL)
    shown, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 1 and "[6/6] seeds 0-5: failed: killed by signal 9" in shown
    assert "seed=0, seed=1, seed=2, seed=3, seed=4, seed=5: killed by signal 9" in shown
    assert not results(killed)
    assert train(line) == 0
    resumed = results(killed)
    for seed, one in alone.items():
        same(resumed[seed], one)


def test_a_table_groups_its_seeds_by_itself(runs, tmp_path, capsys):
    folder = write_table(tmp_path / "conf")
    line = ["table", "lab/digits", "budget=smoke", "--config-dir", folder, "seeds=3", "hydra.launcher.jobs=1"]
    assert credit([*line, "trainer.replicate=map", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "12 jobs (4 cells, 3 seeds), 0 already complete; about " in shown
    assert "12 runs of 4 configurations trained together" in shown and not runs.exists()
    assert credit([*line, "trainer.replicate=map"]) == 0
    shown = capsys.readouterr().out
    assert "[3/12] clean/bp seeds 0-2: 3 complete" in shown and "[12/12] noisy/fa seeds 0-2: 3 complete" in shown
    page = runs / "tables" / "lab-digits-smoke"
    assert len(rows(page / "runs.csv")) == 12
    assert credit([*line, "replicas=1", "trainer.steps=5"]) == 0
    shown = capsys.readouterr().out
    assert "[1/12] clean/bp seed=0: complete" in shown and "together" not in shown
    assert "seeds=3 trainer.steps=5 replicas=1 hydra.launcher.jobs=1" in (page / "report.md").read_text()


def test_a_launcher_gets_consecutive_seeds_as_one_job(runs, capsys):
    line = ["-m", *SHORT, "seed=0,1,2,7", "replicas=auto", "trainer.replicate=map"]
    assert train(line) == 0
    here = results(runs)
    for folder in runs.iterdir():
        folder.rename(folder.with_name(f"before-{folder.name}"))
    assert train([*line, "hydra/launcher=basic"]) == 0
    for one in here.values():
        same(json.loads((runs / one["name"] / "result.json").read_text()), one)
    assert "nothing to run" not in capsys.readouterr().out


REFUSED = [
    ("replicas=0", "replicas=0 is outside [1, inf)"),
    ("replicas=-3", "replicas=-3 is outside [1, inf)"),
    ("replicas=1.5", "replicas=1.5 is a number: must be a whole number or auto in [1, inf), for example replicas=1"),
    ("replicas=many", "replicas=many is a word: must be a whole number or auto in [1, inf), for example replicas=1"),
    ("replicas=auto", "this is one run: write replicas=20 for seeds 0 to 19, or -m seed=0,1,2 replicas=auto"),
    ("replicas=1 hydra.launcher.jobs=2", "hydra.launcher.jobs=2 is about the jobs of a sweep, and this is one run"),
    ("replicas=2,3", "replicas=2,3 gives several values to one run. To run each of them add -m"),
    ("replicas=20 seed=9007199254740990", "is outside [0, 9007199254740992]"),
    ("replicas=3 trainer.replicate=mapp", "trainer.replicate=mapp: trainer has no such choice; did you mean 'map'?"),
    ("replicas=3 rule.margn=1", "margn"),
    ("-m seed=0,1 replicas=0", "job 1 of 2 (seed=0) cannot run, so none was started: replicas=0 is outside"),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_refused(runs, capsys, line, words):
    assert train([*SHORT, *line.split(" ")]) == 2
    errors = capsys.readouterr().err
    assert words in errors and "Traceback" not in errors and not runs.exists()


def test_refused_of_tables(runs, tmp_path, capsys):
    folder = write_table(tmp_path / "conf")
    assert credit(["table", "lab/digits", "replicas=20", "--config-dir", folder]) == 2
    assert "how many seeds a cell has is seeds=N" in capsys.readouterr().err
    file = tmp_path / "conf" / "paper" / "lab" / "digits.yaml"
    file.write_text(file.read_text().replace("common: [", "common: [replicas=3, "))
    assert credit(["table", "lab/digits", "budget=smoke", "--config-dir", folder]) == 2
    assert "lab/digits sets replicas=3: a table's runs are one seed each" in capsys.readouterr().err
    assert not runs.exists()


def test_a_rule_that_cannot_be_mapped_is_trained_in_processes_or_refused(runs, tmp_path, capsys):
    folder = tmp_path / "conf" / "rule"
    folder.mkdir(parents=True)
    (folder / "looks.yaml").write_text("kind: looks\nname: looks\nloss: ce\n")
    (folder / "looks.py").write_text(
        "import credit\n\n\n@credit.register_rule('looks')\nclass Looks(credit.BackwardRule):\n"
        "    def compute(self, params, buffers, x, y, draws):\n        assert x.sum().item() != 1\n"
        "        return super().compute(params, buffers, x, y, draws)\n"
    )
    line = [
        "--config-dir",
        str(folder.parent),
        *(word for word in SHORT if word != "rule=bp"),
        "rule=looks",
        "replicas=2",
    ]
    assert train([*line, "trainer.replicate=map"]) == 2
    errors = capsys.readouterr().err
    assert "trainer.replicate=map cannot train 2 seeds in one pass: its step cannot be mapped by torch" in errors
    assert "Write trainer.replicate=auto" in errors and not runs.exists()
    assert train(line) == 0
    shown = capsys.readouterr().out
    assert "2 seeds trained in a process each: its step cannot be mapped by torch" in shown
    assert "[2/2] seed=" in shown and len(results(runs)) == 2


def test_past_the_time_a_group_is_run_as_one_like_it(monkeypatch):
    monkeypatch.setattr(worker, "CHOOSING_SECONDS", 0.0)
    choices = worker._Choices()
    first, second, other = (
        choices.of(outline(prepare(compose([*SHORT[:-3], "trainer.steps=12", *words]))), 3)
        for words in ([], ["optimizer=adam"], ["arch.activation=tanh"])
    )
    assert first["speedup"] is not None and second == first and other["speedup"] not in (None, first["speedup"])


def jobs(*seeds: int, most: int | None = None, rule: str = "bp") -> list[Job]:
    made, of_rule = [], compose([f"rule={rule}"])
    for seed in seeds:
        config = replace(of_rule, seed=seed)
        words = (f"rule={rule}", f"++seed={seed}", "++replicas=auto")
        made.append(Job(f"rule={rule} seed={seed}", config, run_folder(config), words, most=most))
    return made


def test_jobs_that_differ_in_their_seed_alone_are_a_group():
    every = [*jobs(0, 1), *jobs(0, rule="fa"), *jobs(5, 2), *jobs(8, most=1), *jobs(1, rule="fa")]
    assert groups(every) == [(0, 1, 4, 3), (2, 6)]
    assert groups(jobs(0, 1, 2, 3, 4, most=3)) == [(0, 1), (2, 3, 4)]
    assert groups(jobs(0, 1, most=1)) == []


def test_units_keep_every_process_busy_and_within_memory():
    every = jobs(*range(10))
    held = [Group(tuple(every), chunk=10)]

    def sizes(grouped, parallel):
        return [len(unit.jobs) for unit in units(every, grouped, parallel)]

    assert sizes(held, 1) == [10] and sizes(held, 2) == [5, 5] and sizes(held, 4) == [2, 3, 2, 3]
    assert sizes([Group(tuple(every), chunk=4)], 1) == [3, 3, 4]
    assert sizes([Group(tuple(every), chunk=4, room=4)], 2) == [2] * 5, "two processes share the memory"
    two = [Group(tuple(every[:5]), chunk=5, room=6), Group(tuple(every[5:]), chunk=5, room=40)]
    assert sizes(two, 2) == [2, 3, 5] and sizes(two, 1) == [5, 5], "those of two groups too"
    assert sizes([Group(tuple(every), why="slower")], 2) == [1] * 10
    assert sizes([Group(tuple(every[:5]), chunk=5)], 2) == [5, 1, 1, 1, 1, 1]


def test_units_in_words():
    some = jobs(3, 4, 5)
    assert Unit(tuple(some)).title == "rule=bp seeds 3-5" and Unit((some[0],)).title == "rule=bp seed=3"
    assert Unit(tuple(some)).words() == ("rule=bp", "++seed=3", "++replicas=3")
    assert Unit((some[0], some[2])).words() is None
    assert with_seeds(["rule=bp"], 2, 1) == ("rule=bp", "++seed=2", "++replicas=1")
    assert spans([7, 0, 1, 2, 4]) == "0-2,4,7"
    apart = Group(tuple(some), why="an op cannot be mapped")
    assert told([apart]) == ["3 seeds trained in a process each: an op cannot be mapped"]
    slow = [Group(tuple(some), why=f"{factor} times", speedup=factor) for factor in (0.41, 0.8)]
    fast = [Group(tuple(some), 3, speedup=factor) for factor in (2.04, 5.0)]
    assert told([*fast, *slow, apart, Group(tuple(some), 3)]) == [
        "9 runs of 3 configurations trained together (measured: together is 2 to 5 times as fast, core for core)",
        "6 runs of 2 configurations trained in a process each "
        "(measured: together is 0.41 to 0.8 times as fast, core for core)",
        "3 runs of 1 configuration trained in a process each: an op cannot be mapped",
    ]
