"""What target propagation refuses, by the words: numbers, feedback, networks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from tests.support import nets
from tests.support.architectures import suc
from tests.support.lra_nets import Stacked


def stacked(activation: str = "tanh", widths: tuple[int, ...] = (6, 7, 8, 5)) -> Stacked:
    return Stacked(activation, widths)


def refusal(model: nn.Module, name: str = "dtp", **options: Any) -> str:
    with pytest.raises(UserError) as found:
        credit.rule(name, model, **options)
    return str(found.value)


CASES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"target_step": 0.0}, ("rule.target_step=0 is outside (0, inf)", "every target would be what is there already")),
    ({"target_step": -1.0}, ("rule.target_step=-1 is outside (0, inf)",)),
    ({"target_step": float("nan")}, ("rule.target_step=nan", "finite")),
    ({"noise_std": -0.1}, ("rule.noise_std=-0.1 is outside [0, inf)", "standard deviation")),
    ({"noise_std": 0.0, "feedback_loss": "l_drl"}, ("rule.noise_std=0 with rule.feedback_loss=l_drl", "is 0 without",
                                                    "rule.noise_std=0.36")),
    ({"feedback_loss": "l_drl", "difference": False}, ("rule.feedback_loss=l_drl", "rule.difference=true",
                                                       "rule.feedback_loss=reconstruction")),
    ({"feedback_loss": "ldrl"}, ("rule.feedback_loss=ldrl", "did you mean 'l_drl'")),
    ({"feedback_steps": 0}, ("rule.feedback_steps=0 is outside [1, inf)", "gradient steps of each feedback map")),
    ({"feedback_steps": 3}, ("rule.feedback_steps=3", "learning rate", "rule.feedback_lr=")),
    ({"feedback_lr": 0.0}, ("rule.feedback_lr=0 is outside (0, inf)", "learning rate of the feedback maps", "null")),
    ({"first_target": "output"}, ("rule.first_target=output", "logits, penultimate")),
    ({"synapses": "convolutional"}, ("rule.synapses=convolutional", "auto, conv, dense")),
    ({"loss": "hinge"}, ("rule.loss=hinge", "ce, half_sse")),
    ({"reproject": 0.0}, ("rule.reproject=0 is outside (0, inf)",)),
    ({"beta": 0.1}, ("rule.beta=0.1: rule 'dtp' has no such option",)),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), CASES)
@pytest.mark.parametrize("name", ["dtp", "tp"])
def test_options(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    told = refusal(stacked(), name, **({"difference": True} if name == "tp" else {}) | options)
    for word in words:
        assert word.replace("'dtp'", f"'{name}'") in told, told


@pytest.mark.parametrize(
    "options",
    [{"noise_std": 0.0}, {"feedback_steps": 2, "feedback_lr": 1e-3}, {"target_step": 50.0}, {"difference": False},
     {"first_target": "logits", "feedback_loss": "l_drl"}],
)  # fmt: skip
def test_what_is_close_to_it_is_taken(options: dict[str, Any]) -> None:
    model = stacked()
    x, y = nets.batch(model, (6,))
    credit.rule("dtp", model, precision="float64", **options).step(x, y)
    for name, p in model.named_parameters():
        assert p.grad is not None and bool(torch.isfinite(p.grad).all()) and bool(p.grad.any()), name


class Beside(nn.Module):
    """Two activations side by side: nothing above is computed from one of them alone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 7), nn.Linear(6, 7), nn.Linear(7, 5)
        self.act1, self.act2 = nn.Tanh(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act1(self.one(x)) + self.act2(self.two(x)))
        return out


NETWORKS: list[tuple[Callable[[], nn.Module], dict[str, Any], tuple[str, ...]]] = [
    (lambda: stacked("sign"), {},
     ("trains a layer by its squared distance to a target", "sign at 'act", "in Stacked", "zero everywhere",
                                   "rec_lra, ste, lisp")),
    (lambda: stacked("step"), {"first_target": "logits"}, ("step at 'act", "zero everywhere")),
    (lambda: stacked(widths=(6, 7, 5)), {}, ("needs two activations in a chain", "Stacked has 'act1' alone", "this is backprop",
                                             "rule.first_target=logits", "rule=bp")),
    (lambda: nn.Sequential(nn.Linear(6, 5)), {}, ("Sequential has none", "no hidden activation", "rule=bp")),
    (Beside, {}, ("Beside has none", "act1, act2", "stand on branches that others lead past", "arch=mlp, lenet5, cifar_resnet")),
    (lambda: suc((6,), 2), {}, ("SingleUnit gives one number, the probability of class 1", "rule=bp")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "words"), NETWORKS)
@pytest.mark.parametrize("name", ["dtp", "tp"])
def test_networks(name: str, make: Callable[[], nn.Module], options: dict[str, Any], words: tuple[str, ...]) -> None:
    told = refusal(make(), name, **options)
    assert f"rule '{name}'" in told
    for word in words:
        assert word in told, told


def test_one_activation_is_enough_where_the_logits_have_the_target() -> None:
    model = stacked(widths=(6, 7, 5))
    x, y = nets.batch(model, (6,))
    rule = credit.rule("dtp", model, precision="float64", first_target="logits", example=x)
    assert set(rule.step(x, y).signals) and {name for name, _ in rule.named_parameters()} == {
        "feedback.act1.output.weight", "feedback.act1.output.bias",
    }  # fmt: skip


def test_maps_that_no_stride_leads_between() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 5 * 5, 5)
    )
    x, y = torch.randn(2, 1, 9, 9), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UserError) as found:
        credit.rule("dtp", model).step(x, y)
    for word in ("'feedback.1.3' of rule 'dtp' leads from feature maps of 2x5x5 to 2x7x7", "rule.synapses=dense"):
        assert word in str(found.value), str(found.value)
    credit.rule("dtp", model, synapses="dense").step(x, y)


def test_the_loss_s_gradient_does_not_pass_a_step_but_targets_do() -> None:
    model = nn.Sequential(
        nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nets.ACTIVATIONS["sign"](), nn.Linear(7, 5)
    ).double()
    told = refusal(model)
    for word in ("derivative", "sign at '4'", "zero everywhere"):
        assert word in told, told


@pytest.mark.parametrize("wanted", ["keep_errors"])
def test_a_compiled_step_does_not_tell_its_targets(wanted: str) -> None:
    rule: Any = credit.rule("dtp", stacked(), compile="eager")
    with pytest.raises(UserError, match="a compiled step does not return its .*; make it without compile=True"):
        setattr(rule, wanted, True)


def test_no_signal_reaches_the_input() -> None:
    rule: Any = credit.rule("dtp", stacked())
    with pytest.raises(
        UserError, match="sends targets from activation to activation and no signal on to the network's input"
    ):
        rule.keep_input_signal = True


def test_shared_feedback_between_vectors_would_change_nothing() -> None:
    told = refusal(stacked(), synapses="conv", example=torch.zeros(2, 6, dtype=torch.float64))
    for word in ("rule.synapses=conv would change nothing", "Stacked are vectors", "leave it out"):
        assert word in told, told
