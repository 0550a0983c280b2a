"""Layers that learn nothing are reported in a run's first steps, by layer and gate."""

from typing import Any

import pytest
import torch
from torch import nn

import credit
from credit.data import load
from credit.runs import read_result, run_folder
from credit.runs.screen import Screen
from credit.training import train
from credit.training.monitors.dead import STEPS, DeadLayers
from credit.training.prepare import prepare
from credit.training.state import checkpoint
from credit.training.state.run_state import begin

pytestmark = pytest.mark.filterwarnings("error")


def looked_at(
    model: nn.Module, rate: float = 0.1, steps: int = STEPS + 2, name: str = "bp", **options: Any
) -> list[str]:
    """Train some steps with the check in its place and return the rule's notes."""
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 6, generator=source), torch.arange(20) % 4
    rule = credit.rule(name, model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    dead = DeadLayers(rule, Screen(steps, show=False))
    for step in range(steps):
        outcome = rule.step(x, y)
        dead.see(step, outcome)
        optimizer.step()
    return list(rule.notes)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Sigmoid(), nn.Linear(9, 7), nn.Sigmoid(), nn.Linear(7, 4))


def test_a_gate_that_is_zero_on_a_layer_is_reported_with_layer_and_gate(capsys: pytest.CaptureFixture[str]) -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("2.bias").fill_(40.0)  # every unit's z is far outside the rectangle
    (note,) = looked_at(model, name="untied_rectangle")
    assert "the updates of 2.weight, 0.weight were 0 everywhere" in note
    assert "none passes rule.gate=untied_rectangle (rule 'untied_rectangle') above '2'" in note
    assert capsys.readouterr().err == f"warning: {note}\n"


def test_a_layer_below_a_dead_one_alone_is_named_alone() -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(-40.0)
    (note,) = looked_at(model, name="jam_rectangle")
    assert "the updates of 0.weight were 0" in note and "above '0'" in note


def test_what_lives_is_not_reported() -> None:
    for name in ("bp", "untied_rectangle", "jam_positive", "lisp_margin", "dfa"):
        assert looked_at(net(), name=name) == []


def test_a_zero_output_layer_lets_signals_through_after_one_step() -> None:
    model = net()
    nn.init.zeros_(model.get_parameter("4.weight"))
    assert looked_at(model) == []
    nn.init.zeros_(model.get_parameter("4.weight"))
    (note,) = looked_at(model, rate=0.0)  # for ever
    assert "the updates of 2.weight, 0.weight were 0" in note


def test_no_output_signal_is_nobodys_fault() -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("4.bias")[0] = 99.0
    rule = credit.rule("lisp_margin", model)
    dead = DeadLayers(rule, Screen(STEPS, show=False))
    for step in range(STEPS):
        dead.see(step, rule.step(torch.randn(20, 6), torch.zeros(20, dtype=torch.int64)))
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None) and rule.notes == []


def test_a_layer_below_dead_units_is_reported_of_a_rule_without_gates() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(-40.0)
    (note,) = looked_at(model, name="lfp_epsilon")
    assert "the updates of 2.weight, 0.weight were 0" in note and "none passes rule 'lfp_epsilon' above '2'" in note


def test_feedback_that_is_zero_for_every_sample_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    model = net()
    nn.init.zeros_(model.get_parameter("4.weight"))
    nn.init.zeros_(model.get_parameter("4.bias"))
    (_, note) = looked_at(model, name="lfp_zpm", feedback="reward")  # which has the sign of logits that are 0
    assert "rule.feedback=reward (rule 'lfp_zpm') was 0 for every sample of the first steps" in note
    assert capsys.readouterr().err == f"warning: {note}\n"
    assert looked_at(net(), name="lfp_zpm", feedback="reward") == []


def test_a_run_reports_it_and_its_result_keeps_it(config, capsys):
    cfg = config("untied_constant", rule={"height": 0.0}, trainer={"epochs": 1})
    result = train(cfg)
    (note,) = result["notes"]
    assert "the updates of fc1.weight were 0" in note and "rule.gate=untied_constant" in note
    assert f"warning: {note}" in capsys.readouterr().err
    written = read_result(run_folder(cfg))
    assert written is not None and written["notes"] == [note]


def test_a_resumed_run_keeps_the_note(config):
    cfg = config("untied_constant", rule={"height": 0.0}, trainer={"epochs": 1})
    (note,) = train(cfg, console=False)["notes"]
    state = checkpoint.latest(run_folder(cfg), lambda text: pytest.fail(text))
    assert state is not None
    data = load(cfg.data, cfg.noise, seed=cfg.seed, device=torch.device("cpu"))
    again = begin(prepare(cfg), data)
    assert again.rule.notes == []
    again.restore(state, run_folder(cfg))
    assert again.rule.notes == [note]
