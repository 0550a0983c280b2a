"""Folders, results and locks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from credit.core.config import check
from credit.core.errors import UserError
from credit.core.writing import write_json
from credit.runs import finished, headline, is_complete, read_metrics, read_result, run_folder
from credit.runs.folder import check_same_config, locked, read_config, write_config
from credit.runs.metrics import MetricsFile


@pytest.fixture
def cfg():
    return check({"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 1}})


@pytest.mark.parametrize(("status", "over"), [("complete", True), ("diverged", True), ("failed", False)])
def test_only_result_json_says_done(tmp_path, status, over):
    assert read_result(tmp_path) is None and not is_complete(tmp_path)
    write_json(tmp_path / "result.json", {"status": status})
    assert is_complete(tmp_path) is over


@pytest.mark.parametrize("content", ["", '{"status": "comp', "[1]"])
def test_a_damaged_result_is_named_with_its_remedy(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result.json is damaged .* delete it and give the same command again"):
        read_result(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "result.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "result.json", {"a": float("nan")})
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_config_comes_back_and_another_is_refused(cfg):
    folder = run_folder(cfg)
    check_same_config(folder, cfg)  # none yet
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="not a run folder"):
        read_config(folder)
    write_config(folder, cfg)
    check_same_config(folder, cfg)
    assert check(read_config(folder)["config"]) == cfg
    cfg = dataclasses.replace(cfg, seed=5, optimizer=dataclasses.replace(cfg.optimizer, lr=0.5))
    with pytest.raises(UserError, match=r"another configuration \(different: optimizer.lr, seed\).*delete it"):
        check_same_config(folder, cfg)


HOLDS = "import sys, time; from pathlib import Path; from credit.runs.folder import locked\n"
HOLDS += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_two_processes_do_not_write_in_one_folder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"held\n"
            with pytest.raises(UserError, match=rf"process {other.pid} on .* this very run .* wait for it, or stop it"):
                locked(tmp_path).__enter__()
        finally:
            os.kill(other.pid, signal.SIGKILL)
    with locked(tmp_path):  # the kernel let go when the process was killed
        pass


def test_metrics_survive_a_torn_line_and_are_cut_back(tmp_path):
    metrics = MetricsFile(tmp_path)
    metrics.append({"step": 1, "loss": float("inf"), "parts": [float("nan"), 1.0]})
    size = metrics.size()
    metrics.append({"step": 2})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": None, "parts": [None, 1.0]}, {"step": 2}]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert metrics.cut_back(size)
    metrics.append({"step": 2, "again": True})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert not metrics.cut_back(10_000)
    metrics.close()
    assert read_metrics(tmp_path / "nowhere") == []


def test_a_runs_folder_that_cannot_be_used_is_named(cfg, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be used .*CREDIT_RUNS"):
        finished(cfg)
    with pytest.raises(UserError, match="cannot be used .*CREDIT_RUNS"), locked(run_folder(cfg)):
        pass


def test_a_finished_run_is_told(cfg, capsys):
    assert finished(cfg) is None
    evaluation = {"epoch": 3, "test_top1": 0.5}
    result = {"status": "complete", "selected_by": "val_top1", "best": evaluation, "last": {**evaluation, "epoch": 4}}
    run_folder(cfg).mkdir(parents=True)
    write_json(run_folder(cfg) / "result.json", result)
    assert finished(cfg, console=False) == result and capsys.readouterr().out == ""
    finished(cfg)
    assert capsys.readouterr().out.startswith("already complete: accuracy 50.00% (best by validation, epoch 3), 50.00%")


def test_headlines_of_other_endings():
    last = {"epoch": 2, "test_top1": 0.25}
    told = headline({"status": "complete", "selected_by": "last", "best": last, "last": last})
    assert told == "complete: accuracy 25.00% (last, epoch 2)"
    end = {"step": 7, "where": "linear 'fc1'"}
    told = headline({"status": "diverged", "diverged": end, "last": last})
    assert (
        told == "diverged at step 7, first in linear 'fc1': non-finite numbers; last finite evaluation 25.00% (epoch 2)"
    )
    told = headline({"status": "diverged", "diverged": {**end, "why": "its states grew"}, "last": None})
    assert told == "diverged at step 7, first in linear 'fc1': its states grew"
    assert "evaluation" not in headline({"status": "diverged", "diverged": end, "last": None})
