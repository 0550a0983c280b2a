"""The W&B mirror: forwards what is in the files, and its death is one warning line and nothing else."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from credit.core.config.compose import compose
from credit.runs import mirror as mirror_module
from credit.runs.folder import read_config, run_folder, write_config
from credit.runs.mirror import Mirror
from credit.runs.screen import Screen
from credit.runs.wandb_mirror import _Follower, flat, logged_in, mode

RUN = ["rule=bp", "arch=mlp", "arch.widths=[16]", "data.limit_train=300", "data.batch_size=50", "trainer.device=cpu"]
RUN += ["trainer.threads=1"]


def test_mode_follows_the_config_then_the_environment_then_the_login(tmp_path):
    home = {"HOME": str(tmp_path)}
    assert mode("auto", home) == "offline"
    assert mode("auto", {**home, "WANDB_API_KEY": "x"}) == "online"
    assert mode("auto", {**home, "WANDB_API_KEY": "x", "WANDB_MODE": "offline"}) == "offline"
    assert mode("online", {**home, "WANDB_MODE": "offline"}) == "online"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in(home) and not logged_in({**home, "WANDB_BASE_URL": "https://wandb.example.org"})
    (tmp_path / ".netrc").write_text("machine")
    assert not logged_in(home)


def test_nested_metrics_become_flat_names():
    assert flat({"step": 1, "a": {"b": {"c": 2.0}, "d": None}, "e": None, "f": {"g": [[1, 2]]}}) == {
        "step": 1,
        "a/b/c": 2.0,
    }


def test_rows_are_forwarded_once_through_cuts_and_restarts(tmp_path):
    file = tmp_path / "metrics.jsonl"
    follower = _Follower(tmp_path)
    assert follower.new_rows() == []

    def take(follower: _Follower) -> list[int]:
        steps = [row["step"] for row in follower.new_rows()]
        for step in steps:
            follower.forwarded(step)
        return steps

    file.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert take(follower) == [1, 2]
    file.write_text('{"step": 1}\n')  # the run was resumed from the checkpoint at step 1
    assert take(follower) == []
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert take(follower) == [3]
    assert take(_Follower(tmp_path)) == []  # the mirror of a resumed run


def train(place: Path, *words: str, **popen) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"CREDIT_RUNS": str(place), "HOME": str(place), "NETRC": str(place / "netrc")}
    command = [sys.executable, "-m", "credit.cli.train", *RUN, *words]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **popen
    )


def result_of(place: Path) -> dict:
    [file] = place.glob("*/result.json")
    result: dict = json.loads(file.read_text())
    return result


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended between the two calls
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def wait_for(condition, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.mark.slow
def test_an_offline_run_is_written_with_its_identity(tmp_path):
    process = train(tmp_path, "logger=wandb", "trainer.epochs=3", "logger.tags=[a_tag]")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0 and "warning" not in err, err
    result = result_of(tmp_path)
    [folder] = [path.parent for path in tmp_path.glob("*/result.json")]
    run_id = folder.name.rsplit("-", 1)[1]
    [record] = folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    content = record.read_bytes()
    for expected in (result["group"], result["name"], "a_tag", "test_top1", "complete"):
        assert expected.encode() in content, f"{expected} was not forwarded"
    assert json.loads((folder / "wandb_mirror.json").read_text()) == {"step": result["steps"]}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["mirror", "service"])
def test_killing_wandb_changes_nothing_but_one_warning_line(tmp_path, victim):
    (tmp_path / "plain").mkdir()
    (tmp_path / "mirrored").mkdir()
    plain = train(tmp_path / "plain", "trainer.epochs=400")
    _, err = plain.communicate(timeout=120)
    assert plain.returncode == 0, err
    process = train(tmp_path / "mirrored", "logger=wandb", "trainer.epochs=400")
    # Forwarding has begun: both the mirror and W&B's service live.
    wait_for(lambda: list((tmp_path / "mirrored").glob("*/wandb_mirror.json")))
    [mirror] = children(process.pid)
    [service] = wait_for(lambda: children(mirror))
    os.kill(mirror if victim == "mirror" else service, signal.SIGKILL)
    killed_at = time.monotonic()
    assert process.poll() is None, "the run was over before the kill: make it longer"
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    warnings = [line for line in err.splitlines() if line.strip()]
    assert len(warnings) == 1 and "the W&B mirror stopped" in warnings[0] and "training is not affected" in warnings[0]
    assert time.monotonic() - killed_at < 60
    results = [result_of(tmp_path / name) for name in ("plain", "mirrored")]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert results[0]["best"]["test_top1"] == results[1]["best"]["test_top1"]
    wait_for(lambda: not children(mirror))  # nothing is left running


def several(count: int) -> list[Path]:
    """Return folders of runs that differ in their seed alone, each with its config.json."""
    cfg = compose([*RUN, "logger=wandb", "logger.mode=offline"])
    folders = []
    for seed in range(count):
        one = dataclasses.replace(cfg, seed=seed)
        folders.append(run_folder(one))
        folders[-1].mkdir(parents=True)
        write_config(folders[-1], one)
    return folders


def write_rows(folders: list[Path], steps: range) -> None:
    for number, folder in enumerate(folders):
        with open(folder / "metrics.jsonl", "a") as file:
            file.writelines(json.dumps({"step": step, f"only_{number}": 1.0}) + "\n" for step in steps)


def forwarded(folder: Path) -> int | None:
    state = folder / "wandb_mirror.json"
    return json.loads(state.read_text())["step"] if state.exists() else None


@pytest.mark.slow
def test_one_mirror_serves_runs_that_are_trained_together(capsys):
    folders = several(4)
    with Mirror(folders, Screen(1)) as mirror:
        write_rows(folders, range(1, 4))
        wait_for(lambda: all(forwarded(folder) == 3 for folder in folders))
        write_rows(folders[:3], range(4, 7))  # the fourth has diverged
        for folder in folders[:3]:
            (folder / "result.json").write_text('{"status": "complete", "last": {"test_top1": 0.5}}')
        mirror.check()
    assert "warning" not in capsys.readouterr().err
    assert [forwarded(folder) for folder in folders] == [6, 6, 6, 3]
    for folder in folders:
        run_id = folder.name.rsplit("-", 1)[1]
        [record] = folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb")
        content = record.read_bytes()
        assert read_config(folder)["group"].encode() in content and folder.name.encode() in content
        told = [number for number in range(4) if f"only_{number}".encode() in content]
        assert told == [folders.index(folder)]


@pytest.mark.slow
def test_a_killed_mirror_of_several_runs_is_made_up_for_later(capsys):
    folders = several(3)
    with Mirror(folders, Screen(1)) as mirror:
        write_rows(folders, range(1, 3))
        wait_for(lambda: all(forwarded(folder) == 2 for folder in folders))
        os.kill(mirror._process.pid, signal.SIGKILL)
        write_rows(folders, range(3, 5))
    err = capsys.readouterr().err
    assert (
        err.count("warning:") == 1 and "killed by SIGKILL" in err and "Forward the runs later with: python -m " in err
    )
    later = shlex.split(err.partition("later with: ")[2].partition("  (log:")[0])
    assert later[3:] == [str(folder) for folder in folders]
    done = subprocess.run([sys.executable, *later[1:]], stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0 and [forwarded(folder) for folder in folders] == [4, 4, 4]


def test_a_mirror_that_hangs_is_not_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirror_module, "PATIENCE", 0.3)
    monkeypatch.setattr(sys, "executable", _program(tmp_path, "trap '' TERM; sleep 60"))
    started = time.monotonic()
    with Mirror([tmp_path], Screen(1)) as mirror:
        mirror.check()
    assert time.monotonic() - started < 30  # the program sleeps for 60
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "was not done" in err and "credit.runs.wandb_mirror" in err


def test_a_mirror_that_breaks_warns_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", _program(tmp_path, "exit 3"))
    with Mirror([tmp_path], Screen(1)) as mirror:
        wait_for(lambda: mirror._process.poll() is not None)
        mirror.check()
        mirror.check()
    assert capsys.readouterr().err.count("warning: the W&B mirror stopped (exit code 3)") == 1


def _program(folder: Path, line: str) -> str:
    """Return an executable that stands in for an interpreter whose W&B misbehaves."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return str(program)
