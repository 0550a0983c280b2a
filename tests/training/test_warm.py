"""A warm start: another rule's first steps, then the run's own on the same network and optimizer, whatever interrupts it."""

import os
import signal
from typing import Any

import pytest
import torch

from credit import register_rule
from credit.core.config import check
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.data import load
from credit.data.batches import Batches
from credit.rules.api import build, read
from credit.rules.backward.rule import BackwardRule
from credit.runs import read_metrics, run_folder, run_name
from credit.runs.identity import decisive
from credit.sweeps.choose import choose
from credit.training import run_recorder, train, train_together
from credit.training.monitors.dead import DeadLayers
from credit.training.optimization import build_optimizer, set_learning_rate
from credit.training.prepare import prepare
from credit.training.schedules import learning_rate
from credit.training.state.run_state import begin, weights_digest

WARM = {"warm_rule": "bp", "warm_steps": 6}
DEMANDING = {
    "arch": {"widths": [16, 16], "dropout": 0.2},
    "optimizer": {"kind": "adam", "lr": 0.003},
    "trainer": WARM | {"ema": 0.9},
}


def rows(cfg) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(run_folder(cfg))]


def test_two_rules_in_turn_on_one_optimizer(config):
    cfg = config("fa", **DEMANDING)
    result = train(cfg, console=False)
    prepared = prepare(config("fa", **{**DEMANDING, "trainer": {}}))
    run = begin(prepared, load(cfg.data, cfg.noise, seed=cfg.seed, device=prepared.device))
    first = build(read("bp"), run.model, seed=cfg.seed)
    optimizer = build_optimizer(cfg.optimizer, run.model.parameters(), ())
    for step in range(run.total_steps):
        batch, rule = run.batches.at(step), first if step < 6 else run.rule
        rule.position = step
        rule.step(batch.x, batch.y)
        set_learning_rate(
            optimizer, learning_rate(cfg.schedule, cfg.optimizer.lr, step, run.total_steps, run.steps_per_epoch)
        )
        optimizer.step()
    assert result["weights_sha256"] == weights_digest(run.model)
    assert result["weights_sha256"] != train(prepared.cfg, console=False)["weights_sha256"]
    assert "warm start: rule=bp makes the first 6 steps" in result["notes"]


def test_interrupted_before_at_and_after_the_turn_it_is_bit_identical(config, monkeypatch, tmp_path):
    cfg = config("fa", **DEMANDING)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "whole"))
    whole, whole_rows = train(cfg, console=False), rows(cfg)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "pieces"))
    at, stops = Batches.at, [4, 5, 6]  # stopped after 5, 6 (the turn) and 7 steps

    def interrupted_at(self: Batches, step: int):
        if step in stops:
            stops.remove(step)
            os.kill(os.getpid(), signal.SIGINT)
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    for steps_done in (5, 6, 7):
        with pytest.raises(KeyboardInterrupt):
            train(cfg, console=False)
        assert (run_folder(cfg) / "checkpoints" / f"step-{steps_done:09d}.ckpt").exists()
    pieces = train(cfg, console=False)
    assert pieces["weights_sha256"] == whole["weights_sha256"] and rows(cfg) == whole_rows


@pytest.mark.parametrize("warm_steps", [5, 6])
def test_a_pass_turns_where_each_run_would(config, monkeypatch, tmp_path, warm_steps):
    changes = {**DEMANDING, "trainer": {"warm_rule": "bp", "warm_steps": warm_steps, "precision": "float64"}}
    cfgs = [config("fa", seed=seed, **changes) for seed in (0, 1, 2)]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "alone"))
    alone = [train(cfg, console=False) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "together"))
    for one, other in zip(alone, train_together(cfgs, console=False), strict=True):
        assert one["last"]["train_loss"] == pytest.approx(other["last"]["train_loss"], rel=1e-9)
        assert one["last"]["test_loss"] == pytest.approx(other["last"]["test_loss"], rel=1e-9)
        assert one["notes"] == other["notes"]


def test_a_pass_is_chosen_as_without(config):
    cfg = config("lisp_margin", trainer=WARM | {"replicate": "map"})
    assert choose(cfg, 3).mapped


def test_dead_layers_are_looked_for_in_the_rules_own_first_steps(config, monkeypatch):
    seen = []

    class Spy(DeadLayers):
        def see(self, step, outcome):
            if self.looks(step):
                seen.append(step)
            super().see(step, outcome)

    monkeypatch.setattr(run_recorder, "DeadLayers", Spy)
    train(config("lisp_margin", trainer=WARM), console=False)
    assert seen == [6, 7, 8]


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"warm_rule": "bp"}, r"trainer.warm_rule=bp does not say for how many steps: .*trainer.warm_steps=100"),
        ({"warm_steps": 3}, r"trainer.warm_steps=3 does not say which rule makes them"),
        ({"warm_rule": "bp", "warm_steps": 0}, r"trainer.warm_steps=0 is outside \[1, inf\)"),
        ({"warm_rule": "bqq", "warm_steps": 3}, r"trainer.warm_rule=bqq: there is no rule of this name; .*bp"),
        (
            {"warm_rule": "bp", "warm_steps": 10},
            r"trainer.warm_steps=10 .* leave none of the run's 10 steps to rule=fa",
        ),
        ({"warm_rule": "bp", "warm_steps": 11}, r"leave none of the run's 10 steps"),
        ({"warm_rule": "fa", "warm_steps": 3}, r"trainer.warm_rule=fa is the run's own rule.*trainer.warm_rule=bp"),
    ],
)
def test_refuses_nonsense(config, trainer, words):
    with pytest.raises(UserError, match=words):
        prepare(config("fa", trainer=trainer))


def test_a_rule_of_another_name_with_the_same_settings_is_the_runs_own(config):
    trainer = {"warm_rule": "fa", "warm_steps": 3}
    called = config("fa", rule={"name": "mine"}, trainer=trainer)
    with pytest.raises(UserError, match=r"warm_rule=fa is the run's own rule \(rule=mine has the same settings\)"):
        prepare(called)
    bare = config("bp", trainer={"warm_rule": "bp", "warm_steps": 3})
    bare = check({**bare.as_dict(), "rule": {"kind": "sweep", "name": "bp"}})  # the rest by default
    with pytest.raises(UserError, match="is the run's own rule, .*trainer.warm_rule=lfp_epsilon"):
        prepare(bare)
    assert prepare(config("bp", rule={"name": "fa"}, trainer=trainer)).warm is not None  # a name alone says nothing


def warm_timm(config, warm, **arch):
    cfg = config("bp", rule={"local_autograd": True}, trainer={"warm_rule": warm, "warm_steps": 3})
    return check({**cfg.as_dict(), "arch": {"kind": "timm", **arch}})


def test_refuses_a_warm_rule_that_cannot_take_the_network(config):
    with pytest.raises(UserError, match="the warm start, trainer.warm_rule=lisp_margin: rule.gate=responsive .*gelu"):
        prepare(warm_timm(config, "lisp_margin", name="test_vit", patch_size=4))


def test_local_autograd_is_the_networks_need(config):
    warm = prepare(warm_timm(config, "untied_constant", name="test_efficientnet_evos")).warm
    assert warm is not None and any("local autograd" in note for note in warm.notes)


def test_from_the_command_line():
    cfg = compose(["rule=fa", "trainer.warm_rule=bp", "trainer.warm_steps=100"])
    assert (cfg.trainer.warm_rule, cfg.trainer.warm_steps) == ("bp", 100)
    with pytest.raises(UserError, match="trainer.warm_rule=fa is the run's own rule"):
        prepare(compose(["rule=fa", "trainer.warm_rule=fa", "trainer.warm_steps=100"]))


def test_a_warm_start_is_part_of_what_decides_a_run(config, monkeypatch, tmp_path):
    plain, warm = config("fa"), config("fa", trainer=WARM)
    assert "warm_rule" not in decisive(plain)["trainer"] and run_name(plain) != run_name(warm)
    assert decisive(warm)["trainer"]["warm_rule"] == {"kind": "sweep"}  # every option at its default
    assert (
        decisive(config("fa", trainer={**WARM, "warm_rule": "bp_hinge"}))["trainer"]["warm_rule"]["loss"]
        == "worst_violation"
    )
    assert check(warm.as_dict()) == warm
    longer = config("fa", trainer=WARM | {"warm_steps": 7})
    assert run_name(longer) != run_name(warm)
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "bp.yaml").write_text("kind: sweep\nloss: mse\n")
    monkeypatch.setattr("credit.core.config.folders.user_folders", lambda: (tmp_path,))
    assert run_name(warm) != run_name(config("fa", trainer=WARM | {"warm_rule": "dfa"}))
    assert decisive(warm)["trainer"]["warm_rule"]["loss"] == "mse"


class Learning(BackwardRule):
    """Backprop with a parameter of its own."""

    def setup(self):
        super().setup()
        self._own = torch.nn.Parameter(torch.ones(1))

    def named_parameters(self):
        yield "own", self._own


def test_rules_with_parameters_of_their_own(config, registry_as_it_was):
    register_rule("learning")(Learning)
    cfg = config("fa", trainer={"warm_rule": "learning", "warm_steps": 3})
    with pytest.raises(UserError, match="trainer.warm_rule=learning: this rule has feedback parameters, which rule=fa"):
        prepare(cfg)
    cfg = config("bp", rule={"kind": "learning", "name": "learning"}, trainer=WARM | {"replicate": "auto"})
    assert train(cfg, console=False)["steps"] == 10
    assert "rule=learning has feedback parameters" in choose(cfg, 3).why
    with pytest.raises(UserError, match="train_together: rule=learning has feedback parameters"):
        train_together(
            [cfg, config("bp", rule={"kind": "learning", "name": "learning"}, trainer=WARM, seed=1)], console=False
        )
