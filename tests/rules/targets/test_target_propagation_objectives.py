"""The twin of target propagation by itself, against autograd on its losses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, nets, target_objectives, twins_lra, twins_target
from tests.support.covering import covering
from tests.support.dual_nets import network_of
from tests.support.lra_nets import Stacked
from tests.support.target_objectives import Map
from tests.support.twins_lra import Dense
from tests.support.twins_states import Array, Network
from tests.support.twins_target import Back, Settings


def noise(word: str, low: int, at: int, shape: tuple[int, ...]) -> Tensor:
    """Some numbers, others for every name."""
    draw = torch.Generator().manual_seed(1000 * low + 10 * at + len(word))
    return 0.3 * torch.randn(shape, generator=draw, dtype=torch.float64)


def densely(net: Network, x: Tensor, s: Settings, seed: int = 5) -> dict[int, Back]:
    """A random dense map for every two neighbours in the chain of targets."""
    draw = np.random.default_rng(seed)
    sizes = [len(state) for state in twins_lra.predict(net, x[0].flatten().numpy())]
    chain = s.chain(len(net))
    return {
        low: Back(
            Dense(draw.normal(size=(sizes[low], sizes[high])) / np.sqrt(sizes[high])), draw.normal(size=sizes[low]),
            np.arange(sizes[low]), net[low - 1].activation,
        ) for low, high in zip(chain, chain[1:], strict=False)
    }  # fmt: skip


def in_torch(back: Back, shape: tuple[int, ...], act: nn.Module) -> Map:
    """A dense map of the twin's, whose lower node has samples of this shape."""
    assert isinstance(back.synapse, Dense)

    def apply(V: Tensor, c: Tensor, u: Tensor) -> Tensor:
        out: Tensor = act(u.flatten(1) @ V.T + c).reshape(len(u), *shape)
        return out

    return Map(torch.from_numpy(back.synapse.weight), torch.from_numpy(back.bias), apply)


def check(model: nn.Module, net: Network, names: dict[int, str], x: Tensor, y: Tensor, s: Settings) -> None:
    """Compare a twin's step, its maps dense, with what autograd finds; ``names`` of the nodes."""
    s = replace(s, nodes=list(names))
    free = target_objectives.run(model, x, {}, list(names.values()))
    shapes = {number: free[name].shape for number, name in names.items()}
    maps = densely(net, x, s)
    told = {names[low]: in_torch(back, shapes[low][1:], model.get_submodule(names[low])) for low, back in maps.items()}
    heard: Any = {}

    def shaped(word: str, low: int, at: int) -> Tensor:
        high = s.chain(len(net))[s.chain(len(net)).index(low) + 1]
        upper = shapes.get(high, free["output"].shape)
        heard[word, low, at] = noise(word, low, at, tuple(shapes[low] if word == "eps" else upper))
        return heard[word, low, at]

    numbers = {name: number for number, name in names.items()}
    twin = twins_target.step(net, maps, x.numpy(), y.tolist(), s, lambda *at: shaped(*at).flatten(1).numpy())
    found = target_objectives.step(
        model, list(names.values()), told, x, y, s, lambda word, low, at: shaped(word, numbers[low], at)
    )
    assert heard
    for number, t in twin.targets.items():
        close(found.targets[names.get(number, "output")].flatten(1), t, f"target of {number}")
    assert set(found.updates) == set(twin.updates)
    for name, update in twin.updates.items():
        close(found.updates[name], update, name)
    assert {numbers[name] for name in found.feedback} == set(twin.feedback) == set(maps)
    for low, made in twin.feedback.items():
        for side, expected in zip(found.feedback[names[low]], made, strict=True):
            close(side, expected, f"feedback to {low}")


ACTS = ("tanh", "leaky_relu", "elu", "sigmoid", "relu")


@pytest.mark.parametrize(
    ("activation", "loss", "first", "difference", "feedback"),
    covering(
        2, ACTS, ("ce", "half_sse"), ("penultimate", "logits"), (True, False), ("reconstruction", "l_drl"), slow=5
    ),
)
def test_dense_networks(activation: str, loss: str, first: str, difference: bool, feedback: str) -> None:
    model = Stacked(activation, (6, 8, 7, 9, 5))
    x, y = nets.batch(model, (6,), 4)
    s = Settings(difference, first, 0.7, feedback, loss=loss)
    for steps in (1, 3):
        check(model, model.network(), {1: "act1", 2: "act2", 3: "act3"}, x, y, replace(s, feedback_steps=steps))


@pytest.mark.parametrize("first", ["penultimate", "logits"])
@pytest.mark.parametrize("order", ["act-max", "max-act", "both", "later", "average", "linear"])
def test_convolutions_and_pools(order: str, first: str) -> None:
    model = dual_nets.conv(order, "tanh")
    x, y = nets.batch(model, dual_nets.IMAGE, 3)
    acts = [name for name, layer in model.named_children() if isinstance(layer, nn.Tanh)]
    check(model, network_of(model, dual_nets.IMAGE), dict(enumerate(acts, 1)), x, y, Settings(first_target=first))


@pytest.mark.parametrize("first", ["penultimate", "logits"])
@pytest.mark.parametrize("feedback", ["reconstruction", "l_drl"])
def test_blocks(first: str, feedback: str) -> None:
    """Nodes are the blocks' outputs; inside a block derivatives go as backprop's."""
    model = dual_nets.Residual("tanh")
    x, y = nets.batch(model, dual_nets.RESIDUAL_IMAGE, 3)
    s = Settings(first_target=first, feedback_loss=feedback)
    check(model, model.network(), {1: "act0", 3: "act2", 5: "act4"}, x, y, s)


def test_maps_between_feature_maps() -> None:
    """V a transposed convolution, c one number a channel."""
    draw = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 2, 3, 3, generator=draw, dtype=torch.float64)
    c = torch.randn(2, generator=draw, dtype=torch.float64)
    u, g = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((1, 3, 2, 3), (1, 2, 4, 5)))
    back = Back(twins_lra.Maps(weight.numpy(), (2, 4, 5), (3, 2, 3)), c.numpy(),
                np.repeat(np.arange(2), 20), "tanh")  # fmt: skip
    leaves = weight.requires_grad_(), c.requires_grad_()
    out = torch.tanh(nn.functional.conv_transpose2d(u, weight, c, 2, 1, (1, 0)))
    assert out.shape == g.shape
    close(torch.from_numpy(back(u.flatten().numpy())), out.flatten(), "G")
    made = back.update(u.flatten().numpy(), g.flatten().numpy())
    for part, grad in zip(made, torch.autograd.grad((g * out).sum(), leaves), strict=True):
        close(torch.from_numpy(part), grad, "update")


# --- what it comes to ---------------------------------------------------------------------------------------------------


def linear(widths: tuple[int, ...] = (5, 5, 5, 5)) -> Stacked:
    return Stacked("identity", widths)


def exact(net: Network, model: Stacked) -> dict[int, Back]:
    """G the inverse of each layer above a node."""
    found = {}
    for low in range(1, len(net)):
        layer = "head" if low == len(net) - 1 else f"fc{low + 1}"
        w, b = (model.get_parameter(f"{layer}.{part}").detach().numpy() for part in ("weight", "bias"))
        inverse = np.linalg.inv(w)
        found[low] = Back(Dense(inverse), -inverse @ b, np.arange(len(w)), "identity")
    return found


@pytest.mark.parametrize("difference", [True, False])
def test_exact_inverses_give_gauss_newton_targets(difference: bool) -> None:
    """With J the Jacobian of the logits by z_l, t_l - z_l = -eta J^-1 dl/dlogits, for J invertible the Gauss-Newton step of
    the squared error, scaled by eta: one that undoes the layers above instead of their transposes."""
    model = linear()
    x, y = nets.batch(model, (5,), 4)
    net = model.network()
    s = Settings(difference, "logits", 0.5, loss="half_sse")
    made = twins_target.step(net, exact(net, model), x.numpy(), y.tolist(), s, lambda *at: np.zeros((4, 5)))
    pull = made.logits - np.eye(5)[y.numpy()]
    w2, w3 = (model.get_parameter(f"{name}.weight").detach().numpy() for name in ("fc2", "head"))
    for low, J in ((2, w3), (1, w3 @ w2)):
        step = -0.5 * np.linalg.lstsq(J, pull.T, rcond=None)[0].T
        np.testing.assert_allclose(made.targets[low] - made.states[low], step, rtol=1e-9, atol=1e-12)


def test_exact_inverses_have_nothing_to_learn() -> None:
    model = linear()
    x, y = nets.batch(model, (5,), 4)
    net = model.network()
    s = Settings(first_target="logits", loss="half_sse")

    def some(word: str, low: int, at: int) -> Array:
        return np.asarray(noise(word, low, at, (4, 5)))

    made = twins_target.step(net, exact(net, model), x.numpy(), y.tolist(), s, some)
    for by in made.feedback.values():
        assert np.abs(by[0]).max() < 1e-12 and np.abs(by[1]).max() < 1e-12
