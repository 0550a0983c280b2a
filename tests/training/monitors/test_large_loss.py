"""A run whose loss exploded and came back to finite numbers: its notes, its result and the screen have it."""

import json
import math
from pathlib import Path

import pytest

from credit.data import load
from credit.runs import run_folder
from credit.training import train, train_together
from credit.training.prepare import prepare
from credit.training.state.run_state import begin

LIMIT = 100 * math.log(10)


@pytest.mark.parametrize("together", [False, True])
def test_an_exploded_run_has_it_in_notes_result_and_headline(config, capsys, together: bool) -> None:
    cfg = config("bp", optimizer={"lr": 300.0, "momentum": 0.0}, rule={"clip_norm": 1000.0})
    [result] = train_together([cfg]) if together else [train(cfg)]
    assert result["status"] == "complete"
    large = result["large_loss"]
    assert large["loss"] > large["limit"] == pytest.approx(LIMIT)
    assert large["loss"] >= result["last"]["train_loss"]
    [note] = [note for note in result["notes"] if note.startswith("the training loss reached")]
    assert f"{large['loss']:.3g} at step {large['step']}, above 100 log(classes) = 230" in note
    out, err = capsys.readouterr()
    assert err.count("warning: the training loss reached") == 1
    assert f"the training loss reached {large['loss']:.3g} (100 log(classes) is 230)" in out.splitlines()[-1]
    train(cfg)
    assert "already complete" in (again := capsys.readouterr().out) and "the training loss reached" in again


def test_an_enormous_first_loss_alone_is_seen(config, tmp_path: Path) -> None:
    cfg = config("bp", arch={"init": "gaussian", "init_std": 30.0}, trainer={"epochs": 1}, optimizer={"lr": 1e-6})
    result = train(cfg, console=False)
    assert result["large_loss"]["step"] == 1 or result["large_loss"]["loss"] > LIMIT
    assert json.loads((run_folder(cfg) / "result.json").read_text())["large_loss"] == result["large_loss"]


def test_a_healthy_run_has_no_such_note(config) -> None:
    result = train(config("bp"), console=False)
    assert "large_loss" not in result and not result["notes"]


def test_a_resumed_run_keeps_it(config) -> None:
    cfg = config("bp")
    prepared = prepare(cfg)
    runs = [begin(prepared, load(cfg.data, cfg.noise, seed=0, device=prepared.device)) for _ in range(2)]
    assert not runs[0].see_loss(LIMIT, 1) and runs[0].see_loss(1e6, 2) and not runs[0].see_loss(1e3, 3)
    assert runs[0].large_loss is not None and runs[0].large_loss["step"] == 2
    runs[1].restore(runs[0].state(0), run_folder(cfg))
    assert runs[1].large_loss == runs[0].large_loss and runs[1].notes == runs[0].notes
