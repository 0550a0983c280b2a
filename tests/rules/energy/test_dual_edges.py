"""Dual and equilibrium propagation where networks are small, frozen or bent, and what they refuse or say there."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.diagnostics.alignment import alignment
from tests.support import nets


def batch(shape: tuple[int, ...] = (6,), count: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *shape, generator=source, dtype=torch.float64)
    return x, torch.randint(0, nets.CLASSES, (count,), generator=source)


def net(*layers: nn.Module) -> Any:
    torch.manual_seed(3)
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()
    return nn.Sequential(*layers).double()


def backprop(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> dict[str, Tensor]:
    return credit.rule("bp", model, precision="float64", **options).updates(x, y).updates


@pytest.mark.parametrize("name", ["dp", "dp_adjoint", "dp_damped", "lpom"])
def test_a_network_without_hidden_states_learns_by_its_output_alone(name: str) -> None:
    model, (x, y) = net(nn.Flatten(), nn.Linear(6, nets.CLASSES)), batch()
    found = credit.rule(name, model, precision="float64", passes=3).updates(x, y).updates
    for key, update in backprop(model, x, y).items():
        torch.testing.assert_close(found[key], update)


def test_all_frozen_but_the_head() -> None:
    model, (x, y) = net(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, nets.CLASSES)), batch()
    model.get_submodule("0").requires_grad_(False)
    found = credit.rule("dp_damped", model, precision="float64").updates(x, y).updates
    for key, update in backprop(model, x, y).items():
        torch.testing.assert_close(found[key], update)


def test_lpom_tells_the_input_signal_above_a_frozen_layer() -> None:
    model, (x, y) = net(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, nets.CLASSES)), batch()
    model.get_submodule("0").requires_grad_(False)
    told = []
    both: tuple[tuple[str, dict[str, Any]], ...] = ("bp", {}), ("lpom", {"beta": 1e-7, "passes": 40})
    for name, options in both:
        rule = credit.rule(name, model, precision="float64", **options)
        rule.keep_input_signal = True
        told.append(rule.step(x, y).input_signal)
    torch.testing.assert_close(told[1], told[0], rtol=1e-3, atol=1e-6)


class TwoBends(nn.Module):
    """Two activations of one sum, each with weights of its own above."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.hidden, self.head = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(torch.relu(self.stem(x)))
        out: Tensor = self.head(torch.relu(h) + nn.functional.hardtanh(h))
        return out


def test_damping_counts_every_child_of_a_sum() -> None:
    """Both activations answer the state below: the damping is the sum of the two, as large as twice one."""
    model, (x, y) = TwoBends().double(), batch()
    rule: Any = credit.rule("dp_damped", model, precision="float64", power_iterations=400)
    dyads = rule._infer(x, y, keep=False)
    weight = model.hidden.weight.detach()
    expected = 2 * torch.linalg.matrix_norm(weight, 2) ** 2
    torch.testing.assert_close(dyads._damping[1].squeeze(), expected, rtol=1e-6, atol=0)


def test_the_reference_of_frozen_norms_is_frozen_too() -> None:
    model = net(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, nets.CLASSES))
    with torch.no_grad():
        model.get_submodule("1").running_mean.add_(0.3)
    rule = credit.rule("dp_adjoint", model, precision="float64", beta=1e-7, batchnorm="frozen")
    before = model.get_submodule("1").running_mean.clone()
    found = alignment(rule, *batch((2, 6, 6)))
    assert max(layer["angle"] for layer in found.values()) < 1e-3
    rule.step(*batch((2, 6, 6)))
    assert bool(torch.equal(before, model.get_submodule("1").running_mean))


@pytest.mark.parametrize("name", ["dp", "eqprop"])
@pytest.mark.parametrize("bent", [nn.LeakyReLU(-0.5), nn.ELU(-0.5)])
def test_an_activation_that_falls_below_zero_is_refused(name: str, bent: nn.Module) -> None:
    model = net(nn.Conv2d(2, 3, 3), bent, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, nets.CLASSES))
    with pytest.raises(UserError, match="falls somewhere"):
        credit.rule(name, model)


class Gain(nn.Module):
    """A learnt factor before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.gain = nn.Linear(6, 5), nn.Linear(5, nets.CLASSES), nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.first(x)) * self.gain)
        return out


def test_a_gain_that_learns_is_refused_and_a_frozen_one_is_not() -> None:
    model, (x, y) = Gain().double(), batch()
    with pytest.raises(UserError, match="multiplies by a parameter that learns.*freeze it"):
        credit.rule("dp", model)
    model.gain.requires_grad_(False).mul_(1.7)
    found = credit.rule("dp_adjoint", model, precision="float64", beta=1e-7).updates(x, y).updates
    for key, update in backprop(model, x, y).items():
        torch.testing.assert_close(found[key], update, rtol=1e-4, atol=1e-7)


def test_a_norm_without_running_statistics_cannot_be_frozen() -> None:
    model = net(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    with pytest.raises(UserError, match="keeps no running statistics"):
        credit.rule("dp", model, batchnorm="frozen")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("dp", {"power_iterations": 9}, "rule.power_iterations=9 would change nothing"),
        ("dp", {"local_autograd": True}, "rule.local_autograd=true would change nothing"),
        ("eqprop", {"local_autograd": True}, "rule.local_autograd=true would change nothing"),
        ("eqprop", {"activation_bound": 0.0}, r"rule.activation_bound=0 is outside \(0, inf\)"),
        ("chl", {"beta": 0.1}, "rule.beta=0.1 would change nothing"),
        ("chl", {"loss": "ce"}, "rule.loss=ce would change nothing"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        credit.rule(name, net(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, nets.CLASSES)), **options)


def test_too_few_passes_in_random_order_are_noted() -> None:
    model = net(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, nets.CLASSES))
    assert any("by luck alone" in note for note in credit.rule("dp", model, schedule="random", passes=2).notes)
    assert not any("by luck alone" in note for note in credit.rule("dp", model, schedule="random", passes=3).notes)


def test_a_ceiling_holds_hidden_states_and_what_is_predicted() -> None:
    model = net(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, nets.CLASSES))
    x, y = batch()
    x = 30 * x
    rule: Any = credit.rule("eqprop", model, precision="float64")
    answer = rule.predictor(model)(x)
    torch.testing.assert_close(answer, rule.updates(x, y).logits)
    weight = model.get_submodule("2").weight.detach()
    assert float((answer - model.get_submodule("2").bias.detach()).abs().max()) <= float(weight.abs().sum(1).max())
    residuals = rule.residuals(x, y)
    assert len(residuals) == 30 and residuals[-1] < 1e-3 < residuals[0]
