"""Giving a run up: validation accuracy that collapses, inferences that diverge; alone and among replicas."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import credit
from credit.core.config import check
from credit.core.errors import UserError
from credit.rules.api import read
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Rule
from credit.rules.outcome import InferenceDiverged, Step
from credit.runs import read_metrics, read_result, run_folder
from credit.runs.identity import run_name
from credit.runs.outcome import headline
from credit.sweeps.choose import choose
from credit.training import train, train_together
from credit.training.monitors.finite import FiniteWatch, Lost
from credit.training.monitors.stopping import early
from credit.training.run_recorder import RunRecorder
from credit.training.state import checkpoint

# A rate that leaps to ten thousand times itself after epoch 4 kills every hidden unit: one class is answered ever after.
COLLAPSING: dict[str, Any] = {
    "optimizer": {"lr": 0.1, "momentum": 0.0},
    "schedule": {"kind": "step", "milestones": [4.0], "gamma": 1e4},
    "trainer": {"epochs": 8, "stop_when": "collapsed", "collapse_after": 3},
}


def test_a_run_whose_validation_accuracy_collapses_is_given_up_with_its_best(config):
    cfg = config("bp", **COLLAPSING)
    result = train(cfg, console=False)
    assert result["status"] == "complete" and result["stopped"]["why"] == "collapsed"
    stopped, best = result["stopped"], result["best"]
    assert (
        stopped["epoch"] == 5 == result["last"]["epoch"]
        and stopped["step"] == result["steps"] < 8 * result["steps_per_epoch"]
    )
    assert stopped["val_top1"] < 0.5 * stopped["best_val_top1"] and stopped["best_val_top1"] == best["val_top1"]
    assert result["selected_by"] == "val_top1" and best["epoch"] <= 4
    assert checkpoint.path_of(run_folder(cfg), best["step"]).is_file()
    assert "; given up at epoch 5: validation accuracy" in headline(result) and headline(result).startswith(
        "complete: "
    )


def test_what_is_measured_at_the_end_is_measured_of_a_run_that_is_given_up(config):
    once = {"measure": ["fgsm", "pruning", "signs"], "fgsm_epsilon": [0.1], "measure_every": 100}
    cfg = config("bp", **{**COLLAPSING, "trainer": {**COLLAPSING["trainer"], **once}})
    result = train(cfg, console=False)
    assert result["stopped"]["epoch"] == 5
    assert result["weights_sha256"] == train(config("bp", **COLLAPSING), console=False)["weights_sha256"]
    rows = read_metrics(run_folder(cfg))
    found = [sorted(set(row) & {"fgsm", "pruning", "signs"}) for row in rows]
    assert found == [[], [], [], [], ["fgsm", "pruning"]]
    last = rows[-1]
    assert last["fgsm"]["test"]["clean"] == last["test_top1"] == last["pruning"]["accuracy"]["p0"]


def test_without_the_option_the_same_run_goes_on_to_its_end_and_has_the_name_it_always_had(config):
    changes = {**COLLAPSING, "trainer": {"epochs": 8}}
    result = train(config("bp", **changes), console=False)
    assert result["last"]["epoch"] == 8 and "stopped" not in result
    usual = {"stop_when": "never", "collapse_share": 0.5, "collapse_after": 5}
    assert run_name(config("bp", trainer=usual)) == run_name(config("bp"))
    assert run_name(config("bp", **COLLAPSING)) != run_name(config("bp", **changes))


def test_a_run_killed_after_it_was_given_up_is_not_trained_further(config):
    cfg = config("bp", **COLLAPSING)
    result = train(cfg, console=False)
    (run_folder(cfg) / "result.json").unlink()
    again = train(cfg, console=False)
    same = ("status", "stopped", "best", "last", "steps", "weights_sha256")
    assert {key: again[key] for key in same} == {key: result[key] for key in same}


def test_what_a_collapse_is():
    trainer = check({"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}, "trainer": COLLAPSING["trainer"]}).trainer
    best, row = {"val_top1": 0.8}, {"epoch": 4, "step": 40, "val_top1": 0.39}
    told = {"why": "collapsed", "epoch": 4, "step": 40, "val_top1": 0.39, "best_val_top1": 0.8, "share": 0.5}
    assert early(trainer, best, row) == told
    assert early(trainer, best, row | {"epoch": 3}) is None  # not after it
    assert early(trainer, best, row | {"val_top1": 0.4}) is None  # not below it
    assert early(trainer, None, row) is None
    assert early(dataclasses.replace(trainer, stop_when="never"), best, row) is None


def test_replicas_are_given_up_one_by_one(config, monkeypatch, tmp_path):
    real = RunRecorder._evaluation

    def seed_1_collapses(self: RunRecorder, *given: Any) -> dict[str, Any]:
        row = real(self, *given)
        return row | ({"val_top1": 0.01} if self.run.cfg.seed == 1 and self.run.epoch == 3 else {})

    monkeypatch.setattr(RunRecorder, "_evaluation", seed_1_collapses)
    trainer = {"epochs": 4, "stop_when": "collapsed", "collapse_after": 2, "precision": "float64", "measure": ["fgsm"]}
    cfgs = [config("bp", seed=seed, trainer=trainer) for seed in range(3)]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    together = train_together(cfgs, console=False)
    for one, other in zip(alone, together, strict=True):
        assert one["steps"] == other["steps"] and other["status"] == "complete"
        assert one.get("stopped") == pytest.approx(other.get("stopped"))
    assert [result["last"]["epoch"] for result in together] == [4, 3, 4]
    assert [("stopped" in result) for result in together] == [False, True, False]
    assert ["fgsm" in read_metrics(run_folder(cfg))[-1] for cfg in cfgs] == [True, True, True]  # measured at the end
    # One that was killed after it was given up is over when the others are trained further.
    for cfg in cfgs[1:]:
        (run_folder(cfg) / "result.json").unlink()
    again = train_together(cfgs, console=False)
    assert [result["weights_sha256"] for result in again] == [result["weights_sha256"] for result in together]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"trainer": {"stop_when": "nan"}},
            "trainer.stop_when=nan: trainer has no such choice; did you mean 'no_gain'",
        ),
        (
            {"trainer": {"collapse_share": 0.3}},
            "trainer.collapse_share=0.3 would change nothing: it is read with trainer.stop_when=collapsed",
        ),
        ({"trainer": {"collapse_after": 2}}, "trainer.collapse_after=2 would change nothing"),
        ({"trainer": {"stop_when": "collapsed", "collapse_share": 1.5}}, "outside"),
        ({"trainer": {"stop_when": "collapsed"}, "data": {"val_fraction": 0}}, "data.val_fraction=0 leaves none"),
    ],
)
def test_what_cannot_work_is_refused(config, changes, words):
    with pytest.raises(UserError, match=words):
        config("bp", **changes)


def test_an_inference_that_diverges_ends_the_run_naming_where_and_why(config, monkeypatch, capsys):
    real = Rule.step

    def diverges(self: Rule, x: torch.Tensor, y: torch.Tensor) -> Step:
        if self.position == 7:
            raise InferenceDiverged("linear 'fc1'", "states that grew 4e+09 times")
        return real(self, x, y)

    monkeypatch.setattr(Rule, "step", diverges)
    cfg = config("bp", trainer={"epochs": 3})
    result = train(cfg)
    assert result["status"] == "diverged"
    assert result["diverged"] == {"step": 8, "where": "linear 'fc1'", "why": "states that grew 4e+09 times"}
    assert result["last"]["epoch"] == 1 == result["best"]["epoch"]  # what it had reached
    assert (
        "diverged at step 8, first in linear 'fc1': states that grew 4e+09 times; last finite evaluation"
        in capsys.readouterr().out
    )
    assert train(cfg, console=False) == read_result(run_folder(cfg))


def test_growth_that_a_step_tells_ends_single_runs_and_replicas_at_the_same_steps(config, monkeypatch, tmp_path):
    real = BackwardRule.compute

    def grows(self: BackwardRule, *given: Any) -> Any:
        done = real(self, *given)
        done.signals = done.signals | {"inference.growth": torch.where(done.loss < 1.2, 3e7, 1.0)}
        return done

    monkeypatch.setattr(BackwardRule, "compute", grows)
    trainer = {"epochs": 8, "precision": "float64"}
    cfgs = [config("bp", seed=seed, trainer=trainer, optimizer={"lr": 0.1}) for seed in range(3)]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    together = train_together(cfgs, console=False)
    assert [result["diverged"] for result in alone] == [result["diverged"] for result in together]
    assert len({result["diverged"]["step"] for result in together}) > 1  # not all at once
    assert {result["diverged"]["where"] for result in together} == {"the inference"}
    assert {result["diverged"]["why"] for result in together} == {"values that grew more than 1,000,000 times"}
    assert read_metrics(run_folder(cfgs[0]))[0]["signals"]["inference.growth"] == 1.0


def step_of(growth: float, logit: float = 0.0) -> Step:
    return Step(torch.full((2, 3), logit), torch.tensor(0.5), None, {"inference.growth": torch.tensor(growth)})


@pytest.mark.parametrize("growth", [math.nan, math.inf, 1.1e6])
def test_growth_beyond_a_million_or_not_finite_is_divergence(growth):
    watch = FiniteWatch(torch.device("cpu"))
    assert watch.see(1, step_of(1e6)) == {}
    lost = watch.see(2, step_of(growth))
    assert lost == {0: Lost(2, inferring=True)}
    rule, x, y = credit.rule("bp", nn.Sequential(nn.Linear(3, 3))), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    told = "diverged at step 2, first in the inference: values that grew more than 1,000,000 times"
    assert str(lost[0].error(rule, x, y)) == told


def test_states_that_are_no_numbers_are_told_as_the_inference_though_they_spoil_the_logits_too():
    watch = FiniteWatch(torch.device("cpu"), runs=2)
    both = {"inference.growth": torch.tensor([1.0, math.nan])}
    lost = watch.see(4, Step(torch.tensor([[[0.0]], [[math.nan]]]), torch.zeros(2), None, both))
    assert lost == {1: Lost(4, inferring=True)}
    rule, x, y = credit.rule("bp", nn.Sequential(nn.Linear(3, 3))), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    told = {"step": 4, "where": "the inference", "why": "values that grew more than 1,000,000 times"}
    assert lost[1].error(rule, x, y).told() == told
    # Where the forward pass alone is none, it is no matter of the inference.
    assert lost[1].error(rule, x * math.nan, y).told() == {"step": 4, "where": "the input batch"}


def test_a_replica_whose_inference_diverges_is_told_in_the_words_of_its_rule(config, monkeypatch, tmp_path):
    """At thirty passes and alpha 0 the original variant diverges (paper 3, Table 2)."""
    rule = {"alpha": 0, "beta": 0.5, "loss": "half_sse", "schedule": "fwbw", "passes": 30}
    arch = {"widths": [32, 32, 32], "init": "glorot"}
    trainer = {"epochs": 2, "precision": "float64"}
    cfgs = [
        config("dp", seed=seed, rule={**read("dp"), **rule}, arch=arch, trainer=trainer, optimizer={"lr": 0.05})
        for seed in range(2)
    ]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "loop"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pass"))
    together = train_together(cfgs, console=False)
    assert [result["status"] for result in together] == ["diverged", "diverged"]
    for one, other in zip(alone, together, strict=True):
        assert one["diverged"].keys() == other["diverged"].keys() == {"step", "where", "why"}
        assert (one["diverged"]["step"], one["diverged"]["where"]) == (
            other["diverged"]["step"],
            other["diverged"]["where"],
        )
        assert "its states" in other["diverged"]["why"] and "rule=dp_adjoint" in other["diverged"]["why"]


def test_on_a_gpu_growth_is_remembered_until_somebody_looks():
    watch = FiniteWatch(torch.device("cpu"), runs=2)
    watch._at_once = False  # as on a GPU
    fine, grown, broken = (
        Step(torch.tensor(logits), torch.zeros(2), None, {"inference.growth": torch.tensor(growth)})
        for logits, growth in (
            ([[[0.0]], [[0.0]]], [1.0, 1.0]),
            ([[[0.0]], [[0.0]]], [1.0, 2e6]),
            ([[[math.nan]], [[math.nan]]], [1.0, math.nan]),
        )
    )
    for step, outcome in enumerate([fine, grown, broken, fine], 1):
        assert watch.see(step, outcome) == {}
    assert watch.settle() == {0: Lost(3, inferring=False), 1: Lost(2, inferring=True)}


def test_a_rule_that_diverges_on_random_inputs_can_be_timed_and_chosen_for(config, monkeypatch):
    def diverges(self: Rule, x: torch.Tensor, y: torch.Tensor) -> Step:
        raise InferenceDiverged("linear 'fc1'", "states that grew 4e+09 times")

    monkeypatch.setattr(Rule, "step", diverges)
    assert choose(config("bp"), 3).speedup is not None
    monkeypatch.setattr(Rule, "functional", diverges)
    chosen = choose(config("bp"), 3)
    assert (
        not chosen.mapped
        and "on random inputs its inference diverges (first in linear 'fc1': states that grew 4e+09 times)"
        in chosen.why
    )


def test_a_diagnostic_whose_inference_diverges_ends_its_run_and_no_other(config, monkeypatch):
    from credit.diagnostics.alignment import Alignment

    calls = 0

    def seed_0_diverges(self: Alignment, *given: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise InferenceDiverged("linear 'fc1'", "states that grew 4e+09 times")
        return {}

    trainer = {"epochs": 2, "measure": ["alignment"]}
    for method in ("before", "after"):
        calls = 0
        with monkeypatch.context() as broken:
            broken.setattr(Alignment, method, seed_0_diverges)
            cfgs = [
                config("bp", seed=seed, trainer=trainer, optimizer={"lr": 0.01 * (1 + len(method))})
                for seed in range(3)
            ]
            results = train_together(cfgs, console=False)
        assert [result["status"] for result in results] == ["diverged", "complete", "complete"], method
        assert results[0]["diverged"]["why"] == "states that grew 4e+09 times"
