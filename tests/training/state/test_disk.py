"""Runs on a disk that refuses: checkpoints are tried again, metrics are not lost in silence, and the same command goes on."""

import shutil
from pathlib import Path

import pytest

from credit.core.errors import UserError
from credit.core.writing import DiskError
from credit.data.batches import Batches
from credit.runs import read_metrics, read_result, run_folder
from credit.runs.folder import CHECKPOINTS, locked
from credit.runs.metrics import METRICS, MetricsFile
from credit.training import train
from credit.training.state import checkpoint
from tests.support.disks import largest_file

SMALL = 16_000  # bytes: room for records and lines of metrics, none for a checkpoint


def test_three_checkpoints_in_a_row_that_cannot_be_written_stop_a_run(config, capsys) -> None:
    cfg = config(trainer={"epochs": 6, "checkpoint_every": 1}, data={"val_fraction": 0.0})
    whole = train(config(trainer={"epochs": 6, "checkpoint_every": 1}, data={"val_fraction": 0.0}), console=False)
    shutil.rmtree(run_folder(cfg))
    with largest_file(SMALL), pytest.raises(DiskError, match="The run stopped at step .*; it has no checkpoint"):
        train(cfg, console=False)
    warned = capsys.readouterr().err
    assert warned.count("The run goes on without a checkpoint of step") == 2
    assert len(read_metrics(run_folder(cfg))) == 3 and not any(run_folder(cfg).glob("*.tmp"))
    assert train(cfg, console=False)["weights_sha256"] == whole["weights_sha256"]


def test_a_checkpoint_that_cannot_be_written_once_costs_nothing(config, monkeypatch, capsys) -> None:
    cfg = config(trainer={"epochs": 4, "checkpoint_every": 1})
    save, calls = checkpoint.save, []

    def refused_once(folder, step, state):
        calls.append(step)
        if len(calls) == 2:
            with largest_file(SMALL):
                return save(folder, step, state)
        return save(folder, step, state)

    monkeypatch.setattr(checkpoint, "save", refused_once)
    result = train(cfg, console=False)
    assert result["status"] == "complete" and calls[-1] == result["steps"]
    first = calls[0]
    assert f"its last checkpoint, of step {first}, is intact" in capsys.readouterr().err
    lost = any("the best one so far, could not be written" in note for note in result["notes"])
    assert lost or result["best"]["step"] == first


def test_metrics_that_cannot_be_written_stop_a_run(config, monkeypatch) -> None:
    cfg = config(trainer={"epochs": 3, "checkpoint_every": 1})
    append = MetricsFile.append

    def refused(self: MetricsFile, row) -> None:
        with largest_file(self.size() + 20):  # a part of the line
            append(self, row)

    with monkeypatch.context() as patched, pytest.raises(DiskError, match=r"metrics.jsonl cannot be written"):
        patched.setattr(MetricsFile, "append", refused)
        train(cfg, console=False)
    assert (run_folder(cfg) / METRICS).read_bytes() == b""
    assert train(cfg, console=False)["status"] == "complete"


@pytest.mark.parametrize("move", [True, False])
def test_a_folder_that_is_moved_or_deleted_stops_its_run(config, monkeypatch, move: bool) -> None:
    cfg = config(trainer={"epochs": 4, "checkpoint_every": 1})
    folder, at = run_folder(cfg), Batches.at

    def gone(self: Batches, step: int):
        if step == 7 and folder.exists():
            folder.rename(folder.with_name("elsewhere")) if move else shutil.rmtree(folder)
        return at(self, step)

    with monkeypatch.context() as patched, pytest.raises(DiskError, match="was deleted or moved while the run trained"):
        patched.setattr(Batches, "at", gone)
        train(cfg, console=False)
    assert not folder.exists()
    if move:
        folder.with_name("elsewhere").rename(folder)
    assert train(cfg, console=False)["status"] == "complete"


def test_checkpoints_that_are_deleted_are_written_again_with_a_warning(config, monkeypatch, capsys) -> None:
    cfg = config(trainer={"epochs": 4, "checkpoint_every": 1})
    folder, at = run_folder(cfg), Batches.at

    def gone(self: Batches, step: int):
        if step == 7:
            shutil.rmtree(folder / CHECKPOINTS)
        return at(self, step)

    monkeypatch.setattr(Batches, "at", gone)
    assert train(cfg, console=False)["status"] == "complete"
    assert capsys.readouterr().err.count("were deleted while the run trained; new ones are written") == 1
    assert checkpoint.steps(folder)


def test_a_lock_and_a_full_disk_are_found_before_the_data_are_read(config, monkeypatch, tmp_path: Path) -> None:
    def no_data(*args: object) -> None:
        raise AssertionError("data were loaded")

    monkeypatch.setattr("credit.training.loop.load_many", no_data)
    cfg = config()
    with locked(run_folder(cfg)), pytest.raises(UserError, match="is training this very run"):
        train(cfg, console=False)
    monkeypatch.setattr("credit.training.loop._bytes", lambda model: 10**17)
    with pytest.raises(DiskError, match="needs at least 200,000,000,000,000,000 bytes"):
        train(cfg, console=False)
    assert read_result(run_folder(cfg)) is None
