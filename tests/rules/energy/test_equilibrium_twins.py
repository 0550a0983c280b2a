"""Equilibrium propagation and contrastive Hebbian learning equal their slow twins in float64, and what they come close to."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from tests.rules.energy.test_dual_objectives import apart, equilibrium_loss
from tests.rules.energy.test_dual_twins import made
from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, nets, twins_equilibrium
from tests.support.covering import covering
from tests.support.twins_states import Network, Node

STEPS = {"free_steps": 7, "nudged_steps": 4}
NETS = ("mlp", "act-max", "max-act", "both", "later", "average", "linear", "quarters", "means")


def check(
    case: tuple[nn.Module, Network, Tensor, Tensor], expected: tuple[Any, Any], name: str, **options: Any
) -> None:
    """Compare a rule's updates, and its prediction, with what its twin found."""
    model, _, x, y = case
    updates, kept = expected
    done = credit.rule(name, model, precision="float64", pool_first=False, activation_bound=None, **options).updates(
        x, y
    )
    close(done.logits, np.stack([phases[0][-1] for phases in kept]), "logits")
    assert set(done.updates) == set(updates)
    for key, update in updates.items():
        assert update.any(), f"{key} is given nothing: the comparison says nothing"
        close(done.updates[key], update, key)


@pytest.mark.parametrize(
    ("net", "activation", "loss", "phases", "begin"),
    covering(2, (*NETS, "residual"), ("tanh", "relu"), ("half_sse", "ce"), (2, 3), ("zeros", "forward"), slow=3),
)
def test_equilibrium_propagation(net: str, activation: str, loss: str, phases: int, begin: str) -> None:
    case = made(net, activation, spread=0.5)
    _, twin, x, y = case
    options: dict[str, Any] = {"loss": loss, "beta": 0.3, "phases": phases, **STEPS}
    expected = twins_equilibrium.eqprop(twin, x.numpy(), y.tolist(), start=begin, **options)
    check(case, expected, "eqprop", initial_state=begin, **options)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("net", NETS)
def test_contrastive_hebbian_learning(net: str, activation: str) -> None:
    case = made(net, activation)
    _, twin, x, y = case
    for begin, gamma in (("zeros", 0.3), ("forward", 0.1)):
        expected = twins_equilibrium.chl(
            twin, x.numpy(), y.tolist(), gamma=gamma, start=begin, free_steps=7, clamped_steps=4
        )
        check(case, expected, "chl", initial_state=begin, gamma=gamma, **STEPS)


def ending(net: str, activation: str, last: str) -> tuple[nn.Module, Network, Tensor, Tensor]:
    """A network with an activation as its last op, and its twin."""
    model, twin, x, y = made(net, activation, spread=0.5)
    return (
        nn.Sequential(model, nets.ACTIVATIONS[last]()), [*twin[:-1], Node(twin[-1].branches, last)], x, y
    )  # fmt: skip


def named(updates: dict[str, Any]) -> dict[str, Any]:
    return {f"0.{name}": update for name, update in updates.items()}


@pytest.mark.parametrize(
    ("case_", "last", "phases"),
    covering(2, (("mlp", "tanh", "half_sse"), ("mlp", "relu", "ce"), ("both", "relu", "half_sse")),
             ("sigmoid", "tanh", "relu"), (2, 3), slow=3),
)  # fmt: skip
def test_equilibrium_propagation_with_an_activation_last(case_: tuple[str, str, str], last: str, phases: int) -> None:
    """s_L = f(a_L - beta dl/ds_L): the last activation belongs to the output's own state, and no copy of it."""
    net, activation, loss = case_
    case = ending(net, activation, last)
    _, twin, x, y = case
    for begin in ("zeros", "forward"):
        options: dict[str, Any] = {"loss": loss, "beta": 0.3, "phases": phases, **STEPS}
        updates, kept = twins_equilibrium.eqprop(twin, x.numpy(), y.tolist(), start=begin, **options)
        check(case, (named(updates), kept), "eqprop", initial_state=begin, **options)


@pytest.mark.parametrize("last", ["sigmoid", "tanh"])
@pytest.mark.parametrize("net", ["mlp", "both"])
def test_contrastive_hebbian_learning_with_an_activation_last(net: str, last: str) -> None:
    case = ending(net, "tanh", last)
    _, twin, x, y = case
    for begin, gamma in (("zeros", 0.3), ("forward", 0.1)):
        updates, kept = twins_equilibrium.chl(
            twin, x.numpy(), y.tolist(), gamma=gamma, start=begin, free_steps=7, clamped_steps=4
        )
        check(case, (named(updates), kept), "chl", initial_state=begin, gamma=gamma, **STEPS)


def test_a_single_layer_with_an_activation_is_predicted_by_its_forward_pass() -> None:
    """Without hidden states nothing feeds the output: the free phase is the forward pass, and the nudge one closed form."""
    model = nn.Sequential(nn.Linear(7, 5), nn.Sigmoid()).double()
    x, y = nets.batch(model, (7,), 3)
    done = credit.rule("eqprop", model, precision="float64", free_steps=1, nudged_steps=1, beta=0.3).updates(x, y)
    with torch.no_grad():
        free = model(x)
        nudged = torch.sigmoid(model[0](x) - 0.3 * (free - nn.functional.one_hot(y, 5)))
        torch.testing.assert_close(done.logits, free)
        torch.testing.assert_close(done.updates["0.weight"], -(nudged - free).t() @ x / (0.3 * len(x)))


@pytest.mark.parametrize("rule", ["eqprop", "chl"])
def test_an_output_that_is_a_reshaped_activation_is_refused(rule: str) -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Sigmoid(), nn.Unflatten(1, (5, 1)), nn.Flatten())
    with pytest.raises(
        UserError, match="stands view '2', so that the output would be a copy of that state.* move it before the"
    ):
        credit.rule(rule, model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.0},
        {"variant": "adjoint", "alpha": 1.0},
        {"schedule": "fw", "passes": 5},
        {"variant": "lpom", "alpha": 1.0, "passes": 15},
    ],
)
@pytest.mark.parametrize("last", ["sigmoid", "tanh"])
@pytest.mark.parametrize("loss", ["half_sse", "ce"])
def test_dual_propagation_with_an_activation_last_is_backprop_for_weak_nudges(
    loss: str, last: str, options: dict[str, Any]
) -> None:
    """There the copy does no harm: feedback is a difference of states, which is 0 without a nudge."""
    model, _, x, y = ending("mlp", "tanh", last)
    same: dict[str, Any] = {"loss": "half_sse"} if loss == "half_sse" else {}
    reference = credit.rule("bp", model, precision="float64", **same)
    expected = {name: update.numpy() for name, update in reference.updates(x, y).updates.items()}
    assert angle(model, "dp", expected, x, y, loss=loss, beta=1e-5, **options) < 0.01


def angle(model: nn.Module, name: str, expected: dict[str, Any], x: Tensor, y: Tensor, **options: Any) -> float:
    """Degrees between a rule's updates and others, all parameters together."""
    updates = credit.rule(name, model, precision="float64", **options).updates(x, y).updates
    a, b = (np.concatenate([np.asarray(part[key]).ravel() for key in sorted(expected)]) for part in (updates, expected))
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize(
    ("loss", "phases"),
    [("half_sse", 2), *(pytest.param(*one, marks=pytest.mark.slow) for one in [("half_sse", 3), ("ce", 2), ("ce", 3)])],
)
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
    backprop = dual_nets.backprop(model, x, y, "half_sse")
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
