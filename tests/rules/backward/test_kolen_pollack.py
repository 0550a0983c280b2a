"""Feedback weights that learn: against the twin over steps of SGD, towards the weights under decay, in runs and passes."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import credit
from credit.core.errors import UserError
from credit.data.batches import Batch, Batches
from credit.rules import Mapped
from credit.rules.base import Rule
from credit.runs import run_folder
from credit.testing.battery import NETS, TRIALS, Case, attempt
from credit.training import train
from credit.training.state import checkpoint
from tests.support import nets
from tests.support.recipes import CE, dense_twin
from tests.support.small_runs import small_config

LR, DECAY = 0.3, 0.05


def made(model: nn.Module, seed: int = 0, clip: float | None = None) -> tuple[Rule, torch.optim.Optimizer]:
    rule = credit.rule("fa", model, feedback_weights="kolen_pollack", seed=seed, clip=clip)
    return rule, torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=LR, weight_decay=DECAY)


def own(rule: Rule) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in rule.named_parameters()}


def test_two_steps_of_sgd_with_decay_equal_the_twins() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    rule, optimizer = made(model)
    start = credit.rule("fa", model).buffers  # drawn as fixed feedback is
    B = {name: value.numpy().copy() for name, value in start.items()}
    assert set(own(rule)) == set(B) == {"feedback.2.weight", "feedback.4.weight"}
    for _ in range(2):
        feedback = [np.zeros((11, 7)), B["feedback.2.weight"], B["feedback.4.weight"]]
        before = nets.parameters(model)
        wanted = dense_twin(model, "tanh", x, y, CE, feedback=feedback)
        rule.step(x, y)
        optimizer.step()
        for name, value in nets.parameters(model).items():
            expected = before[name] + LR * (wanted[name] - DECAY * before[name])
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-13)
        for layer in ("2", "4"):
            name = f"feedback.{layer}.weight"
            B[name] = B[name] + LR * (wanted[f"{layer}.weight"] - DECAY * B[name])
            np.testing.assert_allclose(own(rule)[name].numpy(), B[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_feedback_comes_to_the_weights_as_fast_as_both_decay(decay: float, clip: float | None) -> None:
    model = nets.Residual("relu", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    rule, optimizer = made(model, clip=clip)
    optimizer.param_groups[0]["weight_decay"] = decay
    weights = dict(model.named_parameters())
    gaps = {name: B - weights[name.removeprefix("feedback.")].detach() for name, B in own(rule).items()}
    assert set(gaps) == {f"feedback.{name}.weight" for name in ("block", "last", "head")}
    for _ in range(20):
        rule.step(x, y)
        optimizer.step()
    for name, B in own(rule).items():
        gap = B - weights[name.removeprefix("feedback.")].detach()
        torch.testing.assert_close(gap, gaps[name] * (1 - LR * decay) ** 20, rtol=1e-9, atol=1e-12)


def test_feedback_of_a_frozen_weight_stands_still_and_the_first_layer_gets_one_for_the_input() -> None:
    model = nets.mlp("tanh")
    model.get_parameter("2.weight").requires_grad_(False)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("fa", model, feedback_weights="kolen_pollack")
    rule.keep_input_signal = True
    held = dict(rule.named_parameters())
    assert set(held) == {f"feedback.{at}.weight" for at in (0, 2, 4)} and len(rule.transforms) == 1
    assert rule.step(x, y).input_signal is not None
    assert held["feedback.2.weight"].grad is None and not held["feedback.2.weight"].requires_grad
    assert held["feedback.4.weight"].grad is not model.get_parameter("4.weight").grad
    torch.testing.assert_close(held["feedback.4.weight"].grad, model.get_parameter("4.weight").grad)


def test_a_name_that_the_model_has_already_is_refused() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self[2](self[1](torch.relu(self[0](x))))
            return out

    model = Own(nn.Linear(5, 6), nn.Linear(6, 3))
    model.add_module("feedback", nn.Sequential(nn.Identity(), nn.Linear(3, 3)))
    with pytest.raises(
        UserError, match=r"Own has a parameter 'feedback.1.weight', .* give the module 'feedback' another"
    ):
        credit.rule("fa", model, feedback_weights="kolen_pollack")


def test_several_in_one_pass_move_as_each_would_alone() -> None:
    batches = [nets.batch(nets.mlp("relu", seed=seed), (7,)) for seed in (1, 2)]
    alone = []
    for seed, (x, y) in zip((1, 2), batches, strict=True):
        model = nets.mlp("relu", seed=seed)
        rule, optimizer = made(model, seed, clip=0.02)
        for _ in range(3):
            rule.step(x, y)
            optimizer.step()
        alone.append(own(rule))
    rules = [made(nets.mlp("relu", seed=seed), seed, clip=0.02)[0] for seed in (1, 2)]
    together = Mapped(rules)
    optimizer = torch.optim.SGD(together.parameters(), lr=LR, weight_decay=DECAY)
    for _ in range(3):
        together.step(torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]))
        optimizer.step()
    for rule, expected in zip(rules, alone, strict=True):
        torch.testing.assert_close(own(rule), expected, rtol=1e-9, atol=1e-12)


def test_a_run_trains_them_and_resumes_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sections = {
        "rule": {"feedback_weights": "kolen_pollack"},
        "optimizer": {"weight_decay": 0.01},
        "arch": {"widths": [16, 16]},
    }
    cfg = small_config("fa", **sections)
    monkeypatch.setenv("CREDIT_RUNS", f"{tmp_path}/whole")
    whole = train(cfg, console=False)
    state = checkpoint.latest(run_folder(cfg), print)
    assert state is not None
    kept = state["rule"]["parameters"]
    monkeypatch.setenv("CREDIT_RUNS", f"{tmp_path}/pieces")
    at, stops = Batches.at, [3]

    def interrupted_at(self: Batches, step: int) -> Batch:
        if step in stops:
            stops.remove(step)
            os.kill(os.getpid(), signal.SIGINT)
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, console=False)
    assert train(cfg, console=False)["weights_sha256"] == whole["weights_sha256"]
    again = checkpoint.latest(run_folder(cfg), print)
    assert again is not None and len(kept) == 2
    for name, value in again["rule"]["parameters"].items():
        assert torch.equal(value, kept[name]) and value.std() > 0


SLOW = [("compiled", "conv+bn"), ("learns", "conv+bn")]


@pytest.mark.parametrize(
    ("trial", "net"),
    [
        pytest.param(trial, net, marks=[pytest.mark.slow] if (trial, net) in SLOW else [])
        for trial in TRIALS
        for net in NETS
    ],
)
def test_the_battery(trial: str, net: str) -> None:
    assert attempt(trial, Case("fa", net, {"feedback_weights": "kolen_pollack"})) == ("pass", "")
