"""Recursive local representation alignment equals its slow twin in float64: errors, targets, updates of W, b and E."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.engine.ops.activations import Activate
from credit.engine.plan import Plan
from tests.rules.lfp.test_lfp_twins import close, image, numbers
from tests.support import dual_nets, nets, twins_lra
from tests.support.architectures import mlp
from tests.support.covering import covering
from tests.support.dual_nets import network_of
from tests.support.lra_nets import Stacked
from tests.support.twins_lra import Dense, Everywhere, Maps, Pair, Settings, Synapse
from tests.support.twins_states import Network

ACTS = ("tanh", "sign", "relu", "leaky_relu", "elu", "sigmoid")
UPDATES = ("lra_e", "paper", "paper_alg1", "fixed")
WIDTHS = (6, 7, 7, 7, 7, 5)
FAR = {"sign": 8.0}
"""A beta at which units of this kind change at all."""


def names_of(model: nn.Module, net: Network) -> dict[int, str]:
    """Names of the nodes by their numbers: activations in order of execution, the output last."""
    acts = [op.name for op in Plan(model).ops if isinstance(op, Activate)]
    assert len(acts) == len(net) - 1
    return dict(enumerate([*acts, "output"], 1))


def synapse(weight: Tensor, target: torch.Size, source: torch.Size) -> Synapse:
    """The twin of an error synapse between nodes of these shapes (without the batch)."""
    units = target.numel(), source.numel()
    if weight.dim() == 4:
        return Maps(numbers(weight), image(tuple(target)), image(tuple(source)))
    if tuple(weight.shape) == units:
        return Dense(numbers(weight))
    assert weight.shape == (target[0], units[1])
    return Everywhere(numbers(weight), units[0] // target[0])


def options(s: Settings, names: dict[int, str]) -> dict[str, Any]:
    """The rule's options."""
    connectivity = {names[i]: [names[j] for j in given] or None for i, given in s.connectivity.items()}
    told: dict[str, Any] = {"skip_gap": s.gap, "error_connectivity": connectivity or None}
    words = ("beta", "gamma", "depth", "inner", "error_update", "kappa", "p", "q", "loss")
    told |= {word: getattr(s, word) for word in words}
    return told | ({"gamma": 1.0} if s.error_update == "fixed" else {})  # which would change nothing


def check(case: tuple[nn.Module, Network, Tensor, Tensor], s: Settings, **more: Any) -> Any:
    """Compare a rule's step with its twin's; return the rule."""
    model, net, x, y = case
    names = names_of(model, net)
    rule: Any = credit.rule("rec_lra", model, precision="float64", seed=7, **options(s, names), **more)
    rule.keep_errors = True
    rule.position = 3
    rule.prepare(x)
    held = dict(rule.named_parameters()) | {key: value for key, value in rule.buffers.items() if key[:6] == "error."}
    done = rule.updates(x, y)
    shapes = {name: error.shape[1:] for name, error in done.errors.items()}
    wired = twins_lra.sources(s, len(net))
    synapses = {
        (i, j): synapse(held.pop(f"error.{names[i]}.{names[j]}"), shapes[names[i]], shapes[names[j]])
        for i, given in wired.items()
        for j in given
    }
    assert not held, "synapses that the twin has none of"
    twin = twins_lra.step(net, synapses, x.numpy(), y.tolist(), s)
    close(done.logits, twin.logits, "logits")
    assert float(done.loss) == pytest.approx(twin.loss, rel=1e-12)
    for what, found, expected in (("error", done.errors, twin.errors), ("target", done.targets, twin.targets)):
        assert list(found) == [names[i] for i in expected], "in order of execution"
        for i, value in expected.items():
            assert value.any(), f"node {i} has no {what}: the comparison says nothing"
            close(found[names[i]].flatten(1), value, f"{what} of {names[i]}")
    compare(rule, model, x, y, done.updates, twin, names)
    return rule


def compare(
    rule: Any, model: nn.Module, x: Tensor, y: Tensor, found: dict[str, Tensor], twin: twins_lra.Outcome,
    names: dict[int, str],
) -> None:  # fmt: skip
    """Compare updates, and the gradients that a step leaves."""
    errors = {f"error.{names[i]}.{names[j]}": update for (i, j), update in twin.error_updates.items()}
    rule.step(x, y)
    gradients = {name: p.grad for name, p in [*model.named_parameters(), *rule.named_parameters()]}
    assert set(found) == set(gradients)
    for name, update in (twin.updates | errors).items():
        assert update.any(), f"{name} is given nothing: the comparison says nothing"
        close(found[name], update, name)
        close(gradients[name], update, f"gradient of {name}")
    for name in set(found) - set(twin.updates) - set(errors):
        assert name.startswith("error.") and name.endswith(".output") and not found[name].any(), name


def stacked(
    activation: str, residual: int, widths: tuple[int, ...] = WIDTHS
) -> tuple[nn.Module, Network, Tensor, Tensor]:
    model = Stacked(activation, widths, residual)
    return model, model.network(), *nets.batch(model, widths[:1], 4)


def made(order: str, activation: str = "tanh") -> tuple[nn.Module, Network, Tensor, Tensor]:
    """A convolutional network, its twin and a batch of 3."""
    if order == "residual":
        block = dual_nets.Residual(activation)
        return block, block.network(), *nets.batch(block, dual_nets.RESIDUAL_IMAGE, 3)
    model = dual_nets.conv(order, activation)
    return model, network_of(model, dual_nets.IMAGE), *nets.batch(model, dual_nets.IMAGE, 3)


@pytest.mark.parametrize(
    ("gap", "residual", "activation", "loss"), covering(2, (0, 1, 2, 3), (0, 2, 3), ACTS, ("ce", "half_sse"))
)
def test_gaps_sums_and_activations(gap: int, residual: int, activation: str, loss: str) -> None:
    check(stacked(activation, residual), Settings(FAR.get(activation, 0.7), 0.6, gap, loss=loss))


@pytest.mark.parametrize(
    ("gap", "residual", "activation", "update"), covering(2, (0, 2, 3), (0, 2), ("tanh", "sign"), UPDATES[1:], slow=4)
)
def test_other_updates_of_synapses(gap: int, residual: int, activation: str, update: str) -> None:
    check(stacked(activation, residual), Settings(FAR.get(activation, 0.7), 0.6, gap, error_update=update))


@pytest.mark.parametrize("residual", [0, 2, 3])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_the_mlp_of_configs(activation: str, residual: int) -> None:
    """arch=mlp with arch.residual_gap, whose first sum may reach down to the input."""
    arch: Any = mlp((2, 3), 5, widths=(6, 6, 6, 6), activation=activation, residual_gap=residual).double()
    twin = Stacked(activation, (6, 6, 6, 6, 6, 5), residual)
    arch.load_state_dict(twin.state_dict())
    x, y = nets.batch(twin, (2, 3), 4)
    torch.testing.assert_close(arch(x), twin(x))
    for gap in (0, 2, 3):
        check((arch, twin.network(), x, y), Settings(0.5, gap=gap))


NORMS = (1, 1.5, 2, 3)


@pytest.mark.parametrize(
    ("p", "q", "activation", "loss"), covering(2, NORMS, NORMS, ("tanh", "sign"), ("ce", "half_sse"))
)
def test_norms(p: float, q: float, activation: str, loss: str) -> None:
    s = Settings(FAR.get(activation, 0.7), gap=2, kappa=[0.5, 1.0, 2.0, 0.3, 1.7], p=p, q=q, loss=loss)
    check(stacked(activation, 2), s)


@pytest.mark.parametrize(("p", "q"), [(1, 3), (1.5, 1), (2, 1.5), (3, 2)])
def test_norms_at_depth_1_and_of_maps(p: float, q: float) -> None:
    check(stacked("tanh", 2), Settings(0.7, gap=2, kappa=[0.5, 2.0, 1.7], p=p, q=q, depth=1))
    check(made("max-act"), Settings(0.7, gap=2, kappa=0.4, p=p, q=q))


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("q", [1, 1.5, 2, 3])
def test_samples_at_their_target_have_no_error(p: float, q: float) -> None:
    """With sign units and a small beta most samples have not one unit that changes; 0 to a negative power is nowhere."""
    model = Stacked("sign", WIDTHS)
    x, y = nets.batch(model, (6,), 40)
    names = names_of(model, model.network())
    s = Settings(0.4, gap=0, p=p, q=q)
    rule: Any = credit.rule("rec_lra", model, precision="float64", seed=7, **options(s, names))
    rule.keep_errors = True
    done = rule.updates(x, y)
    still = (done.errors["act4"] == 0).all(1)
    assert bool(still.any()) and not bool(still.all())
    assert all(bool(torch.isfinite(update).all()) for update in done.updates.values())
    synapses = {
        (i, i + 1): Dense(numbers(dict(rule.named_parameters())[f"error.{names[i]}.{names[i + 1]}"]))
        for i in range(1, 5)
    }
    twin = twins_lra.step(model.network(), synapses, x.numpy(), y.tolist(), s)
    for i, value in twin.errors.items():
        close(done.errors[names[i]], value, names[i])
    for name, update in twin.updates.items():
        close(done.updates[name], update, name)


WIRINGS: dict[str, dict[int, list[int]]] = {
    "several": {1: [5, 3], 2: [4]},
    "all": {1: [2, 3, 4, 5], 2: [3, 4, 5], 3: [4, 5]},
    "not adjacent": {3: [5], 1: [3], 2: [4]},
    "upwards": {1: [5], 3: [1], 2: [3, 1]},
    "without a target": {2: [], 1: [5]},
    "one alone": {1: [], 2: [], 4: [], 3: [5]},
}


@pytest.mark.parametrize(("word", "residual", "update"), covering(2, tuple(WIRINGS), (0, 2), UPDATES))
def test_connectivities(word: str, residual: int, update: str) -> None:
    check(stacked("tanh", residual), Settings(0.7, 0.6, 2, WIRINGS[word], error_update=update))


@pytest.mark.parametrize(
    ("gap", "residual", "depth", "inner", "activation", "connectivity"),
    covering(2, (1, 2, 3), (0, 2), (1, 2, 3, 9), ("local", "backprop"), ("tanh", "elu"), ({}, {1: [5], 2: [4, 3]}),
             where=lambda gap, _, depth, inner, __, links: depth == 1 if inner == "backprop" else gap > 1 or not links, slow=3),
)  # fmt: skip
def test_depths(
    gap: int, residual: int, depth: int, inner: str, activation: str, connectivity: dict[int, list[int]]
) -> None:
    check(stacked(activation, residual), Settings(0.7, gap=gap, connectivity=connectivity, depth=depth, inner=inner))


@pytest.mark.parametrize("synapses", ["auto", "dense"])
@pytest.mark.parametrize("order", ["act-max", "max-act", "both", "later", "average", "linear", "quarters", "means"])
def test_convolutions_and_pools(order: str, synapses: str) -> None:
    check(made(order), Settings(0.5, gap=2), synapses=synapses)
    rule = check(made(order), Settings(0.5), synapses=synapses)
    shapes = [p.dim() for p in rule.parameters()]
    assert 2 in shapes and (4 in shapes) == (synapses == "auto")


@pytest.mark.parametrize("update", UPDATES[1:])
@pytest.mark.parametrize("order", ["max-act", "later"])
def test_other_updates_of_synapses_between_maps(order: str, update: str) -> None:
    check(made(order), Settings(0.5, 0.7, error_update=update))


@pytest.mark.parametrize("order", ["act-max", "later", "average"])
def test_the_output_heard_alike_at_every_position(order: str) -> None:
    for gap in (1, 2):
        check(made(order), Settings(0.5, gap=gap), synapses="conv")


@pytest.mark.parametrize("activation", ["tanh", "relu", "sign"])
@pytest.mark.parametrize(
    ("connectivity", "depth", "inner"),
    [({}, None, "local"), ({1: [6], 3: [6], 5: [6]}, None, "local"), ({1: [6], 3: [6], 5: [6]}, 2, "local"),
     ({1: [6], 3: [6], 5: [6]}, 1, "local"), ({1: [6], 3: [6], 5: [6]}, 1, "backprop"), ({2: [5, 6], 1: [2, 3]}, None, "local")],
)  # fmt: skip
def test_residual_blocks(activation: str, connectivity: dict[int, list[int]], depth: int | None, inner: str) -> None:
    if activation == "sign" and depth == 1:
        return  # derivatives that are zero everywhere
    check(
        made("residual", activation),
        Settings(FAR.get(activation, 0.5), connectivity=connectivity, depth=depth, inner=inner),
    )


def test_blocks_are_wired_to_the_output_by_themselves() -> None:
    model, net, x, y = made("residual")
    wired = Settings(0.5, connectivity={1: [6], 3: [6], 5: [6]})
    names = names_of(model, net)
    by_hand = credit.rule("rec_lra", model, precision="float64", **options(wired, names))
    expected = by_hand.updates(x, y).updates
    for gap in ("auto", "blocks"):
        found = credit.rule("rec_lra", model, precision="float64", beta=0.5, skip_gap=gap).updates(x, y).updates
        assert {name: bool(torch.equal(update, expected[name])) for name, update in found.items()} == dict.fromkeys(
            expected, True
        )


def test_auto_is_two_for_chains_and_lra_e_has_no_skips() -> None:
    def pairs(name: str, widths: tuple[int, ...], **told: Any) -> set[str]:
        model = nets.mlp("tanh", widths)
        rule = credit.rule(name, model, example=torch.zeros(2, widths[0], dtype=torch.float64), **told)
        return {key for key, _ in rule.named_parameters()}

    assert pairs("rec_lra", (6, 7, 7, 7, 5)) == {"error.1.3", "error.3.output", "error.5.output"}
    assert pairs("rec_lra", (6, 7, 5)) == {"error.1.output"}
    assert pairs("lra_e", (6, 7, 7, 7, 5)) == {"error.1.3", "error.3.5", "error.5.output"}
    assert pairs("lra_e", (6, 7, 7, 7, 5), error_update="fixed") == set()


def test_pairs_are_told_apart() -> None:
    """The comparison would see one synapse in another's place."""
    model, net, x, y = stacked("tanh", 0)
    s = Settings(0.7, gap=2)
    rule: Any = credit.rule("rec_lra", model, precision="float64", beta=0.7, skip_gap=2)
    rule.prepare(x)
    held = dict(rule.named_parameters())
    synapses: dict[Pair, Synapse] = {
        (1, 2): Dense(numbers(held["error.act3.act4"])), (2, 5): Dense(numbers(held["error.act2.output"])),
        (3, 4): Dense(numbers(held["error.act1.act2"])), (4, 5): Dense(numbers(held["error.act4.output"])),
    }  # fmt: skip
    twin = twins_lra.step(net, synapses, x.numpy(), y.tolist(), s)
    assert not torch.allclose(rule.updates(x, y).updates["fc1.weight"], torch.from_numpy(twin.updates["fc1.weight"]))
