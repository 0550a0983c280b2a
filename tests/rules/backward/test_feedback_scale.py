"""Feedback weights begin at the size of what they replace, and a transport that would replace nothing is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.backward.feedback_weights import xavier
from credit.rules.base import Rule
from credit.runs.identity import decisive, run_hash
from tests.support import nets
from tests.support.small_runs import small_config

RULES = ("fa", "dfa", "usf", "frsf", "brsf", "kolen_pollack")


def convolutional() -> nn.Module:
    """A deeper network, wide enough for sizes to be near their expectation, with first weights as large as He's."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(288, 200), nn.Tanh(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, nets.CLASSES),
    )  # fmt: skip
    with torch.no_grad():
        model.get_parameter("7.weight").mul_(3)
    return model


def made(name: str, model: nn.Module, **options: Any) -> Rule:
    if name == "kolen_pollack":
        return credit.rule("fa", model, feedback_weights="kolen_pollack", **options)
    return credit.rule(name, model, **options)


def feedback(rule: Rule) -> dict[str, Tensor]:
    return {**rule.buffers, **{name: p.detach() for name, p in rule.named_parameters()}}


def ratios(name: str, **options: Any) -> list[float]:
    """Return each weight's update in a first step over backprop's, norm by norm, the output layer's (1) first."""
    torch.manual_seed(1)
    model, x, y = convolutional(), torch.randn(64, 2, 8, 8), torch.arange(64) % nets.CLASSES
    expected = credit.rule("bp", model).updates(x, y).updates
    got = made(name, model, **options).updates(x, y).updates
    return [
        float(got[key].norm() / expected[key].norm()) for key in got if key.endswith("weight") and got[key].dim() > 1
    ]


@pytest.mark.parametrize("name", RULES)
def test_first_updates_are_as_large_as_backprops(name: str) -> None:
    found = ratios(name)
    assert len(found) == 5 and all(0.6 < ratio < 1.6 for ratio in found), found
    former = ratios(name, feedback_scale="xavier")
    assert not all(0.6 < ratio < 1.6 for ratio in former), former


@pytest.mark.parametrize("name", ["fa", "frsf", "kolen_pollack", "usf"])
def test_feedback_has_its_weights_norm(name: str) -> None:
    model = convolutional()
    for key, B in feedback(made(name, model)).items():
        W = model.get_parameter(key.removeprefix("feedback."))
        torch.testing.assert_close(B.double().expand_as(W).norm(), W.detach().double().norm())


def test_direct_feedback_is_a_function_of_model_and_seed_alone() -> None:
    model, x = convolutional(), torch.randn(4, 2, 8, 8)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    one, other, third = (
        credit.rule("dfa", model, seed=seed, example=z) for seed, z in ((3, x), (3, 9 * x[:2]), (4, x))
    )
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, B in one.buffers.items():
        assert torch.equal(B, other.buffers[name]) and not torch.equal(B, third.buffers[name])


def test_xavier_is_what_it_was_and_stands_in_for_weights_of_zero() -> None:
    model = convolutional()
    weight = model.get_parameter("7.weight")
    wanted = xavier(weight.shape, weight, 0, "feedback.7.weight")
    assert torch.equal(credit.rule("fa", model, feedback_scale="xavier").buffers["feedback.7.weight"], wanted)
    with torch.no_grad():
        weight.zero_()
    assert torch.equal(credit.rule("fa", model).buffers["feedback.7.weight"], wanted)
    for name in ("usf", "brsf"):
        assert float(credit.rule(name, model).buffers["feedback.7.weight"]) == pytest.approx((2 / (288 + 200)) ** 0.5)
    # Below a layer of zeros backprop's signal is zero: direct feedback is then Xavier's too.
    direct = credit.rule("dfa", model, example=torch.zeros(2, 2, 8, 8)).buffers["feedback.3"]
    assert torch.equal(direct.flatten(1), xavier((nets.CLASSES, 24 * 64), weight, 0, "feedback.3"))


def test_the_size_names_the_run() -> None:
    def hashed(rule: str, **options: Any) -> str:
        return run_hash(small_config(rule, rule=options) if options else small_config(rule))

    assert hashed("fa") == hashed("fa", feedback_scale="matched") != hashed("fa", feedback_scale="xavier")
    plain = decisive(small_config("bp"))
    assert "feedback_scale" not in plain["rule"] and "versions" not in plain


@pytest.mark.parametrize("name", RULES)
def test_a_network_whose_weights_no_signal_crosses_is_refused(name: str) -> None:
    transport = {
        "fa": "fixed_random",
        "dfa": "direct",
        "usf": "sign",
        "frsf": "sign_fixed_random",
        "brsf": "sign_random",
    }
    frozen = nets.mlp("relu")
    frozen.get_parameter("0.weight").requires_grad_(False)
    frozen.get_parameter("0.bias").requires_grad_(False)
    frozen.get_parameter("2.weight").requires_grad_(False)
    frozen.get_parameter("2.bias").requires_grad_(False)
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(6, 5)), frozen):
        with pytest.raises(UserError) as told:
            made(name, model)
        for word in (
            f"rule.feedback_weights={transport.get(name, name)} would change nothing",
            "arch.widths=[256]",
            "rule=bp",
        ):
            assert word in str(told.value)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("bp", {"feedback_scale": "xavier"}, "rule.feedback_scale=xavier would change nothing"),
        ("dfa", {"feedback_scale": "matchd"}, "did you mean 'matched'?"),
        ("dfa", {"dfa_map": "channels"}, "rule.dfa_map=channels would change nothing"),
        ("dp", {"feedback_weights": "fixed_random"}, "rule.feedback_weights=fixed_random would change nothing"),
        ("ste", {}, "rule.gate=straight_through would change nothing"),
    ],
)  # fmt: skip
def test_what_would_change_nothing_is_refused(rule: str, options: dict[str, Any], words: str) -> None:
    model = nets.mlp("relu") if rule in ("bp", "dfa") else nn.Sequential(nn.Linear(6, 5))
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        credit.rule(rule, model, **options)


@pytest.mark.parametrize("rule", ["dp", "dp_adjoint", "dp_damped", "lpom", "chl", "eqprop"])
def test_rules_of_states_have_a_note_where_there_is_none(rule: str) -> None:
    [note] = credit.rule(rule, nn.Sequential(nn.Linear(6, 5))).notes
    assert "no hidden state" in note and "output layer alone learns" in note
    assert not credit.rule(rule, nets.mlp("relu")).notes
