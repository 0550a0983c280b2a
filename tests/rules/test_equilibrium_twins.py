"""Equilibrium propagation and contrastive Hebbian learning equal their slow twins in float64, and what they come close to."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import credit
from tests.rules import dual_nets, nets, twins_equilibrium
from tests.rules.test_dual_objectives import apart, equilibrium_loss
from tests.rules.test_dual_twins import made
from tests.rules.test_lfp_twins import close
from tests.rules.twins_states import Network

STEPS = {"free_steps": 7, "nudged_steps": 4}
NETS = ("mlp", "act-max", "max-act", "both", "later", "average", "linear", "quarters", "means")


def check(
    case: tuple[nn.Module, Network, Tensor, Tensor], expected: tuple[Any, Any], name: str, **options: Any
) -> None:
    """Compare a rule's updates, and its prediction, with what its twin found."""
    model, _, x, y = case
    updates, kept = expected
    done = credit.rule(name, model, precision="float64", pool_first=False, ceiling=None, **options).updates(x, y)
    close(done.logits, np.stack([phases[0][-1] for phases in kept]), "logits")
    assert set(done.updates) == set(updates)
    for key, update in updates.items():
        assert update.any(), f"{key} is given nothing: the comparison says nothing"
        close(done.updates[key], update, key)


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("loss", ["mse", "ce"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("net", [*NETS, "residual"])
def test_equilibrium_propagation(net: str, activation: str, loss: str, phases: int) -> None:
    case = made(net, activation, spread=0.5)
    _, twin, x, y = case
    for begin in ("zeros", "forward"):
        options: dict[str, Any] = {"loss": loss, "beta": 0.3, "phases": phases, **STEPS}
        expected = twins_equilibrium.eqprop(twin, x.numpy(), y.tolist(), start=begin, **options)
        check(case, expected, "eqprop", begin=begin, **options)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("net", NETS)
def test_contrastive_hebbian_learning(net: str, activation: str) -> None:
    case = made(net, activation)
    _, twin, x, y = case
    for begin, gamma in (("zeros", 0.3), ("forward", 0.1)):
        expected = twins_equilibrium.chl(
            twin, x.numpy(), y.tolist(), gamma=gamma, start=begin, free_steps=7, clamped_steps=4
        )
        check(case, expected, "chl", begin=begin, gamma=gamma, **STEPS)


def angle(model: nn.Module, name: str, expected: dict[str, Any], x: Tensor, y: Tensor, **options: Any) -> float:
    """Degrees between a rule's updates and others, all parameters together."""
    updates = credit.rule(name, model, precision="float64", **options).updates(x, y).updates
    a, b = (np.concatenate([np.asarray(part[key]).ravel() for key in sorted(expected)]) for part in (updates, expected))
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_weak_nudges_turn_to_the_gradient_at_rest(loss: str, phases: int) -> None:
    """The gradient of the loss where the network settles; backprop's through one forward pass is another, at any beta."""
    model = dual_nets.mlp("tanh", spread=0.5)
    x, y = nets.batch(model, (7,), 3)
    names, ps = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(equilibrium_loss(model, x, y, loss, 1.0, 200), ps)
    gradient = {name: grad.numpy() for name, grad in zip(names, found, strict=True)}
    steps = {"free_steps": 200, "nudged_steps": 200}
    angles = [
        angle(model, "eqprop", gradient, x, y, loss=loss, phases=phases, beta=beta, **steps)
        for beta in (0.5, 0.05, 0.005)
    ]
    assert angles[0] > 3 * angles[1] > 9 * angles[2]
    assert angles[2] < 0.2
    backprop = dual_nets.backprop(model, x, y, loss)
    assert angle(model, "eqprop", backprop, x, y, loss=loss, phases=phases, beta=0.005, **steps) > 3


def test_weak_feedback_turns_contrastive_hebbian_learning_to_backprop() -> None:
    model = dual_nets.mlp("tanh", spread=1.0)
    x, y = nets.batch(model, (7,), 3)
    backprop = dual_nets.backprop(model, x, y, "mse")
    angles = [angle(model, "chl", backprop, x, y, gamma=gamma) for gamma in (0.3, 0.03, 0.003)]
    assert angles[0] > 3 * angles[1] > 9 * angles[2]
    assert angles[2] < 0.5


def test_the_reference_is_backprop_on_the_same_loss() -> None:
    """What a rule's angles are measured against; with weak feedback contrastive Hebbian learning comes near it."""
    model = dual_nets.mlp("tanh", spread=1.0)
    x, y = nets.batch(model, (7,), 3)
    rule: Any = credit.rule("chl", model, precision="float64", gamma=1e-4)
    reference = credit.rule("bp", model, precision="float64", **rule.reference).updates(x, y).updates
    ours = rule.updates(x, y).updates
    assert (
        apart(
            {key: value.numpy() for key, value in ours.items()},
            {key: value.numpy() for key, value in reference.items()},
        )
        < 1e-3
    )
