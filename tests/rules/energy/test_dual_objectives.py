"""The twins of dual and equilibrium propagation by themselves, against autograd on the paper's objectives and on the loss."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import dual_nets, dual_objectives, nets, twins_dual, twins_equilibrium
from tests.support.covering import covering
from tests.support.dual_nets import backprop, network_of
from tests.support.twins_dual import Settings
from tests.support.twins_states import Network

NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "tanh mlp": (lambda: dual_nets.mlp("tanh"), (7,)),
    "relu mlp": (dual_nets.mlp, (7,)),
    **{order: (lambda order=order: dual_nets.conv(order), dual_nets.IMAGE) for order in ("act-max", "max-act", "both")},
    **{order: (lambda order=order: dual_nets.conv(order, "tanh"), dual_nets.IMAGE) for order in ("average", "linear")},
    "residual": (dual_nets.Residual, dual_nets.RESIDUAL_IMAGE),
}


def case(name: str) -> tuple[nn.Module, Network, Tensor, Tensor]:
    make, shape = NETS[name]
    model = make()
    net = model.network() if isinstance(model, dual_nets.Residual) else network_of(model, shape)
    return model, net, *nets.batch(model, shape, 4)


def apart(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The relative distance of two sets of updates."""
    assert set(found) == set(expected)
    gap, size = (np.sqrt(sum(float((part**2).sum()) for part in parts)) for parts in (
        [found[name] - expected[name] for name in expected], expected.values()))  # fmt: skip
    return float(gap / size)


# --- beta -> 0 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss", "variant", "alpha", "schedule", "input_term"),
    covering(2, tuple(NETS), ("half_sse", "ce"), ("original", "adjoint"), (0.0, 0.5, 1.0), ("fwbw", "fw"), (False, True),
             slow=3),
)  # fmt: skip
def test_weak_nudges_give_the_gradient(
    name: str, loss: str, variant: str, alpha: float, schedule: str, input_term: bool
) -> None:
    model, net, x, y = case(name)
    gradient = backprop(model, x, y, loss)
    s = Settings(variant, alpha, 1e-6, loss, schedule, 1 if schedule == "fwbw" else 7, input_term=input_term)
    made = twins_dual.step(net, x.numpy(), y.tolist(), s)
    assert apart(made.updates, gradient) < 1e-4
    torch.testing.assert_close(torch.from_numpy(made.logits), model(x).detach())


@pytest.mark.parametrize("variant", ["original", "adjoint"])
def test_the_symmetric_error_is_of_second_order_and_others_of_first(variant: str) -> None:
    model, net, x, y = case("tanh mlp")
    gradient = backprop(model, x, y, "half_sse")
    for alpha, order in ((0.0, 1), (0.5, 2), (1.0, 1)):
        errors = [
            apart(twins_dual.step(net, x.numpy(), y.tolist(), Settings(variant, alpha, beta)).updates, gradient)
            for beta in (1e-2, 1e-3)
        ]
        assert errors[0] / errors[1] == pytest.approx(10**order, rel=0.2)


@pytest.mark.parametrize("loss", ["half_sse", "ce"])
@pytest.mark.parametrize("name", ["tanh mlp", "relu mlp", "max-act", "average"])
def test_weakly_nudged_lpom_gives_the_gradient_after_passes(name: str, loss: str) -> None:
    """In one forward-backward pass it does not: s^- = f(W s^+) moves with every s^+ below it."""
    model, net, x, y = case(name)
    gradient = backprop(model, x, y, loss)
    errors = {}
    for schedule, passes in (("fw", 3), ("fwbw", 1)):
        s = Settings("lpom", beta=1e-6, loss=loss, schedule=schedule, passes=passes)
        errors[schedule] = apart(twins_dual.step(net, x.numpy(), y.tolist(), s).updates, gradient)
    assert errors["fw"] < 1e-3
    assert errors["fwbw"] > 0.1


# --- stationary points ----------------------------------------------------------------------------------------------------


def held(states: list[Any], b: int, from_: int = 0) -> list[Tensor]:
    """The states of sample b as leaves; those below ``from_`` want no gradient."""
    return [torch.from_numpy(state[b].copy()).requires_grad_(k >= from_) for k, state in enumerate(states)]


def leaves(*sides: list[Tensor]) -> list[Tensor]:
    return [state for side in sides for state in side if state.requires_grad]


def summed(model: nn.Module, objective: Tensor, into: dict[str, Any], count: int) -> None:
    """Add an objective's gradient by the parameters, over the number of samples."""
    names, ps = zip(*model.named_parameters(), strict=True)
    for name, grad in zip(names, torch.autograd.grad(objective, ps), strict=True):
        into[name] = into.get(name, 0) + grad.numpy() / count


@pytest.mark.parametrize("input_term", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu"])
@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.5, 0.5), ([0.4, 0.6, 0.3], [0.2, 0.3, 0.5]), (0.0, 0.2), (1.0, [0.1, 0.1, 0.5])]
)
def test_states_at_rest_are_stationary_for_dp_s_potential(
    alpha: Any, beta: Any, activation: str, input_term: bool
) -> None:
    """Eq. 1 with alpha and beta of each layer's own, and the updates are its derivatives."""
    model = dual_nets.mlp(activation, spread=0.7)
    x, y = nets.batch(model, (7,), 3)
    net = network_of(model, (7,))
    s = Settings("original", alpha, beta, passes=60, nudge="prox", input_term=input_term)
    made = twins_dual.step(net, x.numpy(), y.tolist(), s)
    assert made.residuals[-1] < 1e-13
    gradient: dict[str, Any] = {}
    for b in range(len(x)):
        plus, minus = (held(side, b, 0 if input_term else 1) for side in (made.plus, made.minus))
        objective = dual_objectives.dual(model, activation, plus, minus, x[b], int(y[b]), s)
        for grad in torch.autograd.grad(objective, leaves(plus, minus), retain_graph=True):
            assert float(grad.abs().max()) < 1e-10
        summed(model, objective, gradient, len(x))
    assert apart(made.updates, gradient) < 1e-12


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_states_at_rest_are_stationary_for_the_adjoint_potential(alpha: float) -> None:
    """Eq. 18, whose f need be linear where the states are."""
    model = dual_nets.mlp("leaky_relu", spread=0.7)
    x, y = nets.batch(model, (7,), 3)
    s = Settings("adjoint", alpha, 1e-3, passes=3)
    made = twins_dual.step(network_of(model, (7,)), x.numpy(), y.tolist(), s)
    gradient: dict[str, Any] = {}
    for b in range(len(x)):
        plus, minus = held(made.plus, b, 1), held(made.minus, b, 1)
        assert all(bool(torch.equal(p > 0, m > 0)) for p, m in zip(plus[1:-1], minus[1:-1], strict=True))
        objective = dual_objectives.adjoint(model, "leaky_relu", plus, minus, int(y[b]), s)
        for grad in torch.autograd.grad(objective, leaves(plus, minus), retain_graph=True):
            assert float(grad.abs().max()) < 1e-11
        summed(model, objective, gradient, len(x))
    assert apart(made.updates, gradient) < 1e-10


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu"])
@pytest.mark.parametrize("beta", [0.5, [0.2, 0.3, 0.5]])
def test_lpom_at_rest_is_stationary_for_its_objective(beta: Any, activation: str) -> None:
    """Eq. 44 with beta of each layer's own."""
    model = dual_nets.mlp(activation, spread=0.4)
    x, y = nets.batch(model, (7,), 3)
    s = Settings("lpom", beta=beta, passes=60, nudge="prox")
    made = twins_dual.step(network_of(model, (7,)), x.numpy(), y.tolist(), s)
    assert made.residuals[-1] < 1e-13
    gradient: dict[str, Any] = {}
    for b in range(len(x)):
        states = held(made.plus, b, 1)
        objective = dual_objectives.lifted(model, activation, states, int(y[b]), s)
        for grad in torch.autograd.grad(objective, leaves(states), retain_graph=True):
            assert float(grad.abs().max()) < 1e-10
        summed(model, objective, gradient, len(x))
    assert apart(made.updates, gradient) < 1e-12


def norms(model: nn.Sequential, beta: list[float]) -> dict[int, float]:
    """(beta_k / beta_{k+1}) |W_k^T W_k| of each hidden state k of an MLP."""
    return {
        k: beta[k - 1] / beta[k] * float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) ** 2
        for k, layer in enumerate(dual_objectives.layers_of(model)[1:], 1)
    }


@pytest.mark.parametrize("variant", ["lpom", "original"])
def test_damping_keeps_the_resting_point_and_makes_it_one(variant: str) -> None:
    """Eq. 50 with ReLUs: states at rest minimise Eq. 44 one by one; without damping nothing comes to rest."""
    model = dual_nets.mlp("relu", (7, 20, 20, 5), spread=1.6)
    x, y = nets.batch(model, (7,), 1)
    net = network_of(model, (7,))
    beta = [0.5, 0.5, 0.5]
    damping = norms(model, beta)
    assert min(damping.values()) > 2
    plain, damped = (
        twins_dual.step(
            net, x.numpy(), y.tolist(), Settings(variant, 1.0, beta, passes=count, nudge="prox", damping=by)
        )
        for count, by in ((30, {}), (2000, damping))
    )
    assert plain.residuals[-1] > 0.1
    assert damped.residuals[-1] < 1e-12
    for b in range(len(x)):
        states = held(damped.plus, b, 1)
        objective = dual_objectives.lifted(model, "relu", states, int(y[b]), Settings("lpom", beta=beta))
        for state, grad in zip(states[1:], torch.autograd.grad(objective, states[1:]), strict=True):
            at_work = state > 0 if state is not states[-1] else torch.ones_like(state, dtype=torch.bool)
            assert float(grad[at_work].abs().max()) < 1e-9
            assert bool((grad[~at_work] > -1e-9).all())


def test_damping_as_printed_moves_the_resting_point_of_other_activations() -> None:
    """Eq. 50 holds for projections (f f = f): with tanh, f((a + L s) / (1 + L)) = s is not f(a) = s."""
    model = dual_nets.mlp("tanh", spread=0.4)
    x, y = nets.batch(model, (7,), 2)
    net = network_of(model, (7,))
    free, damped = (
        twins_dual.step(net, x.numpy(), y.tolist(), Settings("lpom", beta=0.5, passes=300, nudge="prox", damping=by))
        for by in ({}, {1: 1.0, 2: 1.0})
    )
    assert free.residuals[-1] < 1e-13 and damped.residuals[-1] < 1e-13
    assert np.abs(free.plus[1] - damped.plus[1]).max() > 0.01


# --- equilibrium propagation and contrastive Hebbian learning ----------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("loss", ["half_sse", "ce"])
def test_equilibrium_propagation_rests_where_its_energy_does(loss: str, activation: str) -> None:
    model = dual_nets.mlp(activation, spread=0.4)
    x, y = nets.batch(model, (7,), 2)
    _, kept = twins_equilibrium.eqprop(
        network_of(model, (7,)), x.numpy(), y.tolist(), loss=loss, beta=0.5, phases=3, free_steps=300, nudged_steps=300
    )
    for b, phases in enumerate(kept):
        for states, nudge in zip(phases, (0.0, 0.5, -0.5), strict=True):
            points = [torch.from_numpy(state.copy()).requires_grad_(k > 0) for k, state in enumerate(states)]
            energy = dual_objectives.hopfield(model, activation, points, int(y[b]), nudge, loss)
            for grad in torch.autograd.grad(energy, points[1:]):
                assert float(grad.abs().max()) < 1e-10


def equilibrium_loss(model: nn.Sequential, x: Tensor, y: Tensor, loss: str, gain: float, steps: int) -> Tensor:
    """The loss at the free resting point of the network with feedback, by autograd's own way through its dynamics."""
    layers = dual_objectives.layers_of(model)
    states = [x, *(torch.zeros(len(x), layer.out_features, dtype=x.dtype) for layer in layers)]
    for _ in range(steps):
        pulls = [layer(state) for layer, state in zip(layers, states[:-1], strict=True)]
        fed = [torch.tanh(a + gain * states[k + 2] @ layers[k + 1].weight) for k, a in enumerate(pulls[:-1])]
        states = [x, *fed, pulls[-1]]
    return sum(
        (dual_objectives.loss_of(loss, s, int(c)) for s, c in zip(states[-1], y, strict=True)), x.new_zeros(())
    ) / len(x)


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("loss", ["half_sse", "ce"])
def test_weakly_nudged_equilibria_give_the_gradient_of_the_loss_at_rest(loss: str, phases: int) -> None:
    """Not backprop's through an ordinary forward pass: the free phase has the feedback too."""
    model = dual_nets.mlp("tanh", spread=0.6)
    x, y = nets.batch(model, (7,), 3)
    names, ps = zip(*model.named_parameters(), strict=True)
    value = equilibrium_loss(model, x, y, loss, 1.0, 200)
    gradient = {name: grad.numpy() for name, grad in zip(names, torch.autograd.grad(value, ps), strict=True)}
    errors = []
    for beta in (1e-2, 1e-3):
        made, _ = twins_equilibrium.eqprop(network_of(model, (7,)), x.numpy(), y.tolist(), loss=loss, beta=beta,
                                           phases=phases, free_steps=200, nudged_steps=200)  # fmt: skip
        errors.append(apart(made, gradient))
    assert errors[0] < (0.03 if phases == 2 else 1e-3)
    assert errors[0] / errors[1] == pytest.approx(10 ** (phases - 1), rel=0.2)
    assert apart(backprop(model, x, y, loss), gradient) > 0.05


def test_contrastive_hebbian_learning_with_weak_feedback_gives_the_gradient() -> None:
    model = dual_nets.mlp("tanh", spread=1.0)
    x, y = nets.batch(model, (7,), 3)
    gradient = backprop(model, x, y, "half_sse")
    errors = []
    for gamma in (1e-2, 1e-3):
        made, kept = twins_equilibrium.chl(network_of(model, (7,)), x.numpy(), y.tolist(), gamma=gamma)
        errors.append(apart(made, gradient))
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)
    assert all(np.array_equal(clamped[-1], np.eye(5)[int(label)]) for (_, clamped), label in zip(kept, y, strict=True))
