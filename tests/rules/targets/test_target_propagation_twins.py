"""Target propagation equals its slow twin in float64: targets, layers' updates, and what feedback maps learn from noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import credit
from credit.models.activations import Identity
from tests.rules.lfp.test_lfp_twins import close, image, numbers
from tests.rules.targets.test_lra_networks import synapse
from tests.support import dual_nets, nets, target_objectives, twins_lra, twins_target
from tests.support.architectures import cifar_resnet, lenet5
from tests.support.covering import covering
from tests.support.dual_nets import network_of
from tests.support.lra_nets import Stacked
from tests.support.target_objectives import Map
from tests.support.twins_lra import Dense, Synapse
from tests.support.twins_states import Network
from tests.support.twins_target import Back, Settings

STD = 0.3


def ready(model: nn.Module, x: Tensor, y: Tensor, s: Settings, **more: Any) -> tuple[Any, dict[str, Tensor]]:
    """A rule whose maps have biases too, and what its next step draws."""
    words = ("difference", "first_target", "target_step", "feedback_loss", "feedback_steps", "loss")
    told: dict[str, Any] = {word: getattr(s, word) for word in words}
    if s.feedback_steps > 1:
        told["feedback_lr"] = s.feedback_lr
    rule: Any = credit.rule("dtp", model, precision="float64", seed=7, noise_std=STD, example=x, **told, **more)
    rule.keep_errors = True
    rule.position = 3
    draw = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, p in rule.named_parameters():
            if name.endswith("bias"):
                p.copy_(0.5 * torch.randn(p.shape, generator=draw, dtype=p.dtype))
    return rule, rule.functional(x, y)[1][-1]


def drawn(draws: dict[str, Tensor], feedback: str, word: str, at: int) -> Tensor:
    """Noise of the map of this name."""
    what = {"eps": "noise", "delta": "eta"}[word]
    return draws[f"{feedback}.{what}{at + 1 if at else ''}"] * STD


def check(
    case: tuple[nn.Module, Network, Tensor, Tensor], names: dict[int, str], s: Settings, **more: Any
) -> dict[str, Any]:
    """Compare a rule's step with its twin's, nodes by number and name; return the maps' parameters."""
    model, net, x, y = case
    rule, draws = ready(model, x, y, s, **more)
    s, names = replace(s, nodes=list(names)), names | {len(net): "output"}
    held = dict(rule.named_parameters())
    free = target_objectives.run(model, x, {}, list(names.values()))
    chain = s.chain(len(net))
    called = {low: f"feedback.{names[low]}.{names[high]}" for low, high in zip(chain, chain[1:], strict=False)}
    assert set(held) == {f"{name}.{part}" for name in called.values() for part in ("weight", "bias")}
    maps = {}
    for low, high in zip(chain, chain[1:], strict=False):
        weight, bias = held[f"{called[low]}.weight"], held[f"{called[low]}.bias"]
        lower, upper = free[names[low]].shape[1:], free[names[high]].shape[1:]
        made: Synapse = Dense(numbers(weight))
        if weight.dim() == 4:
            made = twins_lra.Maps(numbers(weight), image(tuple(lower)), image(tuple(upper)))
        channel = np.repeat(np.arange(len(bias)), lower.numel() // len(bias))
        maps[low] = Back(made, numbers(bias), channel, net[low - 1].activation)
    twin = twins_target.step(
        net, maps, x.numpy(), y.tolist(), s, lambda word, low, at: drawn(draws, called[low], word, at).numpy()
    )
    done = rule.updates(x, y)
    close(done.logits, twin.logits, "logits")
    assert float(done.loss) == pytest.approx(twin.loss, rel=1e-12)
    assert list(done.targets) == list(done.errors) == [names[k] for k in twin.targets], "in order of execution"
    for k, target in twin.targets.items():
        close(done.targets[names[k]].flatten(1), target, f"target of {names[k]}")
        close(done.errors[names[k]].flatten(1), twin.states[k] - target, f"error of {names[k]}")
    expected = twin.updates | {
        f"{called[low]}.{part}": update
        for low, made_ in twin.feedback.items()
        for part, update in zip(("weight", "bias"), made_, strict=True)
    }
    rule.step(x, y)
    gradients: Any = {name: p.grad for name, p in [*model.named_parameters(), *rule.named_parameters()]}
    assert set(done.updates) == set(gradients) == set(expected)
    for name, update in expected.items():
        assert update.any(), f"{name} is given nothing: the comparison says nothing"
        close(done.updates[name], update, name)
        close(gradients[name], update, f"gradient of {name}")
    return held


def dense(activation: str, widths: tuple[int, ...] = (6, 8, 7, 9, 5)) -> tuple[nn.Module, Network, Tensor, Tensor]:
    model = Stacked(activation, widths)
    return model, model.network(), *nets.batch(model, widths[:1], 4)


def taken(activation: str, first: str, difference: bool, feedback: str) -> bool:
    """Whether a rule takes these options; the others are refused."""
    return difference or feedback != "l_drl"


ACTS = ("tanh", "leaky_relu", "elu", "sigmoid", "relu")
THREE = {1: "act1", 2: "act2", 3: "act3"}


@pytest.mark.parametrize(
    ("activation", "first", "difference", "feedback"),
    covering(2, ACTS, ("penultimate", "logits"), (True, False), ("reconstruction", "l_drl"), where=taken, slow=4),
)
def test_dense_networks(activation: str, first: str, difference: bool, feedback: str) -> None:
    for loss in ("ce", "half_sse"):
        for steps in (1, 3):
            check(dense(activation), THREE, Settings(difference, first, 0.7, feedback, steps, 0.02, loss))


def test_tp_is_dtp_without_difference() -> None:
    model, _, x, y = dense("tanh")

    def updates(name: str, **told: Any) -> dict[str, Tensor]:
        rule = credit.rule(name, model, precision="float64", example=x, target_step=0.3, **told)
        return rule.updates(x, y).updates

    tp, plain, dtp = updates("tp"), updates("dtp", difference=False), updates("dtp")
    assert all(bool(torch.equal(update, plain[name])) for name, update in tp.items())
    assert not torch.equal(tp["fc1.weight"], dtp["fc1.weight"])


@pytest.mark.parametrize(
    ("order", "first", "synapses"),
    covering(2, ("act-max", "max-act", "both", "later", "average", "linear", "quarters"), ("penultimate", "logits"),
             ("auto", "dense"), slow=3),
)  # fmt: skip
def test_convolutions_and_pools(order: str, first: str, synapses: str) -> None:
    model = dual_nets.conv(order, "tanh")
    case = model, network_of(model, dual_nets.IMAGE), *nets.batch(model, dual_nets.IMAGE, 3)
    acts = [name for name, layer in model.named_children() if isinstance(layer, nn.Tanh)]
    for feedback in ("reconstruction", "l_drl"):
        s = Settings(first_target=first, feedback_loss=feedback)
        held = check(case, dict(enumerate(acts, 1)), s, synapses=synapses)
        assert any(p.dim() == 4 for p in held.values()) == (synapses == "auto")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("first", ["penultimate", "logits"])
@pytest.mark.parametrize("feedback", ["reconstruction", "l_drl"])
def test_blocks(feedback: str, first: str, activation: str) -> None:
    """Nodes are the stem and the blocks' outputs; inside a block signals go by derivatives."""
    model = dual_nets.Residual(activation)
    case = model, model.network(), *nets.batch(model, dual_nets.RESIDUAL_IMAGE, 3)
    check(case, {1: "act0", 3: "act2", 5: "act4"}, Settings(first_target=first, feedback_loss=feedback))


# --- networks of configs against autograd -------------------------------------------------------------------------------


def by_autograd(model: nn.Module, nodes: list[str], x: Tensor, y: Tensor, s: Settings) -> None:
    """Compare a rule's step with what autograd finds."""
    rule, draws = ready(model, x, y, s)
    free = target_objectives.run(model, x, {}, nodes)
    chain = [*nodes, "output"] if s.first_target == "logits" else nodes
    held, maps, called = dict(rule.named_parameters()), {}, {}
    for low, high in zip(chain, chain[1:], strict=False):
        called[low] = f"feedback.{low}.{high}"
        shape, act = free[low].shape[1:], model.get_submodule(low)
        weight, carry = synapse(held[f"{called[low]}.weight"], shape)

        def back(V: Tensor, c: Tensor, u: Tensor, carry: Any = carry, act: Any = act, shape: Any = shape) -> Tensor:
            out: Tensor = act(carry(V, u) + (c.reshape(shape) if V.dim() == 2 else c[:, None, None]))
            return out

        maps[low] = Map(weight, held[f"{called[low]}.bias"].detach(), back)
    found = rule.updates(x, y)
    expected = target_objectives.step(
        model, nodes, maps, x, y, s, lambda word, low, at: drawn(draws, called[low], word, at)
    )
    for name, target in expected.targets.items():
        close(found.targets[name], target, f"target of {name}")
    feedback = {
        f"{called[low]}.{part}": update
        for low, made in expected.feedback.items()
        for part, update in zip(("weight", "bias"), made, strict=True)
    }
    assert set(found.updates) == set(expected.updates) | set(feedback)
    for name, update in (expected.updates | feedback).items():
        assert bool(update.any()), f"{name} is given nothing: the comparison says nothing"
        close(found.updates[name], update, name)


@pytest.mark.parametrize("feedback", ["reconstruction", "l_drl"])
@pytest.mark.parametrize("first", ["penultimate", "logits"])
@pytest.mark.parametrize("norm", ["none", "frozen"])
def test_residual_networks(norm: Any, first: str, feedback: str) -> None:
    torch.manual_seed(1)
    model = cifar_resnet((3, 8, 8), 5, depth=8, width=3, norm=norm, activation="tanh").double()
    nodes = ["act", *(f"stage{k}_block1.act2" for k in (1, 2, 3))]
    by_autograd(model, nodes, *nets.batch(model, (3, 8, 8), 3), Settings(first_target=first, feedback_loss=feedback))


@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("first", ["penultimate", "logits"])
def test_lenet(first: str, pool: Any) -> None:
    torch.manual_seed(1)
    model = lenet5((1, 16, 16), 5, pool=pool, activation="tanh").double()
    s = Settings(first_target=first, feedback_loss="l_drl", feedback_steps=2, feedback_lr=0.01, loss="half_sse")
    by_autograd(model, ["act1", "act2", "act3", "act4"], *nets.batch(model, (1, 16, 16), 2), s)


# --- exact inverses -----------------------------------------------------------------------------------------------------


def inverted(widths: tuple[int, ...] = (5, 5, 5, 5)) -> tuple[Any, Stacked, Tensor, Tensor]:
    """A linear network and its rule, every feedback map the inverse of its layer."""
    model = Stacked("identity", widths)
    model.act1, model.act2 = Identity(), Identity()  # torch's would be none
    x, y = nets.batch(model, (5,), 4)
    rule: Any = credit.rule(
        "dtp", model, precision="float64", example=x, first_target="logits", target_step=0.5, loss="half_sse"
    )
    rule.keep_errors = True
    held = dict(rule.named_parameters())
    with torch.no_grad():
        for name, layer in (("feedback.act1.act2", model.get_submodule("fc2")), ("feedback.act2.output", model.head)):
            inverse = torch.linalg.inv(layer.get_parameter("weight"))
            held[f"{name}.weight"].copy_(inverse)
            held[f"{name}.bias"].copy_(-inverse @ layer.get_parameter("bias"))
    return rule, model, x, y


def test_exact_inverses_give_gauss_newton_targets() -> None:
    """t_l - z_l = -eta J^-1 dl/dlogits with J the Jacobian of the logits by z_l: the layers above undone, not transposed."""
    rule, model, x, y = inverted()
    done = rule.updates(x, y)
    pull = done.logits - nn.functional.one_hot(y, 5)
    head, second = (model.get_parameter(f"{name}.weight").detach() for name in ("head", "fc2"))
    for name, J in (("act2", head), ("act1", head @ second)):
        gauss_newton = torch.linalg.lstsq(J, pull.T).solution.T
        close(done.errors[name], 0.5 * gauss_newton, name)
    close(done.updates["fc1.bias"], 2 * 0.5 * torch.linalg.lstsq(head @ second, pull.T).solution.T.mean(0), "fc1.bias")


def test_exact_inverses_learn_nothing() -> None:
    rule, _, x, y = inverted()
    for name, update in rule.updates(x, y).updates.items():
        assert (float(update.abs().max()) < 1e-12) == name.startswith("feedback."), name
