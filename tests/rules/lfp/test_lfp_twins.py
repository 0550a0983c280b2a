"""Every LFP rule equals its slow twin in float64: weights, biases and the feedback that reaches the input."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import credit
from credit.engine.draws import Draws
from credit.rules.lfp import crossing, pieces
from tests.support import nets, twins_lfp
from tests.support.twins_lfp import Part, Settings

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "zero": ("lfp_0", {}),
    "epsilon": ("lfp_epsilon", {}),
    "alphabeta": ("lfp_alphabeta", {}),
    "zpm": ("lfp_zpm", {}),
    "gamma": ("lfp_gamma", {}),
}


def numbers(p: Tensor | None) -> Any:
    return None if p is None else p.detach().numpy().copy()


def parts_of(layers: nn.Sequential, shape: tuple[int, ...], prefix: str = "") -> list[Part]:
    """The twin's parts of a sequence of layers on inputs of this shape (without the batch)."""
    parts: list[Part] = []
    for number, layer in layers.named_children():
        name = prefix + number
        if isinstance(layer, nn.Linear):
            parts.append(twins_lfp.dense(name, numbers(layer.weight), numbers(layer.bias)))
        elif isinstance(layer, nn.Conv2d):
            made = twins_lfp.conv(
                name, numbers(layer.weight), numbers(layer.bias), image(shape), layer.stride[0], int(layer.padding[0])
            )
            parts.append(made)
        elif isinstance(layer, nn.MaxPool2d):
            parts.append(twins_lfp.MaxPool(image(shape), *extent(layer)))
        elif isinstance(layer, nn.AvgPool2d):
            parts.append(twins_lfp.AveragePool(image(shape), *extent(layer)))
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            parts.append(twins_lfp.AveragePool(image(shape), shape[1], 1))
        elif isinstance(layer, Branches):
            parts.append(twins_lfp.Residual(parts_of(layer.body, shape, f"{name}.body."), []))
        elif not isinstance(layer, nn.Flatten):
            word = next(word for word, cls in nets.ACTIVATIONS.items() if isinstance(layer, cls))
            parts.append(twins_lfp.Activation(word))
        with torch.no_grad():
            shape = tuple(layer(torch.zeros((2, *shape), dtype=torch.float64)).shape[1:])
    return parts


def image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, height, width


def extent(pool: nn.MaxPool2d | nn.AvgPool2d) -> tuple[int, int, int]:
    """Size, stride and padding of a square pool."""
    assert isinstance(pool.kernel_size, int) and isinstance(pool.stride, int) and isinstance(pool.padding, int)
    return pool.kernel_size, pool.stride, pool.padding


class Branches(nn.Module):
    """Layers and the way around them, summed."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + x
        return out


def convs(activation: str, pool: str, bias: bool = True) -> nn.Sequential:
    """Two convolutions, one padded, one with a stride, and a pool of overlapping windows; for images (2, 6, 5)."""
    act = nets.ACTIVATIONS[activation]
    pools = {"max": nn.MaxPool2d(3, 2, 1), "avg": nn.AvgPool2d(3, 2, 1), "flush": nn.AvgPool2d(2, 1)}
    layers = [
        nn.Conv2d(2, 3, 3, padding=1, bias=bias),
        act(),
        pools[pool],
        nn.Conv2d(3, 4, 2, stride=2, bias=bias),
        act(),
    ]
    with torch.no_grad():
        width = nn.Sequential(*layers)(torch.zeros(1, 2, 6, 5)).numel()
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, nets.CLASSES, bias=bias)).double()
    nets._randomize(model, 6, 1.5)
    return model


def check(
    model: nn.Sequential, shape: tuple[int, ...], name: str, settings: Settings, n: int = 5, **options: Any
) -> None:
    """Compare a step of a rule with its twin's; the twin's parts are made of the model's layers."""
    x, y = nets.batch(model, shape, n)
    parts = parts_of(model, shape)
    rule = credit.rule(name, model, **{"clip_unit": None} | options)
    rule.keep_input_signal = True
    step = rule.step(x, y)
    logits, updates, reached = twins_lfp.step(parts, x.numpy(), y.numpy(), settings)
    close(step.logits, logits, "logits")
    found = nets.gradients(model)
    assert set(found) == set(updates)
    for key, update in updates.items():
        close(-torch.from_numpy(found[key]), update, key)
        assert update.any() or key.endswith("bias"), f"{key} is given nothing: the comparison says nothing"
    assert step.input_signal is not None
    close(step.input_signal, reached, "the feedback at the input")


def close(found: Tensor, expected: Any, what: str) -> None:
    """Equal to rounding, relative to the largest number: small sums of large terms keep fewer digits."""
    expected = expected.detach().numpy() if isinstance(expected, Tensor) else expected
    size = float(np.abs(expected).max())
    torch.testing.assert_close(
        found.detach(),
        torch.from_numpy(np.asarray(expected)),
        rtol=1e-9,
        atol=1e-11 * size + 1e-15,
        msg=lambda m: f"{what}: {m}",
    )


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "step"])
@pytest.mark.parametrize("rule", RULES)
def test_mlp(rule: str, activation: str, batch: int) -> None:
    name, options = RULES[rule]
    check(nets.mlp(activation), (7,), name, Settings(rule), batch, **options)


@pytest.mark.parametrize("pool", ["max", "avg", "flush"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "step"])
@pytest.mark.parametrize("rule", RULES)
def test_convolutions_and_pools(rule: str, activation: str, pool: str) -> None:
    name, options = RULES[rule]
    check(convs(activation, pool), (2, 6, 5), name, Settings(rule), **options)


@pytest.mark.parametrize("rule", RULES)
def test_without_biases_and_one_sample(rule: str) -> None:
    name, options = RULES[rule]
    check(convs("relu", "max", bias=False), (2, 6, 5), name, Settings(rule), 1, **options)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("rule", RULES)
def test_in_small_blocks(rule: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large layers are crossed block by block; here small ones are."""
    for module in (crossing, pieces):
        monkeypatch.setattr(module, "LEAST", 8)
        monkeypatch.setattr(module, "MOST", 24)
    name, options = RULES[rule]
    for batch in (1, 5):
        check(convs(activation, "max"), (2, 6, 5), name, Settings(rule), batch, **options)
        check(nets.mlp(activation, (7, 40, 30, nets.CLASSES)), (7,), name, Settings(rule), batch, **options)


@pytest.mark.parametrize("rule", RULES)
def test_a_mean_over_places(rule: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, nets.CLASSES)
    ).double()
    nets._randomize(model, 10, 1.5)
    name, options = RULES[rule]
    check(model, (2, 5, 5), name, Settings(rule), **options)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("rule", RULES)
def test_sums_of_branches_are_shared_in_proportion(rule: str, activation: str) -> None:
    act = nets.ACTIVATIONS[activation]
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), act(), Branches(nn.Conv2d(3, 3, 3, padding=1), act(), nn.Conv2d(3, 3, 1)), act(),
        nn.AvgPool2d(2), nn.Flatten(), Branches(nn.Linear(12, 12), act()), nn.Linear(12, nets.CLASSES),
    ).double()  # fmt: skip
    nets._randomize(model, 7, 1.5)
    name, options = RULES[rule]
    check(model, (2, 4, 5), name, Settings(rule), **options)


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("lfp_epsilon", {"epsilon": 0.1}, {"epsilon": 0.1}),
        ("lfp_alphabeta", {"epsilon": 0.1}, {"relevance": "alphabeta", "epsilon": 0.1}),
        ("lfp_alphabeta", {"alpha": 1.0, "beta": 0.0}, {"relevance": "alphabeta", "alpha": 1.0, "beta": 0.0}),
        ("lfp_alphabeta", {"alpha": 1.5, "beta": 0.5}, {"relevance": "alphabeta", "alpha": 1.5, "beta": 0.5}),
        ("lfp_gamma", {"gamma": 2.0, "epsilon": 0.05}, {"relevance": "gamma", "gamma": 2.0, "epsilon": 0.05}),
        ("lfp_epsilon", {"normalizer": "max_abs"}, {"max_abs": True}),
        ("lfp_zpm", {"normalizer": "max_abs", "reduction": "sum"},
         {"relevance": "zpm", "max_abs": True, "sum_samples": True}),
        ("lfp_alphabeta", {"reduction": "sum"}, {"relevance": "alphabeta", "sum_samples": True}),
        ("lfp_epsilon_zpm", {}, {"composite": {"0": "zpm", "3": "zpm"}}),
        ("lfp_epsilon_alphabeta", {}, {"composite": {"0": "alphabeta", "3": "alphabeta"}}),
        ("lfp_epsilon", {"composite": {"conv": "zpm", "first": "gamma"}}, {"composite": {"0": "gamma", "3": "zpm"}}),
        ("lfp_zpm", {"composite": {"linear": "zero", "last": "alphabeta"}}, {"relevance": "zpm", "composite": {"6": "alphabeta"}}),
        ("lfp_zpm", {"composite": {"0": "epsilon", "-1": "gamma"}},
         {"relevance": "zpm", "composite": {"0": "epsilon", "6": "gamma"}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_options_and_composites(name: str, options: dict[str, Any], settings: dict[str, Any], activation: str) -> None:
    check(convs(activation, "avg"), (2, 6, 5), name, Settings(**settings), **options)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("reading", ["pass", "gradient"])
def test_dropout_in_both_readings(reading: str, activation: str) -> None:
    act = nets.ACTIVATIONS[activation]
    model = nn.Sequential(nn.Linear(7, 11), act(), nn.Dropout(0.4), nn.Linear(11, nets.CLASSES)).double()
    nets._randomize(model, 8, 1.5)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("lfp_epsilon", model, dropout=reading, seed=3)
    rule.keep_input_signal = True
    first, last = (parts_of(nn.Sequential(OrderedDict({name: model.get_submodule(name)})), (7 if name == "0" else 11,))
                   for name in ("0", "3"))  # fmt: skip
    parts = [*first, twins_lfp.Activation(activation), twins_lfp.Dropout(mask(rule, x)), *last]
    step = rule.step(x, y)
    logits, updates, reached = twins_lfp.step(parts, x.numpy(), y.numpy(), Settings(dropout=reading))
    close(step.logits, logits, "logits")
    for key, update in updates.items():
        close(-torch.from_numpy(nets.gradients(model)[key]), update, key)
    assert step.input_signal is not None
    close(step.input_signal, reached, "the feedback at the input")


def mask(rule: credit.Rule, x: Tensor) -> Any:
    """The mask that the rule's next step will draw; 0 for units at 0, of which no step depends on it."""
    run = rule.plan.run(dict(rule.model.named_parameters()), {}, Draws(rule.seed, rule.position, x.device))
    with torch.no_grad():
        (found,) = [out / given[0] for op, given, out in rule.plan.walk(run, x) if op.kind == "dropout"]
    values = found.nan_to_num(0.0)
    assert 0 < float((values == 0).double().mean()) < 1
    return values.numpy()
