"""Timed cells: a pair of runs measured in turns."""

import json

import pytest

from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.runs.folder import is_complete
from credit.tables.runners import timing

WORDS = ["data=digits", "arch=mlp", "rule=bp", "trainer.epochs=1", "data.batch_size=100"]


def options(*words: str) -> dict:
    return {"against": "narrow", "seconds": 0.5, "reference": compose([*WORDS, *words]).as_dict()}


def test_a_wider_network_takes_longer_than_its_reference():
    config, beside = compose([*WORDS, "arch.widths=[2048,2048]"]), options("arch.widths=[16]")
    result = timing.run(config, beside)
    assert result["time_ratio"] > 2 and result["time_ratio_low"] <= result["time_ratio"] <= result["time_ratio_high"]
    assert result["seconds_per_epoch"] == pytest.approx(result["step_seconds"] * result["steps_per_epoch"])
    assert result["step_seconds"] > result["reference"]["step_seconds"]
    where = timing.folder(config, beside)
    assert json.loads((where / "result.json").read_text()) == json.loads(json.dumps(result))
    assert is_complete(where) and result["status"] == "complete" and result["rounds"] >= timing.FEWEST


def test_a_run_beside_itself_is_one():
    result = timing.run(compose(WORDS), options())
    assert 0.5 < result["time_ratio"] < 2


def test_another_reference_is_another_folder():
    config = compose(WORDS)
    assert timing.folder(config, options()) != timing.folder(config, options("optimizer=adamw"))
    assert timing.folder(config, options()) == timing.folder(config, {"reference": options()["reference"]})
    assert not is_complete(timing.folder(config, options()))


def test_what_cannot_run_is_refused_first():
    with pytest.raises(UserError, match="batch_size=5000 is larger"):
        timing.refuse(compose([*WORDS[:-1], "data.batch_size=5000"]), options())
    with pytest.raises(UserError, match="needs a column to compare with"):
        timing.refuse(compose(WORDS), {})
    assert timing.estimate(compose(WORDS), options()) > 0
