"""The twins of recursive local representation alignment by themselves, against autograd on what they descend."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.rules.energy.test_dual_objectives import apart
from tests.rules.lfp.test_lfp_twins import close, image, numbers
from tests.support import dual_nets, lra_objectives, nets, twins_lra
from tests.support.covering import covering
from tests.support.dual_nets import backprop, network_of
from tests.support.lra_nets import Stacked
from tests.support.twins_lra import Dense, Maps, Settings, Synapse
from tests.support.twins_states import Network

ACTS = ("tanh", "relu", "leaky_relu", "elu", "sigmoid", "sign")
WIDTHS = (6, 7, 7, 7, 7, 5)


def dense(net: Network, x: Tensor, s: Settings, seed: int = 5) -> dict[twins_lra.Pair, Synapse]:
    """A random matrix for every pair that the settings wire."""
    draw = np.random.default_rng(seed)
    sizes = [len(state) for state in twins_lra.predict(net, x[0].flatten().numpy())]
    return {
        (i, j): Dense(draw.normal(size=(sizes[i], sizes[j])) / np.sqrt(sizes[j]))
        for i, given in twins_lra.sources(s, len(net)).items()
        for j in given
    }


def named(names: dict[int, str], s: Settings, last: int) -> dict[str, list[str]]:
    """The connectivity by names."""
    return {names[i]: [names[j] for j in given] for i, given in twins_lra.sources(s, last).items()}


def check(model: nn.Module, net: Network, names: dict[int, str], x: Tensor, y: Tensor, s: Settings) -> None:
    """Compare a twin's step, its synapses dense, with what autograd finds."""
    synapses = dense(net, x, s)
    twin = twins_lra.step(net, synapses, x.numpy(), y.tolist(), s)
    names = names | {len(net): "output"}
    shapes = {name: held.shape[1:] for name, held in lra_objectives.run(model, list(names.values())[:-1], x).h.items()}
    told: dict[Any, Any] = {}
    for (i, j), synapse in synapses.items():
        assert isinstance(synapse, Dense)
        told[names[i], names[j]] = (
            torch.from_numpy(synapse.weight),
            lambda weight, e, i=i: lra_objectives.densely(weight, e, shapes[names[i]]),
        )
    found = lra_objectives.step(model, named(names, s, len(net)), told, x, y, s)
    close(found.logits, twin.logits, "logits")
    for side, expected in ((found.errors, twin.errors), (found.targets, twin.targets)):
        assert {names[i] for i in expected} == set(side)
        for i, value in expected.items():
            close(side[names[i]].flatten(1), value, f"node {i}")
    assert set(found.updates) == set(twin.updates)
    for name, update in twin.updates.items():
        close(found.updates[name], update, name)
    if s.error_update == "lra_e":
        for pair, update in twin.error_updates.items():
            close(found.error_updates[names[pair[0]], names[pair[1]]], update, f"E of {pair}")


@pytest.mark.parametrize(
    ("gap", "residual", "activation", "loss"), covering(2, (0, 1, 2, 3), (0, 2, 3), ACTS, ("ce", "half_sse"), slow=4)
)
def test_dense_networks(gap: int, residual: int, activation: str, loss: str) -> None:
    model = Stacked(activation, WIDTHS, residual)
    x, y = nets.batch(model, (6,), 4)
    names = {number: f"act{number}" for number in range(1, 5)}
    check(model, model.network(), names, x, y, Settings(beta=0.7, gamma=0.8, gap=gap, loss=loss))


@pytest.mark.parametrize(
    ("activation", "p", "q"), covering(2, ("tanh", "sign"), (1, 1.5, 2, 3), (1, 1.5, 2, 3), slow=3)
)
def test_norms(activation: str, p: float, q: float) -> None:
    model = Stacked(activation, WIDTHS, 2)
    x, y = nets.batch(model, (6,), 4)
    names = {number: f"act{number}" for number in range(1, 5)}
    s = Settings(beta=0.7, gap=2, kappa=[0.5, 1.0, 2.0, 0.3, 1.7], p=p, q=q)
    check(model, model.network(), names, x, y, s)


@pytest.mark.parametrize(
    ("residual", "connectivity", "depth", "inner"),
    covering(2, (0, 2), ({}, {1: [5, 3], 2: [4]}, {1: [2, 4, 5]}, {3: [1], 1: [5], 2: [3, 1]}, {2: [], 1: [5]}),
             (None, 1, 2), ("local", "backprop"), slow=4),
)  # fmt: skip
def test_connectivities(residual: int, connectivity: dict[int, list[int]], depth: int | None, inner: str) -> None:
    model = Stacked("tanh", WIDTHS, residual)
    x, y = nets.batch(model, (6,), 4)
    names = {number: f"act{number}" for number in range(1, 5)}
    s = Settings(beta=0.7, gap=2, connectivity=connectivity, depth=depth, inner=inner)
    check(model, model.network(), names, x, y, s)


@pytest.mark.parametrize("inner", ["local", "backprop"])
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("order", ["act-max", "max-act", "both", "later", "average", "linear"])
def test_convolutions_and_pools(order: str, gap: int, inner: str) -> None:
    model = dual_nets.conv(order, "tanh")
    x, y = nets.batch(model, dual_nets.IMAGE, 3)
    net = network_of(model, dual_nets.IMAGE)
    acts = [name for name, layer in model.named_children() if isinstance(layer, nn.Tanh)]
    check(model, net, dict(enumerate(acts, 1)), x, y, Settings(beta=0.5, gap=gap, inner=inner))


@pytest.mark.parametrize(("depth", "inner"), [(None, "local"), (1, "local"), (1, "backprop"), (2, "local")])
def test_blocks_with_branches(depth: int | None, inner: str) -> None:
    """Errors of nodes inside a block stay in it, and what passes a node without a target comes through every branch."""
    model = dual_nets.Residual("tanh")
    x, y = nets.batch(model, dual_nets.RESIDUAL_IMAGE, 3)
    s = Settings(beta=0.5, connectivity={1: [6], 3: [6], 5: [6]}, depth=depth, inner=inner)
    check(model, model.network(), {k: f"act{k - 1}" for k in range(1, 6)}, x, y, s)


# --- synapses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "steps"), [(3, (1, 1)), (3, (2, 2)), (1, (1, 1)), (5, (3, 2)), (5, (2, 1))])
def test_synapses_between_maps(size: int, steps: tuple[int, int]) -> None:
    """Carried as the adjoint of a convolution; <z, E e> is bilinear, and the product is its derivative by the weights."""
    draw = torch.Generator().manual_seed(1)
    z = torch.randn(1, 2, 6, 7, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.randn(3, 2, size, size, generator=draw, dtype=torch.float64).requires_grad_()
    sent = nn.functional.conv2d(z, weight, None, steps, size // 2)
    e = torch.randn(sent.shape, generator=draw, dtype=torch.float64)
    made = Maps(weight.detach().numpy(), (2, 6, 7), image(tuple(sent.shape[1:])))
    backwards, grad = torch.autograd.grad((sent * e).sum(), (z, weight))
    carried, flat = made.carry(e.flatten().numpy()), z.detach().flatten().numpy()
    close(torch.from_numpy(carried).reshape(z.shape), backwards, "E e")
    close(torch.from_numpy(made.product(flat, e.flatten().numpy())), grad, "product")
    assert flat @ carried == pytest.approx(float((sent * e).sum().detach()), rel=1e-12)


# --- what it comes close to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "half_sse"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu"])
def test_small_steps_along_the_transpose_are_backprop_s_of_one_hidden_layer(activation: str, loss: str) -> None:
    """e = z - f(h - beta d) is beta f'(h) d to first order, with d = W^T e_L."""
    model = dual_nets.mlp(activation, (7, 9, 5))
    x, y = nets.batch(model, (7,), 4)
    net, gradient = network_of(model, (7,)), backprop(model, x, y, loss)
    synapses = {(1, 2): Dense(numbers(model.get_parameter("2.weight")).T)}
    errors = []
    for beta in (1e-2, 1e-3):
        made = twins_lra.step(net, synapses, x.numpy(), y.tolist(), Settings(beta=beta, loss=loss)).updates
        for key in ("2.weight", "2.bias"):
            close(torch.from_numpy(made[key]), gradient[key], key)
        below = [key for key in gradient if key.startswith("0.")]
        errors.append(apart({key: made[key] / beta for key in below}, {key: gradient[key] for key in below}))
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)
    assert errors[1] < 1e-2


def test_errors_of_nothing_are_nothing() -> None:
    """Where a unit, or a whole sample, is at its target, the derivative is taken to be 0 for every norm."""
    for p in (1, 2, 3):
        for q in (1, 2, 3):
            assert not twins_lra.error(np.zeros(4), 1.0, p, q).any()
            some = twins_lra.error(np.array([0.0, 2.0, -1.0]), 1.0, p, q)
            assert some[0] == 0 and some[1] > 0 > some[2]
    assert np.array_equal(twins_lra.error(np.array([0.5, -2.0]), 3.0, 2, 2), [1.5, -6.0])


def test_the_printed_update_grows_and_the_repaired_one_follows_the_weights() -> None:
    """E <- E (I + lr gamma e e^T) has no bound; z_i e_j^T is the transpose of what W's update is."""
    model = dual_nets.mlp("tanh", (7, 9, 5))
    x, y = nets.batch(model, (7,), 4)
    net = network_of(model, (7,))
    start = dense(net, x, Settings())[1, 2]
    assert isinstance(start, Dense)
    sizes = {}
    for word in ("paper", "lra_e"):
        E = start.weight.copy()
        sizes[word] = [float(np.linalg.norm(E))]
        for _ in range(30):
            made = twins_lra.step(net, {(1, 2): Dense(E)}, x.numpy(), y.tolist(), Settings(error_update=word))
            if word == "lra_e":
                close(torch.from_numpy(made.error_updates[1, 2].T.copy()), made.updates["2.weight"], "E's update")
            E = E - 0.5 * made.error_updates[1, 2]
            sizes[word].append(float(np.linalg.norm(E)))
    assert all(after > before for before, after in zip(sizes["paper"], sizes["paper"][1:], strict=False))
    assert sizes["paper"][-1] > 10 * sizes["paper"][0]
