"""``trainer.measure``: when diagnostics look, that they see the step, and that the run is the same with and without them."""

import os
import signal
from typing import Any

import pytest
import torch

from credit.core import registry
from credit.core.config import check
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.data.batches import Batches
from credit.diagnostics import Diagnostic, find, register
from credit.runs import read_metrics, run_folder
from credit.training import train

MEASURES = registry.built_in("diagnostic")
CONV = {"kind": "plain_conv_bn", "widths": [4, 4, 4, 4, 4, 4], "hidden": 16}
DEMANDING: dict[str, dict[str, Any]] = {
    "lisp_raw": {"arch": {"widths": [16], "dropout": 0.2}, "rule": {"clip": 0.01, "clip_output": False}},
    "lisp_margin": {"arch": CONV, "optimizer": {"kind": "adamw", "lr": 0.01}, "trainer": {"ema": 0.9}},
    "dfa": {"arch": {"widths": [16, 16]}},
}


def measured(cfg) -> dict[int, set[str]]:
    return {row["step"]: set(row) & set(MEASURES) for row in read_metrics(run_folder(cfg))}


@pytest.mark.parametrize("rule", DEMANDING)
def test_a_measured_run_is_the_unmeasured_one(config, rule):
    settings = DEMANDING[rule]
    trainer = {**settings.get("trainer", {}), "measure": ["alignment", "descent"], "measure_every": 0.2}
    plain, watched = config(rule, **settings), config(rule, **{**settings, "trainer": trainer})
    torch.manual_seed(0)
    first = train(plain, console=False)
    stream = torch.get_rng_state()
    second = train(watched, console=False)
    assert torch.equal(stream, torch.get_rng_state())
    assert first["weights_sha256"] == second["weights_sha256"] and run_folder(plain) != run_folder(watched)
    rows = read_metrics(run_folder(watched))
    assert [row["step"] for row in rows] == list(range(1, 11))
    evaluations = [
        {k: v for k, v in row.items() if k not in (*MEASURES, "seconds")} for row in rows if "test_top1" in row
    ]
    assert evaluations == [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(run_folder(plain))]
    for key in ("best", "last"):
        assert {**first[key], "seconds": 0} == {**second[key], "seconds": 0}


@pytest.mark.parametrize(
    ("every", "trainer", "steps"),
    [
        (1, {"epochs": 3}, [5, 10, 15]),
        (2, {"epochs": 3}, [10, 15]),
        (0.4, {"epochs": 2}, [2, 4, 6, 8, 10]),
        (0.3, {"epochs": 2}, [2, 3, 5, 6, 8, 9, 10]),
        (0.01, {"epochs": 1}, [1, 2, 3, 4, 5]),
        (1, {"epochs": None, "steps": 7}, [5, 7]),
        (5, {"epochs": 1}, [5]),
        (1, {"epochs": 3, "measure_first": 3}, [1, 2, 3, 5, 10, 15]),
        (2, {"epochs": 2, "measure_first": 6}, [1, 2, 3, 4, 5, 6, 10]),
        (1, {"epochs": 1, "measure_first": 200}, [1, 2, 3, 4, 5]),
    ],
)
def test_measures_as_often_as_asked_and_at_the_end(config, every, trainer, steps):
    cfg = config(trainer={**trainer, "measure": ["descent"], "measure_every": every, "eval_every": 2})
    train(cfg, console=False)
    assert [step for step, found in measured(cfg).items() if found] == steps
    ends = {step for step in steps if step % 10 == 0} | {steps[-1]}
    assert [row["step"] for row in read_metrics(run_folder(cfg)) if "test_top1" in row] == sorted(ends)


def test_evaluates_several_times_an_epoch_and_trains_the_same(config):
    plain, often = config(), config(trainer={"eval_every": 0.4})
    first, second = train(plain, console=False), train(often, console=False)
    assert first["weights_sha256"] == second["weights_sha256"] and run_folder(plain) != run_folder(often)
    rows = read_metrics(run_folder(often))
    assert [row["step"] for row in rows if "test_top1" in row] == [2, 4, 6, 8, 10]
    ends = {row["step"]: {**row, "seconds": 0} for row in rows}
    assert [ends[10]] == [{**row, "seconds": 0} for row in read_metrics(run_folder(plain))][1:]
    assert run_folder(config(trainer={"eval_every": 1.0})) == run_folder(config(trainer={"eval_every": 1}))


def test_the_numbers_are_of_the_step_itself(config):
    cfg = config(
        "lisp_raw", optimizer={"momentum": 0.0}, trainer={"epochs": 1, "measure": ["descent"], "measure_every": 0.2}
    )
    train(cfg, console=False)
    rows = read_metrics(run_folder(cfg))
    assert [row["descent"]["eta"] for row in rows] == [row["lr"] for row in rows]
    assert all(row["descent"]["output_holds"] for row in rows)
    assert [row["descent"]["S"] for row in rows] != [row["descent"]["S_after"] for row in rows]
    assert rows[-1]["train_loss"] == pytest.approx(sum(row["descent"]["S"] for row in rows) / 5, rel=1e-5)


def test_stopped_and_resumed_the_rows_are_the_same(config, monkeypatch, tmp_path):
    most = [name for name in MEASURES if name != "inference"]  # which LISP has none of
    cfg = config("lisp_raw", **{**DEMANDING["lisp_raw"], "trainer": {"measure": most, "measure_every": 0.6}})
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "whole"))
    whole, rows = train(cfg, console=False), read_metrics(run_folder(cfg))
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pieces"))
    at, stops = Batches.at, iter((2, 3, 7))
    following = [next(stops)]

    def interrupted_at(self: Batches, step: int):
        if step == following[0]:
            following[0] = next(stops, -1)
            os.kill(os.getpid(), signal.SIGINT)
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(cfg, console=False)
    assert train(cfg, console=False)["weights_sha256"] == whole["weights_sha256"]
    again = read_metrics(run_folder(cfg))
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]
    assert [row["step"] for row in rows] == [3, 5, 6, 9, 10]


def test_measuring_is_not_on_the_runs_clock(config):
    slow = """
import time
from credit.diagnostics import Diagnostic, register

@register("slow")
class Slow(Diagnostic):
    def before(self, x, y):
        time.sleep(0.3)

    def after(self, x, y, outcome):
        return {"batch": len(y)}
"""
    folder = run_folder(config()).parent.parent / "mine"
    (folder / "diagnostic").mkdir(parents=True)
    (folder / "diagnostic" / "slow.py").write_text(slow)
    use_folders([folder])
    try:
        cfg = config(trainer={"epochs": 1, "measure": ["slow"], "measure_every": 0.2})
        assert train(cfg, console=False)["seconds"] < 1.0  # five steps were watched for 0.3 s each
        assert [row["slow"] for row in read_metrics(run_folder(cfg))] == [{"batch": 50}] * 5
        with pytest.raises(UserError, match=r"trainer.measure=slwo: did you mean 'slow'"):
            config(trainer={"measure": ["slwo"]})
    finally:
        use_folders([])


def test_unknown_names_are_refused_with_the_nearest():
    least = {"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}}
    with pytest.raises(
        UserError, match=r"trainer.measure=alignmnt: did you mean 'alignment'\? valid: alignment, descent"
    ):
        check({**least, "trainer": {"epochs": 1, "measure": ["alignmnt"]}})
    with pytest.raises(UserError, match=r"trainer.measure_every=0 is outside \(0, inf\)"):
        check({**least, "trainer": {"epochs": 1, "measure_every": 0}})


def test_a_run_that_measures_no_first_steps_keeps_its_name(config):
    drift = {"measure": ["drift"]}
    assert run_folder(config(trainer={"measure_first": 0, **drift})) == run_folder(config(trainer=drift))
    assert run_folder(config(trainer={"measure_first": 1, **drift})) != run_folder(config(trainer=drift))
    with pytest.raises(UserError, match=r"trainer.measure_first=-1 is outside \[0, inf\)"):
        config(trainer={"measure_first": -1})


def test_every_name_finds_its_diagnostic():
    assert [find(name).__name__.lower() for name in MEASURES] == [name.replace("_", "") for name in MEASURES]
    with pytest.raises(UserError, match="did you mean 'descent'"):
        find("descend")
    with pytest.raises(
        UserError, match="diagnostic 'descent' is already registered, by credit.diagnostics.descent.Descent"
    ):
        register("descent")(type("Other", (Diagnostic,), {}))
    with pytest.raises(UserError, match="Other must subclass credit.diagnostics.Diagnostic"):
        register("other")(type("Other", (), {}))
