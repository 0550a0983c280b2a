"""Replicas trained in one pass against the same runs trained one by one."""

import json
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from credit.core.errors import UserError
from credit.data import Batches
from credit.diagnostics.alignment import Alignment
from credit.runs import read_metrics, read_result, run_folder
from credit.training import train, train_together
from credit.training.backends import base
from credit.training.monitors import clock
from credit.training.monitors.finite import FiniteWatch
from credit.training.run_recorder import RunRecorder
from credit.training.state import checkpoint

SEEDS = (0, 1, 2)
FLOAT64 = {"precision": "float64", "epochs": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bp", {"trainer": FLOAT64}),
    "clipped": ("lisp_margin", {"trainer": FLOAT64}),
    "feedback, dropout, averaged weights, noise": (
        "fa",
        {
            "arch": {"widths": [16, 16], "dropout": 0.2},
            "trainer": FLOAT64 | {"ema": 0.9, "measure": ["alignment"], "measure_every": 0.4},
            "noise": {"kind": "symmetric", "rate": 0.4},
        },
    ),
    "batch norm, adamw, crop, a last batch that is smaller": (
        "lisp_ce",
        {
            "arch": {"kind": "plain_conv_bn", "widths": [2, 2, 2, 2, 2, 2], "hidden": 8},
            "optimizer": {"kind": "adamw", "lr": 0.01},
            "data": {"augment": ["crop"], "crop_padding": 1, "drop_last": False, "limit_train": 120, "batch_size": 50},
            "trainer": FLOAT64 | {"bn_batches": 2},
        },
    ),
    "cross-entropy without a normalizer": ("lisp_ce", {"rule": {"normalizer": "none"}, "trainer": FLOAT64}),
    "direct feedback, adam": ("dfa", {"optimizer": {"kind": "adam", "lr": 0.003}, "trainer": FLOAT64}),
}


def rows(cfg) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(run_folder(cfg))]


def state(cfg) -> dict[str, Any]:
    held = checkpoint.latest(run_folder(cfg), lambda text: pytest.fail(text))
    assert held is not None
    return {key: held[key] for key in ("step", "model", "rule", "optimizer", "average", "running", "data_digest")}


def close(a: Any, b: Any, tolerance: float) -> None:
    """Compare nested results number by number; what is not a number must be equal."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            close(a[key], b[key], tolerance)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            close(one, other, tolerance)
    elif isinstance(a, float) or isinstance(b, float):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    else:
        assert a == b


@pytest.mark.parametrize("case", CASES)
def test_a_pass_equals_the_loop(config, monkeypatch, tmp_path, case):
    rule, changes = CASES[case]
    cfgs = [config(rule, seed=seed, **changes) for seed in SEEDS]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    kept = [(rows(cfg), state(cfg)) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    together = train_together(cfgs, console=False)
    for cfg, one, other, (lines, held) in zip(cfgs, alone, together, kept, strict=True):
        assert other == read_result(run_folder(cfg)) and other["status"] == "complete"
        assert one["name"] == other["name"] and one["config"] == other["config"] and one["data"] == other["data"]
        close(lines, rows(cfg), 1e-9)
        close(held, state(cfg), 1e-9)


def test_in_float32_an_epoch_agrees_to_five_digits(config, monkeypatch, tmp_path):
    cfgs = [
        config("bp", seed=seed, data={"limit_train": None, "batch_size": 32}, trainer={"epochs": 1})
        for seed in range(4)
    ]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    for cfg in cfgs:
        train(cfg, console=False)
    kept = [state(cfg)["model"] for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    train_together(cfgs, console=False)
    for cfg, weights in zip(cfgs, kept, strict=True):
        for name, value in state(cfg)["model"].items():
            torch.testing.assert_close(value, weights[name], rtol=1e-5, atol=1e-5)


def test_one_that_diverges_costs_no_other(config, monkeypatch, tmp_path):
    # In so few steps some seeds leave the finite numbers, at different steps, and others do not.
    changes: dict[str, Any] = {
        "optimizer": {"lr": 1.0},
        "arch": {"widths": [16, 16, 16], "activation": "identity"},
        "trainer": {"epochs": None, "steps": 12, "precision": "float64"},
    }
    cfgs = [config("bp", seed=seed, **changes) for seed in range(6)]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    assert len({(result["status"], result["steps"]) for result in alone}) == 3, [r["steps"] for r in alone]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    together = train_together(cfgs, console=False)
    for one, other in zip(alone, together, strict=True):
        assert (one["status"], one.get("diverged"), one["steps"]) == (
            other["status"],
            other.get("diverged"),
            other["steps"],
        )


def test_a_pass_may_lose_all_its_runs_at_a_look(config, monkeypatch):
    """On a GPU it looks at an epoch's end, if not before, whether its runs are finite."""

    class AsOnAGpu(FiniteWatch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._at_once = False

    monkeypatch.setattr(base, "FiniteWatch", AsOnAGpu)
    cfgs = [config("bp", seed=seed, optimizer={"lr": 1e200}, trainer=FLOAT64) for seed in SEEDS]
    results = train_together(cfgs, console=False)
    assert [(result["status"], result["diverged"]["step"]) for result in results] == [("diverged", 2)] * 3


def test_diagnostics_cost_no_run_seconds(config, monkeypatch):
    now = 0.0

    def look(*_: Any) -> dict[str, Any]:
        nonlocal now
        now += 1.0
        return {}

    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(Alignment, "before", look)
    monkeypatch.setattr(Alignment, "after", look)
    trainer = {"epochs": 2, "measure": ["alignment"], "measure_every": 0.5}
    results = train_together([config("bp", seed=seed, trainer=trainer) for seed in SEEDS], console=False)
    assert now > 3 * 2 and [result["seconds"] for result in results] == pytest.approx([0.0] * 3)


def test_stopped_and_resumed_as_one_or_alone(config, monkeypatch, tmp_path):
    cfgs = [config("lisp_margin", seed=seed, trainer=FLOAT64) for seed in SEEDS]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "whole"))
    train_together(cfgs, console=False)
    whole = [(rows(cfg), state(cfg)) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pieces"))
    at = Batches.at

    def interrupted_at(self: Batches, step: int) -> Any:
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C sends
        return at(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "at", interrupted_at)
        with pytest.raises(KeyboardInterrupt):
            train_together(cfgs, console=False)
    assert all(read_result(run_folder(cfg)) is None and state(cfg)["step"] == 7 for cfg in cfgs)
    train(cfgs[1], console=False)  # one goes on by itself, so that the others stand elsewhere
    results = train_together(cfgs, console=False)
    assert [result["status"] for result in results] == ["complete"] * 3
    for cfg, (lines, held) in zip(cfgs, whole, strict=True):
        close(lines, rows(cfg), 1e-9)
        close(held, state(cfg), 1e-9)


@pytest.mark.parametrize("how", ["loop", "pass"])
def test_a_stop_asked_for_during_an_evaluation_loses_no_step(config, monkeypatch, how):
    cfgs = [
        config("bp", seed=seed, trainer={"epochs": 4, "checkpoint_every": 4}, data={"val_fraction": 0})
        for seed in SEEDS
    ]
    evaluation = RunRecorder._evaluation

    def interrupted(self: RunRecorder, *given: Any) -> Any:
        if self.run.cfg.seed == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluation(self, *given)

    monkeypatch.setattr(RunRecorder, "_evaluation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(cfgs[0], console=False) if how == "loop" else train_together(cfgs, console=False)
    steps = {state(cfg)["step"] for cfg in (cfgs[:1] if how == "loop" else cfgs)}
    assert len(steps) == 1 and steps.pop() > 1


def test_a_checkpoint_holds_its_own_run_alone(config, monkeypatch, tmp_path):
    """A run's weights are views of the stacks, and a view is saved with all that is behind it."""
    changes = {"optimizer": {"kind": "adam"}, "arch": {"widths": [64], "activation": "relu"}}
    cfgs = [config("fa", seed=seed, **changes) for seed in range(8)]
    sizes = []
    for where, run in (
        ("loop", lambda: [train(cfg, console=False) for cfg in cfgs]),
        ("pass", lambda: train_together(cfgs)),
    ):
        monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / where))
        run()
        sizes.append([max(f.stat().st_size for f in run_folder(cfg).glob("checkpoints/*.ckpt")) for cfg in cfgs])
    for one, other in zip(*sizes, strict=True):
        assert one == pytest.approx(other, rel=0.05)


def test_dead_layers_are_each_runs_own_note(config, capsys):
    rule = {"kind": "sweep", "gate": "untied_rectangle", "width": 1e-9}
    results = train_together([config("bp", seed=seed, rule=rule) for seed in SEEDS], console=False)
    assert all("dead layers: the updates of fc1.weight" in result["notes"][0] for result in results)
    assert capsys.readouterr().err.count("warning: dead layers") == 3
    short = config("bp", rule=rule, trainer={"epochs": None, "steps": 2})
    assert "dead layers" in train(short, console=False)["notes"][0]


def test_finished_runs_are_reported_and_the_others_trained(config, capsys):
    cfgs = [config("bp", seed=seed) for seed in SEEDS]
    first = train(cfgs[1], console=False)
    results = train_together(cfgs)
    assert results[1] == first and [result["config"]["seed"] for result in results] == [0, 1, 2]
    said = capsys.readouterr().out
    assert said.count("already complete") == 1 and "2 runs, mean:" in said and said.count("\ncomplete: accuracy") == 2
    assert train_together(cfgs, console=False) == results
    assert json.loads((run_folder(cfgs[0]) / "result.json").read_text()) == results[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"lr": 0.1}}, r"differ in their seed alone; seed 1 differs from seed 0 in optimizer too"),
        ({"replicas": 4}, r"replicas=4 of one of several runs"),
    ],
)
def test_refuses_runs_that_cannot_share_a_pass(config, changes, words):
    with pytest.raises(UserError, match=words):
        train_together([config("bp", seed=0), config("bp", seed=1, **changes)])
