"""Target propagation in training: optimizers, resumed runs, replicas, feedback's own steps, odd networks."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.data.batches import Batch, Batches
from credit.engine.draws import Draws
from credit.rules import Mapped
from credit.rules.base import Rule
from credit.rules.targets.targeted import TargetedRule
from credit.runs import run_folder
from credit.training import train
from credit.training.optimization import build_optimizer, set_learning_rate
from credit.training.state import checkpoint
from tests.support import nets
from tests.support.small_runs import small_config

FEEDBACK = ["feedback.1.3.weight", "feedback.1.3.bias"]


def own(rule: Rule) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in rule.named_parameters()}


def three(seed: int = 1) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Two hidden layers and a batch for them, in float64."""
    model = nets.mlp("tanh", seed=seed)
    return model, *nets.batch(model, (7,))


# ------------------------------------------------------------ learning


def digits(name: str, steps: int, activation: str = "relu", **sections: Any) -> float:
    """Test accuracy of a short run on digits, with the optimizer that the YAMLs of both rules bring."""
    cfg = small_config(
        name,
        arch={"widths": [64, 64], "activation": activation},
        data={"limit_train": None, "batch_size": 32},
        trainer={"epochs": None, "steps": steps},
        optimizer={"kind": "adam", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8},
        **sections,
    )
    return float(train(cfg, console=False)["last"]["test_top1"])


@pytest.mark.parametrize(("name", "least"), [("dtp", 0.92), pytest.param("tp", 0.9, marks=pytest.mark.slow)])
def test_the_defaults_learn_digits(name: str, least: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    assert digits(name, 500) > least


def test_a_network_that_sends_signs_learns() -> None:
    """Discrete values between smooth layers (Lee et al. 2015, section 3.2): derivatives stop, targets do not."""
    torch.manual_seed(0)
    sign = nets.ACTIVATIONS["sign"]
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), sign(), nn.Linear(32, 32), nn.Tanh(), sign(), nn.Linear(32, 4))
    rule = credit.rule("dtp", model, first_target="logits", example=torch.zeros(2, 8))
    assert set(own(rule)) == {f"feedback.{pair}.{part}" for pair in ("1.4", "4.output") for part in ("weight", "bias")}
    source = torch.Generator().manual_seed(1)
    teacher = torch.randn(8, 4, generator=source)
    optimizer = torch.optim.Adam([*model.parameters(), *rule.parameters()], lr=3e-3)
    first = [p.detach().clone() for p in model[0].parameters()]
    for _ in range(300):
        x = torch.randn(64, 8, generator=source)
        rule.step(x, (x @ teacher).argmax(1))
        optimizer.step()
    x = torch.randn(500, 8, generator=source)
    assert float((model(x).argmax(1) == (x @ teacher).argmax(1)).double().mean()) > 0.7  # 0.25 by chance
    assert all(
        float((now.detach() - then).abs().max()) > 0.01 for now, then in zip(model[0].parameters(), first, strict=True)
    )


# ------------------------------------------------------------ feedback's own steps


@pytest.mark.parametrize("steps", [1, 4])
def test_sgd_with_the_rate_makes_exactly_the_steps(steps: int) -> None:
    """Each on the gradient at where the last one led to, with the noise drawn for it."""
    model, x, y = three()
    rate = 0.03
    rule = credit.rule("dtp", model, example=x, feedback_steps=steps, feedback_lr=rate, noise_std=0.5)
    optimizer = torch.optim.SGD([{"params": list(rule.parameters()), **rule.feedback_settings}], lr=77.0)
    V, c = (value.requires_grad_() for value in own(rule).values())
    low, draws = model[:2](x).detach(), Draws(0, 0, x.device)
    for at in range(1, steps + 1):
        name = f"feedback.1.3.noise{at if at > 1 else ''}"
        moved = low + 0.5 * draws.get(name, "normal", tuple(low.shape), low.dtype)
        again = torch.tanh(model[2:4](moved).detach() @ V.T + c)
        loss = (again - moved).square().sum() / len(x)
        V, c = (
            (p - rate * g).detach().requires_grad_()
            for p, g in zip((V, c), torch.autograd.grad(loss, [V, c]), strict=True)
        )
    rule.step(x, y)
    optimizer.step()
    torch.testing.assert_close(list(own(rule).values()), [V.detach(), c.detach()], rtol=1e-10, atol=1e-12)


def test_the_own_learning_rate_follows_the_schedule_in_its_proportion() -> None:
    model, x, _ = three()
    rule = credit.rule("dtp", model, example=x, feedback_lr=0.004)
    cfg = small_config("dtp", optimizer={"kind": "adam", "lr": 0.001}).optimizer
    optimizer = build_optimizer(cfg, model.parameters(), rule.parameters(), rule.feedback_settings)
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.004]
    set_learning_rate(optimizer, 0.0005)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0005, 0.002]
    assert credit.rule("dtp", model, example=x).feedback_settings == {}


# ------------------------------------------------------------ runs, states, replicas


def test_a_run_trains_feedback_and_resumes_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {"rule": {"feedback_lr": 0.002}, "arch": {"widths": [16, 16]}, "optimizer": {"kind": "adam", "lr": 0.001}}
    cfg = small_config("dtp", **told)
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
    assert again is not None and set(kept) == {"feedback.act1.act2.weight", "feedback.act1.act2.bias"}
    for name, value in again["rule"]["parameters"].items():
        assert torch.equal(value, kept[name]) and value.std() > 0


def test_a_state_loaded_before_any_shape_is_known_is_taken_up() -> None:
    model, x, y = three()
    rule = credit.rule("dtp", model, seed=3)
    rule.step(x, y)
    held = own(rule)
    assert list(held) == FEEDBACK
    other = credit.rule("dtp", model, seed=4)
    other.load_state_dict(rule.state_dict())
    other.step(x, y)
    assert all(torch.equal(value, held[name]) for name, value in own(other).items())


def test_replicas_in_one_pass_move_as_each_would_alone() -> None:
    told: dict[str, Any] = {
        "feedback_steps": 2,
        "feedback_lr": 0.01,
        "first_target": "logits",
        "feedback_loss": "l_drl",
    }
    batches = [three(seed)[1:] for seed in (1, 2)]
    alone = []
    for seed, (x, y) in zip((1, 2), batches, strict=True):
        model = three(seed)[0]
        rule = credit.rule("dtp", model, seed=seed, example=x, **told)
        optimizer = torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=0.05)
        for _ in range(3):
            rule.step(x, y)
            optimizer.step()
        alone.append(own(rule) | dict(model.named_parameters()))
    models = [three(seed)[0] for seed in (1, 2)]
    rules = [
        credit.rule("dtp", model, seed=seed, example=batches[0][0], **told)
        for seed, model in zip((1, 2), models, strict=True)
    ]
    together = Mapped(rules)
    optimizer = torch.optim.SGD(together.parameters(), lr=0.05)
    for _ in range(3):
        together.step(torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]))
        optimizer.step()
    for rule, model, expected in zip(rules, models, alone, strict=True):
        torch.testing.assert_close(own(rule) | dict(model.named_parameters()), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("told", [{}, {"first_target": "logits", "feedback_loss": "l_drl"}])
def test_bfloat16_comes_close_and_leaves_updates_in_full_precision(told: dict[str, Any]) -> None:
    both = []
    for precision in ("float32", "bf16"):
        model = nets.Residual("relu", norm=True).float()
        x, y = nets.batch(model.double(), (2, 5, 7), n=16)
        rule = credit.rule("dtp", model.float(), precision=precision, **told)
        rule.step(x.float(), y)
        both.append({name: p.grad for name, p in [*model.named_parameters(), *rule.named_parameters()]})
    for name, update in both[0].items():
        other = both[1][name]
        assert update is not None and other is not None and other.dtype == torch.float32
        if update.dim() > 1:
            assert float(torch.cosine_similarity(update.flatten(), other.flatten(), 0)) > 0.98, name


# ------------------------------------------------------------ networks


class Tied(nn.Module):
    """Three uses of one matrix, one of them in the head."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(2)
        self.first = nn.Linear(6, 6).double()
        self.second = self.first if tied else nn.Linear(6, 6).double()
        self.last = self.first if tied else nn.Linear(6, 6).double()
        value = torch.randn(6, 6, generator=source, dtype=torch.float64)
        with torch.no_grad():
            for layer in (self.first, self.second, self.last):
                layer.weight.copy_(value)
                layer.bias.zero_()
        self.act1, self.act2 = nn.Tanh(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.act2(self.second(self.act1(self.first(x)))))
        return out


def test_a_parameter_of_several_layers_and_the_head_gets_the_sum() -> None:
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = torch.arange(9) % 6
    one, apart = (credit.rule("dtp", Tied(tied)).updates(x, y).updates for tied in (True, False))
    for part in ("weight", "bias"):
        expected = apart[f"first.{part}"] + apart[f"second.{part}"] + apart[f"last.{part}"]
        torch.testing.assert_close(one[f"first.{part}"], expected, rtol=1e-10, atol=1e-12)


def test_frozen_layers_have_no_targets() -> None:
    model = nets.mlp("tanh", (7, 9, 8, 6, 5))
    model[0].requires_grad_(False)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("dtp", model)
    assert isinstance(rule, TargetedRule)
    rule.keep_errors = True
    told = rule.step(x, y)
    assert told.targets is not None and list(told.targets) == ["3", "5"] and model[0].weight.grad is None
    assert set(own(rule)) == {"feedback.3.5.weight", "feedback.3.5.bias"}


def test_an_op_of_local_autograd_is_evaluated_again() -> None:
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act1, self.act2 = nn.Linear(6, 8), nn.Tanh(), nn.Tanh()
            self.b, self.c = nn.Linear(8, 7), nn.Linear(7, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.special.erf(self.b(self.act1(self.a(x))))
            out: Tensor = self.c(self.act2(h))
            return out

    torch.manual_seed(0)
    model = Attended().double()
    x, y = torch.randn(6, 6, dtype=torch.float64), torch.arange(6) % 5
    rule = credit.rule("dtp", model, local_autograd=True, noise_std=0.0, example=x)
    made = rule.updates(x, y).updates
    V, c = (value.requires_grad_() for value in own(rule).values())
    z = model.act1(model.a(x)).detach()
    again = torch.tanh(model.act2(torch.special.erf(model.b(z))).detach() @ V.T + c)
    (again - z).square().sum().div(len(x)).backward()
    for value, name in ((V, "weight"), (c, "bias")):
        assert value.grad is not None
        torch.testing.assert_close(made[f"feedback.act1.act2.{name}"], value.grad, rtol=1e-10, atol=1e-12)
