"""What local representation alignment comes close to, what its error synapses learn, and what it trains that backprop does not."""

import math
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import credit
from credit.rules.base import Rule
from credit.rules.outcome import InferenceDiverged
from tests.support import dual_nets, nets
from tests.support.architectures import mlp
from tests.support.lra_nets import Stacked

DEEP = (7, 9, 8, 9, 5)


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().flatten(), b.detach().flatten()
    return float(a @ b / a.norm() / b.norm())


def transposed(model: nn.Module, x: Tensor, **options: Any) -> Any:
    """A rule without skips whose error synapses are the transposes of the weights they answer to."""
    rule: Any = credit.rule("lra_e", model, precision="float64", example=x, **options)
    layers = [name.removesuffix(".weight") for name, _ in model.named_parameters() if name.endswith("weight")]
    with torch.no_grad():
        for (_, p), layer in zip(rule.named_parameters(), reversed(layers[1:]), strict=True):
            p.copy_(model.get_parameter(f"{layer}.weight").T)
    return rule


@pytest.mark.parametrize("loss", ["ce", "half_sse"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu"])
@pytest.mark.parametrize("widths", [(7, 9, 5), DEEP])
def test_small_steps_along_the_transposes_turn_to_backprop(widths: tuple[int, ...], activation: str, loss: str) -> None:
    """e_i = z_i - f(h_i - beta W^T e) is beta f'(h_i) W^T e to first order: layer by layer backprop's direction."""
    model = Stacked(activation, widths)
    x, y = nets.batch(model, (7,))
    gradient = dual_nets.backprop(model, x, y, loss)
    away = {}
    for beta in (1e-1, 1e-2, 1e-3):
        found = transposed(model, x, beta=beta, loss=loss).updates(x, y).updates
        cosines = [cosine(found[name], torch.from_numpy(value)) for name, value in gradient.items()]
        away[beta] = 1 - min(cosines)
    assert away[1e-3] < 1e-4  # cosine above 0.9999
    assert away[1e-1] > 30 * away[1e-2] > 900 * away[1e-3]  # of second order


def test_other_synapses_turn_elsewhere() -> None:
    model = Stacked("tanh", (7, 9, 5))
    x, y = nets.batch(model, (7,))
    gradient = dual_nets.backprop(model, x, y, "ce")
    rule = credit.rule("lra_e", model, precision="float64", example=x, beta=1e-3)
    assert cosine(rule.updates(x, y).updates["fc1.weight"], torch.from_numpy(gradient["fc1.weight"])) < 0.9


@pytest.mark.parametrize("told", [{}, {"p": 1.0, "q": 1.0}, {"p": 3.0, "q": 2.0}, {"skip_gap": 3}, {"skip_gap": 0}])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "sigmoid"])
def test_every_layer_comes_nearer_to_its_target(activation: str, told: dict[str, Any]) -> None:
    """Its update descends its own discrepancy, the layers below held: rising activations need no derivative for that."""
    model = Stacked(activation, (7, 9, 9, 9, 5))
    x, y = nets.batch(model, (7,), 1)
    rule: Any = credit.rule("rec_lra", model, precision="float64", beta=0.3, **told)
    rule.keep_errors = True
    done = rule.updates(x, y)
    p, z = told.get("p", 2.0), x
    for number in range(1, 4):
        layer, act = model.get_submodule(f"fc{number}"), model.get_submodule(f"act{number}")
        update = {name: done.updates[f"fc{number}.{name}"] for name in ("weight", "bias")}
        size = 1e-4 / float(update["weight"].norm())
        moved = nn.functional.linear(
            z, *(layer.get_parameter(name) - size * update[name] for name in ("weight", "bias"))
        )
        target = done.targets[f"act{number}"]
        with torch.no_grad():
            before, after = (float(torch.linalg.vector_norm(act(h) - target, p)) for h in (layer(z), moved))
            z = act(layer(z))
        assert after < before


# --- error synapses -----------------------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images / 16), torch.from_numpy(labels).long()


def train(model: nn.Module, rule: Rule, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Train on Digits in batches of 50; return the share of right answers on what was left out."""
    x, y = digits()
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        at = torch.randint(0, 1500, (50,), generator=draw)
        rule.step(x[at], y[at])
        optimizer.step()
    with torch.no_grad():
        return float((model(x[1500:]).argmax(1) == y[1500:]).double().mean())


def degrees(rule: Rule, model: nn.Module) -> list[float]:
    """The angles between the error synapses and the transposes of the weights they answer to, from the output down."""
    held = dict(rule.named_parameters()) | dict(rule.buffers)
    pairs = {"error.act3.output": "head", "error.act2.act3": "fc3", "error.act1.act2": "fc2"}
    return [
        math.degrees(math.acos(cosine(held[name], model.get_parameter(f"{layer}.weight").T)))
        for name, layer in pairs.items()
    ]


def test_error_synapses_follow_the_transposes() -> None:
    """z_i e_j^T is the transpose of what W is given: as training goes on E turns to W^T, and more than W turns to a fixed E."""
    ends = {}
    for word in ("lra_e", "fixed"):
        model = Stacked("tanh", (64, 32, 32, 32, 10), spread=1.0)
        rule = credit.rule("lra_e", model, precision="float64", beta=1.0, error_update=word, example=digits()[0][:2])
        optimizer = torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=0.2)
        angles = [degrees(rule, model)]
        for _ in range(3):
            right = train(model, rule, optimizer, 100)
            angles.append(degrees(rule, model))
        if word == "lra_e":
            for before, after in zip(angles, angles[1:], strict=False):
                assert all(new < old for old, new in zip(before, after, strict=True))
        ends[word] = angles[-1], right
    assert min(angles[0]) > 80
    assert all(learnt < fixed - 5 for learnt, fixed in zip(ends["lra_e"][0], ends["fixed"][0], strict=True))
    assert ends["lra_e"][0][0] < 45 and ends["lra_e"][1] > 0.8


def trained(word: str, steps: int) -> Rule:
    """A rule after so many steps at a high learning rate."""
    model = Stacked("tanh", (64, 32, 32, 32, 10), spread=1.0)
    rule = credit.rule("lra_e", model, precision="float64", error_update=word, example=digits()[0][:2])
    train(model, rule, torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=0.5), steps)
    return rule


def test_the_printed_update_has_no_bound_and_is_named() -> None:
    """E <- E (I + lr gamma e e^T)."""
    with pytest.raises(InferenceDiverged) as found:
        trained("paper", 2000)
    assert found.value.where.startswith("error synapses 'error.act")
    for told in (
        "times their first size",
        "rule.error_update=paper, as printed",
        "has no bound",
        "rule.error_update=lra_e",
    ):
        assert told in found.value.why


@pytest.mark.parametrize("word", ["lra_e", "paper_alg1"])
def test_other_updates_stay_in_bounds_for_as_long(word: str) -> None:
    rule = trained(word, 400)
    assert all(1 < float(p.detach().norm()) < 50 for p in rule.parameters())


def test_fixed_synapses_stay_and_are_no_parameters() -> None:
    model = Stacked("tanh", (7, 9, 8, 5))
    x, y = nets.batch(model, (7,))
    rule = credit.rule("rec_lra", model, precision="float64", error_update="fixed", example=x, seed=3)
    learning = credit.rule("rec_lra", model, precision="float64", example=x, seed=3)
    before = {name: value.clone() for name, value in rule.buffers.items()}
    assert set(before) == {"error.act1.act2", "error.act2.output"} and not list(rule.parameters())
    assert all(bool(torch.equal(p, before[name])) for name, p in learning.named_parameters())
    rule.step(x, y)
    assert all(bool(torch.equal(value, before[name])) for name, value in rule.buffers.items())


@pytest.mark.parametrize("std", [None, 0.3])
def test_synapses_begin_with_normal_numbers(std: float | None) -> None:
    model = Stacked("tanh", (7, 300, 200, 5))
    x, _ = nets.batch(model, (7,))
    rule = credit.rule("lra_e", model, precision="float64", error_std=std, example=x)
    for name, p in rule.named_parameters():
        expected = 1 / math.sqrt(p.shape[1]) if std is None else std
        assert float(p.detach().std()) == pytest.approx(expected, rel=0.1), name
        assert abs(float(p.detach().mean())) < 0.1 * expected
    again = credit.rule("lra_e", model, precision="float64", error_std=std, example=x, seed=1)
    for (_, one), (_, other) in zip(rule.named_parameters(), again.named_parameters(), strict=True):
        assert not torch.equal(one, other)


# --- what it trains -----------------------------------------------------------------------------------------------------


def test_sign_units_learn_below_the_head() -> None:
    """Autograd's gradient through sign is zero; targets move units all the same, and what they learn is worth something."""
    right = {}
    for word, frozen in (("all", False), ("head", True)):
        model = Stacked("sign", (64, 128, 128, 10), spread=1.0)
        x, y = digits()
        rule = credit.rule("rec_lra", model, precision="float64", beta=0.5, example=x[:2])
        for name, update in rule.updates(x[:50], y[:50]).updates.items():
            assert bool(update.any()), name
        learning = [p for name, p in model.named_parameters() if not frozen or name.startswith("head")]
        optimizer = torch.optim.Adam([*learning, *rule.parameters()], lr=1e-3)
        right[word] = train(model, rule, optimizer, 300)
    assert right["all"] > 0.7 and right["all"] > right["head"] + 0.05


@pytest.mark.slow
def test_deep_sigmoid_networks_learn_where_backprop_stalls() -> None:
    """Section 4: eight layers of logistic units, begun with small normal weights."""
    right = {}
    for name in ("bp", "rec_lra"):
        torch.manual_seed(0)
        model = mlp((64,), 10, widths=[64] * 8, activation="sigmoid", init="gaussian", init_std=0.05).double()
        rule = credit.rule(name, model, precision="float64", example=digits()[0][:2])
        optimizer = torch.optim.Adam([*model.parameters(), *rule.parameters()], lr=5e-3)
        right[name] = train(model, rule, optimizer, 400)
    assert right["rec_lra"] > 0.7 and right["bp"] < 0.2
