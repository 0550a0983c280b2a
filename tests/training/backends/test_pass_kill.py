"""A pass of three, killed where it writes a checkpoint, ends in the weights of one that was left alone."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from credit.core.config import RunConfig
from credit.core.errors import UserError
from credit.runs import read_metrics, read_result, run_folder
from credit.training import train, train_together
from credit.training.backends.base import Backend
from credit.training.state import checkpoint

SEEDS = (3, 4, 5)


def runs_of(config: Any) -> list[RunConfig]:
    trainer = {"epochs": 3, "checkpoint_every": 2, "eval_every": 0.5, "ema": 0.9}
    return [config("bp", seed=seed, trainer=trainer, arch={"widths": [16, 16], "dropout": 0.2}) for seed in SEEDS]


def child(place: Path, cfgs: list[RunConfig], write: int, after: bool) -> None:
    """Train in this (forked) process; `kill -9` it before or after its checkpoint number `write`."""
    os.environ["CREDIT_RUNS"] = str(place)
    whole, count = checkpoint.write_whole, 0

    def killing(path: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == write and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(path, content)
        if count == write:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "write_whole", killing)
        train_together(cfgs, console=False)


def finish(place: Path, cfgs: list[RunConfig], write: int = 0, after: bool = False) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=child, args=(place, cfgs, write, after))
    process.start()
    process.join()
    return process.exitcode


def facts(place: Path, cfgs: list[RunConfig], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("CREDIT_RUNS", str(place))
    found = []
    for cfg in cfgs:
        result = read_result(run_folder(cfg))
        assert result is not None
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(run_folder(cfg))]
        found.append((result["weights_sha256"], rows))
    return found


WRITES = 10
"""Checkpoint files of the three runs: common ones after steps 3, 10 and 15, and after 13 a new best of one run."""


@pytest.mark.parametrize(
    "points",
    [pytest.param((2, 9), id="some"), pytest.param(range(1, WRITES + 1), id="all", marks=pytest.mark.slow)],
)
def test_killed_at_a_checkpoint_it_ends_bit_for_bit_the_same(config, monkeypatch, tmp_path, points):
    cfgs = runs_of(config)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "whole"))
    written: list[Path] = []
    whole = checkpoint.write_whole

    def counted(path: Path, content: bytes) -> None:
        written.append(path)
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_whole", counted)
        train_together(cfgs, console=False)  # in this process, so that a child is forked with everything imported
    assert len(written) == WRITES
    wanted = facts(tmp_path / "whole", cfgs, monkeypatch)
    for write in points:
        place = tmp_path / f"killed-{write}"
        assert finish(place, cfgs, write, after=bool(write % 2)) == -signal.SIGKILL
        if write % 3 == 0:  # and once more on the way back
            assert finish(place, cfgs, 2, after=True) == -signal.SIGKILL
        assert finish(place, cfgs) == 0
        assert facts(place, cfgs, monkeypatch) == wanted, f"killed at checkpoint {write}"


def test_a_common_checkpoint_is_kept_while_single_runs_write_theirs(config, monkeypatch, tmp_path):
    """New bests write checkpoints of one run alone; the last one that all have stays until all have another."""
    cfgs = runs_of(config)
    missing: list[int] = []
    kept = checkpoint.prune

    def watched(folder: Path, *keep: int | None) -> None:
        kept(folder, *keep)
        if folder == run_folder(cfgs[-1]):
            common = set.intersection(*(set(checkpoint.steps(run_folder(cfg))) for cfg in cfgs))
            periodic = [step for step in checkpoint.steps(folder) if step % 10 == 0]
            missing.extend([] if common or not periodic else [max(checkpoint.steps(folder))])

    monkeypatch.setattr(checkpoint, "prune", watched)
    train_together(cfgs, console=False)
    assert missing == []


def test_one_that_was_trained_by_itself_keeps_its_work(config, capfd):
    cfgs = runs_of(config)
    alone, *others = cfgs
    train(alone, console=False)
    (run_folder(alone) / "result.json").unlink()
    train_together(cfgs, console=True)
    assert "resuming 1 of 3 runs at step 15 of 15" in capfd.readouterr().out
    assert all(read_result(run_folder(cfg)) is not None for cfg in cfgs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 9}, "different: seed"),
        ({"optimizer": {"lr": 0.2}}, "different: optimizer.lr"),
        ({"arch": {"widths": [16], "activation": "tanh"}}, "different: arch.activation"),
        ({"noise": {"kind": "symmetric", "rate": 0.2}}, "different: noise"),
        ({"optimizer": {"kind": "adam"}}, "different: optimizer"),
        ({"trainer": {"epochs": 3}}, "different: trainer.epochs"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(config, changes, words):
    mine, other = config(), config(**changes)
    train(mine, console=False)
    train(other, console=False)
    folder = run_folder(mine)
    (folder / "result.json").unlink()
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    copied = sorted((run_folder(other) / "checkpoints").iterdir())[-1]
    (folder / "checkpoints" / copied.name).write_bytes(copied.read_bytes())
    with pytest.raises(UserError, match="is of another run") as told:
        train(mine, console=False)
    assert words in str(told.value)


def unfinished(config):
    """Return a run without its result, its folder and its newest checkpoint."""
    cfg = config()
    train(cfg, console=False)
    folder = run_folder(cfg)
    (folder / "result.json").unlink()
    state = checkpoint.latest(folder, lambda text: pytest.fail(text))
    assert state is not None
    return cfg, folder, state


def test_a_checkpoint_beyond_the_end_is_refused(config):
    cfg, folder, state = unfinished(config)
    del state["fingerprint"]  # as in a checkpoint older than fingerprints
    checkpoint.save(folder, 45, state | {"step": 45})
    with pytest.raises(UserError, match="is of step 45, and this run ends at step 10"):
        train(cfg, console=False)


def test_other_threads_and_versions_are_told_and_recorded(config, monkeypatch, capfd):
    cfg, folder, state = unfinished(config)
    state["fingerprint"]["surroundings"] |= {"torch": "1.0", "threads": 7}
    checkpoint.save(folder, state["step"], state)
    result = train(cfg, console=False)
    said = capfd.readouterr().err
    assert "going on at step 10 with differences: torch 1.0 then, " in said and "threads 7 then, " in said
    assert result["resumed"][0]["step"] == 10 and len(result["resumed"][0]["differences"]) == 2


def test_who_leaves_a_pass_has_no_result_before_the_others_have_checkpoints_without_it(config, monkeypatch):
    """Else a kill in between would bring the others back to a step at which they had more company."""
    changes: dict[str, Any] = {
        "optimizer": {"lr": 1.0},
        "arch": {"widths": [16, 16, 16], "activation": "identity"},
        "trainer": {"epochs": None, "steps": 12, "precision": "float64"},
    }
    cfgs = [config("bp", seed=seed, **changes) for seed in range(6)]
    write, seen = Backend.write_evicted, []

    def watched(self: Backend) -> None:
        for folder, result in ((one.folder, self._results[one.folder]) for one in self._unwritten):
            assert not (folder / "result.json").exists()
            behind = [checkpoint.steps(recorder.folder)[-1] for recorder in self.recorders]
            seen.append(all(step >= result["steps"] for step in behind) and len(set(behind)) <= 1)
        write(self)

    monkeypatch.setattr(Backend, "write_evicted", watched)
    results = train_together(cfgs, console=False)
    assert seen and all(seen) and len(seen) == sum(result["status"] == "diverged" for result in results)
    assert all(read_result(run_folder(cfg)) == result for cfg, result in zip(cfgs, results, strict=True))
