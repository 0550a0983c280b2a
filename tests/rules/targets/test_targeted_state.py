"""Rules of local targets: what they keep between steps, tell while watched, and do where two activations share an input."""

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.replicas import Mapped
from credit.rules.targets.targeted import TargetedRule


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))


def _batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 5, dtype=dtype), torch.arange(8) % 3


@pytest.mark.parametrize("name", ["rec_lra", "dtp"])
def test_a_foreign_state_is_refused_before_shapes_are_known(name: str) -> None:
    x, y = _batch()
    rule = credit.rule(name, _net())
    rule.load_state_dict({"parameters": {"nonsense": torch.zeros(3)}, "buffers": {}, "position": 0})
    with pytest.raises(UserError, match="belongs to another rule, error connectivity or network: it has \\['nonsense'"):
        rule.step(x, y)


def test_a_state_of_another_wiring_is_refused() -> None:
    x, y = _batch()
    chain = credit.rule("lra_e", _net(), example=x)
    rule = credit.rule("rec_lra", _net(), skip_gap=1)
    rule.load_state_dict(chain.state_dict())
    with pytest.raises(UserError, match="belongs to another rule, error connectivity or network"):
        rule.step(x, y)


@pytest.mark.parametrize("name", ["rec_lra", "dtp"])
def test_own_parameters_follow_the_model_to_another_type(name: str) -> None:
    x, _ = _batch()
    model = _net()
    rule = credit.rule(name, model, example=x)
    before = dict(rule.named_parameters())
    model.double()
    rule.step(*_batch(torch.float64))
    for key, value in rule.named_parameters():
        assert value is before[key] and value.dtype == torch.float64 and value.grad is not None


@pytest.mark.parametrize("name", ["rec_lra", "dtp"])
def test_watched_steps_tell_the_signal_at_every_layer(name: str) -> None:
    rule = credit.rule(name, _net(), example=_batch()[0])
    rule.watch = True
    told = rule.step(*_batch()).signals
    assert {"0", "2", "4"} <= set(told) and all(float(told[key]) > 0 for key in ("0", "2", "4"))


def test_two_activations_of_one_input_add_their_errors() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.a, self.b, self.head = nn.Linear(4, 6), nn.Tanh(), nn.Sigmoid(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc1(x)
            out: Tensor = self.head(self.a(h) + self.b(h))
            return out

    torch.manual_seed(0)
    model = Gated().double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    for workers in (1, 2):
        rule = credit.rule("rec_lra", model, example=x, skip_gap=1, workers=workers)
        assert isinstance(rule, TargetedRule)
        rule.keep_errors = True
        errors = rule.step(x, y).errors
        assert errors is not None and model.fc1.weight.grad is not None
        torch.testing.assert_close(model.fc1.weight.grad, (errors["a"] + errors["b"]).t() @ x / 6)


def test_growth_is_told_as_it_is() -> None:
    rule = credit.rule("rec_lra", _net(), example=_batch()[0], error_update="paper")
    growth = rule.step(*_batch()).growth
    assert growth is not None and 0.5 < float(growth) < 2


def test_replicas_tell_no_errors() -> None:
    rules = [credit.rule("rec_lra", _net(), example=_batch()[0]) for _ in range(2)]
    assert isinstance(rules[1], TargetedRule)
    rules[1].keep_errors = True
    with pytest.raises(UserError, match="keeps its errors, which a mapped step does not return"):
        Mapped(rules)


def test_targets_of_deep_networks_survive_half_precision() -> None:
    """G(z) - G(t) of near values, in bfloat16, against float64: the lowest layers' updates keep their direction."""
    torch.manual_seed(0)
    layers = [part for _ in range(6) for part in (nn.Linear(24, 24), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(24, 4))
    x, y = torch.randn(32, 24), torch.arange(32) % 4
    credit.rule("dtp", model, example=x, precision="bf16", noise_std=0.0).step(x, y)
    found = {name: p.grad for name, p in model.named_parameters()}
    model.double()
    credit.rule("dtp", model, example=x.double(), precision="float64", noise_std=0.0).step(x.double(), y)
    for name, p in model.named_parameters():
        grad = found[name]
        assert grad is not None and p.grad is not None
        cosine = torch.cosine_similarity(grad.double().flatten(), p.grad.flatten(), dim=0)
        assert cosine > 0.97, name
