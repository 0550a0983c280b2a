"""Resuming is bit-exact: after Ctrl-C in the middle of an epoch, after `kill -9` at any moment, after damage."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from credit.core.errors import UserError
from credit.data.batches import Batches
from credit.runs import read_metrics, read_result, run_folder
from credit.runs.folder import locked
from credit.training import train

DEMANDING: dict[str, dict[str, Any]] = {
    # rule, and what makes its state large: feedback matrices, dropout, momentum, averaged weights, BatchNorm, noise
    "fa": {
        "arch": {"widths": [16, 16], "dropout": 0.2},
        "trainer": {"epochs": 4, "ema": 0.9},
        "noise": {"kind": "symmetric", "rate": 0.4},
    },
    "lisp_margin": {
        "arch": {"kind": "plain_conv_bn", "widths": [4, 4, 4, 4, 4, 4], "hidden": 16},
        "optimizer": {"kind": "adamw", "lr": 0.01},
        "data": {"augment": ["crop"], "crop_padding": 1},
    },
}


def facts(folder: Path) -> list[dict]:
    """Return the metrics without the clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(folder)]


@pytest.mark.parametrize("rule", DEMANDING)
def test_stopped_in_the_middle_of_an_epoch_and_resumed_is_bit_identical(config, monkeypatch, tmp_path, rule):
    cfg = config(rule, **DEMANDING[rule])
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "whole"))
    whole, whole_facts = train(cfg, console=False), facts(run_folder(cfg))
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pieces"))
    at, stops = Batches.at, iter((3, 7, 8))
    following = [next(stops)]

    def interrupted_at(self: Batches, step: int):
        if step == following[0]:
            following[0] = next(stops, -1)
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C sends
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    for steps_done in (4, 8, 9):
        with pytest.raises(KeyboardInterrupt):
            train(cfg, console=False)
        assert (run_folder(cfg) / "checkpoints" / f"step-{steps_done:09d}.ckpt").exists()
        assert read_result(run_folder(cfg)) is None
    pieces = train(cfg, console=False)
    assert pieces["weights_sha256"] == whole["weights_sha256"]
    assert facts(run_folder(cfg)) == whole_facts


def command(folder: Path, words: list[str]) -> None:
    """Run the real command line in this (forked) process."""
    os.environ["CREDIT_RUNS"] = str(folder)
    from credit.cli.train import main

    with open(folder / "output", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.exit(main(words))


KILLED = ["rule=fa", "arch=mlp", "arch.widths=[16,16]", "arch.dropout=0.2", "data.limit_train=300", "noise=0.4"]
KILLED += ["data.batch_size=50", "trainer.ema=0.9", "trainer.device=cpu", "trainer.threads=1", "trainer.epochs=60"]
KILLED += ["trainer.measure=[alignment,descent,signs,drift]"]


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_killed_at_ten_random_moments_ends_in_the_same_weights(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["credit.training", "credit.core.config.compose", "hydra", "sklearn.datasets", "torch._dynamo"]
    )

    def start(place: Path) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=command, args=(place, KILLED))
        process.start()
        return process

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
    first = start(whole)
    first.join()
    assert first.exitcode == 0, (whole / "output").read_text()
    [folder] = [path for path in whole.iterdir() if path.is_dir()]
    metrics, chance = killed / folder.name / "metrics.jsonl", random.Random(time.time_ns())
    for moment in sorted(chance.sample(range(55), 10)):  # once this many of the 60 epochs are done, and a little later
        process = start(killed)
        while lines(metrics) < moment and process.is_alive():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run was over before the kill: make it longer"
    last = start(killed)
    last.join()
    said = (killed / "output").read_text()
    assert last.exitcode == 0 and "Traceback" not in said and "warning" not in said, said
    assert said.count("resuming at step") >= 5
    results = [json.loads((place / folder.name / "result.json").read_text()) for place in (whole, killed)]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert facts(folder) == facts(killed / folder.name)


def test_a_damaged_checkpoint_costs_an_epoch_not_the_run(config, monkeypatch, tmp_path, capfd):
    cfg = config(trainer={"epochs": 4})
    whole, whole_facts = train(cfg, console=False), facts(run_folder(cfg))
    folder = run_folder(cfg)
    (folder / "result.json").unlink()  # as if it had been killed at its very end
    last = sorted((folder / "checkpoints").glob("*.ckpt"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    again = train(cfg)
    out, err = capfd.readouterr()
    assert "resuming at step 15 of 20" in out
    assert err.count("warning:") == 1 and last.name in err
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert facts(folder) == whole_facts


def test_all_checkpoints_damaged_stops_and_trains_nothing(config):
    cfg = config(trainer={"epochs": 3})
    train(cfg, console=False)
    folder = run_folder(cfg)
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"")
    before = (folder / "metrics.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(UserError, match="every checkpoint in .* is damaged"):
            train(cfg, console=False)
    assert (folder / "metrics.jsonl").read_bytes() == before and read_result(folder) is None


def test_changed_data_is_not_resumed_on(config, monkeypatch):
    cfg = config()
    train(cfg, console=False)
    (run_folder(cfg) / "result.json").unlink()
    from credit.data.sources import files

    monkeypatch.setattr(files, "arrays_digest", lambda tensors: "0" * 64)
    with pytest.raises(UserError, match="the data changed since this run began"):
        train(cfg, console=False)


def test_a_run_in_use_by_another_process_is_refused(config):
    cfg = config()
    with (
        locked(run_folder(cfg)),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* is training this very run"),
    ):
        train(cfg, console=False)
    assert train(cfg, console=False)["status"] == "complete"


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_its_exit_code(tmp_path):
    environment = {**os.environ, "CREDIT_RUNS": str(tmp_path)}
    long = [word for word in KILLED if "epochs" not in word] + ["trainer.epochs=20000"]
    process = subprocess.Popen([sys.executable, "-m", "credit.cli.train", *long], env=environment)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert list(tmp_path.glob("*/checkpoints/*.ckpt"))
