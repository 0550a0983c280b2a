"""Target propagation among layers that draw or count: dropout, batch norm; and ways to run a step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.models.activations import Identity
from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, lra_objectives, nets
from tests.support.architectures import cifar_resnet, mlp
from tests.support.lra_nets import Stacked


def perceptron(**options: Any) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model = mlp((6,), 5, widths=(9, 8, 7), activation="tanh", **options).double()
    return model, *nets.batch(model, (6,), 6)


def told(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> tuple[Any, Any, dict[str, Tensor]]:
    """A rule, its outcome, and the values of its nodes in that step."""
    rule: Any = credit.rule("dtp", model, precision="float64", example=x, seed=5, **options)
    rule.keep_errors = True
    done = rule.updates(x, y)
    return rule, done, {name: done.targets[name] + done.errors[name] for name in done.targets}


@pytest.mark.parametrize("options", [{"dropout": 0.4}, {"norm": "batch"}, {"norm": "batch", "dropout": 0.3}])
def test_without_noise_feedback_sees_the_step_s_own_values(options: dict[str, Any]) -> None:
    """F is the function that the forward pass was: the same dropped units, the batch's own statistics."""
    model, x, y = perceptron(**options)
    rule, done, z = told(model, x, y, noise_std=0.0)
    held = dict(rule.named_parameters())
    for low, high in (("act1", "act2"), ("act2", "act3")):
        V, c = (held[f"feedback.{low}.{high}.{part}"] for part in ("weight", "bias"))
        loss = (torch.tanh(z[high] @ V.T + c) - z[low]).square().sum() / len(x)
        for part, grad in zip(("weight", "bias"), torch.autograd.grad(loss, (V, c)), strict=True):
            close(done.updates[f"feedback.{low}.{high}.{part}"], grad, f"{low} {part}")


def test_statistics_that_nothing_learns_from_are_the_batch_s_too() -> None:
    """A batch norm without weights right above an activation, which no signal crosses."""
    model = nn.Sequential(
        nn.Linear(6, 9), nn.Tanh(), nn.BatchNorm1d(9, affine=False), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 5)
    ).double()
    x, y = nets.batch(model, (6,), 6)
    rule, done, z = told(model, x, y, noise_std=0.0)
    V, c = rule.parameters()
    loss = (torch.tanh(z["4"] @ V.T + c) - z["1"]).square().sum() / len(x)
    for part, grad in zip(("weight", "bias"), torch.autograd.grad(loss, (V, c)), strict=True):
        close(done.updates[f"feedback.1.4.{part}"], grad, part)


def test_noise_does_not_move_statistics() -> None:
    """With noise F normalises by the clean batch's mean and variance, and running ones move once, by that batch."""
    model, x, y = perceptron(norm="batch")
    clean = {name: value.clone() for name, value in model.named_buffers()}
    rule, done, z = told(model, x, y, noise_std=0.5)
    held = dict(rule.named_parameters())
    noise = rule.functional(x, y)[1][-1]["feedback.act1.act2.noise"] * 0.5
    norm, layer = model.get_submodule("norm2"), model.get_submodule("fc2")
    noisy = z["act1"] + noise
    with torch.no_grad():
        before = layer(z["act1"])
        mean, variance = before.mean(0), before.var(0, unbiased=False)
        scale = norm.get_parameter("weight") / (variance + 1e-5).sqrt()
        above = torch.tanh((layer(noisy) - mean) * scale + norm.get_parameter("bias"))
    V, c = (held[f"feedback.act1.act2.{part}"] for part in ("weight", "bias"))
    loss = (torch.tanh(above @ V.T + c) - noisy).square().sum() / len(x)
    for part, grad in zip(("weight", "bias"), torch.autograd.grad(loss, (V, c)), strict=True):
        close(done.updates[f"feedback.act1.act2.{part}"], grad, part)
    assert all(bool(torch.equal(value, clean[name])) for name, value in model.named_buffers())
    rule.step(x, y)
    model_, _, _ = perceptron(norm="batch")
    credit.rule("bp", model_, precision="float64").step(x, y)
    expected = dict(model_.named_buffers())
    assert all(bool(torch.equal(value, expected[name])) for name, value in model.named_buffers())


@pytest.mark.parametrize("first", ["penultimate", "logits"])
def test_layers_below_batch_norm_learn_from_their_distance(first: str) -> None:
    torch.manual_seed(1)
    model = cifar_resnet((3, 8, 8), 5, depth=8, width=3, activation="tanh").double()
    x, y = nets.batch(model, (3, 8, 8), 5)
    _, done, _ = told(model, x, y, first_target=first)
    nodes = ["act", *(f"stage{k}_block1.act2" for k in (1, 2, 3))]
    held = lra_objectives.run(model, nodes, x)
    objective = sum(((held.z[name] - done.targets[name]).square().sum() for name in nodes), x.new_zeros(()))
    if first == "logits":
        objective = objective + (held.logits - done.targets["output"]).square().sum()
    else:
        objective = objective + nn.functional.cross_entropy(held.logits, y, reduction="sum")
    names, ps = zip(*model.named_parameters(), strict=True)
    for name, grad in zip(names, torch.autograd.grad(objective / len(x), ps), strict=True):
        close(done.updates[name], grad, name)


@pytest.mark.parametrize("loss", ["ce", "half_sse"])
def test_the_first_target_is_a_step_down_the_loss(loss: str) -> None:
    """And its layer's update is backprop's, twice target_step times as long; the head's is backprop's own."""
    model = Stacked("tanh", (6, 9, 8, 5))
    x, y = nets.batch(model, (6,), 4)
    _, done, _ = told(model, x, y, target_step=0.2, loss=loss)
    gradient = dual_nets.backprop(model, x, y, loss)
    for name in ("head.weight", "head.bias"):
        close(done.updates[name], gradient[name], name)
    for name in ("fc2.weight", "fc2.bias"):
        close(done.updates[name], 2 * 0.2 * gradient[name], name)


def test_feedback_that_is_the_transpose_of_a_small_step_is_backprop() -> None:
    """G(t) - G(z) is f'(V z + c) V (t - z) to first order: with V = W^T and V z + c = h backprop's signal, gated once more by
    the layer's own derivative."""
    model = Stacked("identity", (6, 9, 8, 5))
    model.act1, model.act2 = Identity(), Identity()
    x, y = nets.batch(model, (6,), 4)
    rule: Any = credit.rule("dtp", model, precision="float64", example=x, target_step=0.2)
    with torch.no_grad():
        dict(rule.named_parameters())["feedback.act1.act2.weight"].copy_(model.get_parameter("fc2.weight").T)
    gradient = dual_nets.backprop(model, x, y, "ce")
    done = rule.updates(x, y)
    for name in ("fc1.weight", "fc1.bias"):
        close(done.updates[name], 2 * 0.2 * gradient[name], name)


def test_reconstruction_learns_to_invert() -> None:
    """A few hundred steps of feedback alone: what G makes of F is nearer to what went in."""
    model = Stacked("tanh", (6, 9, 9, 5), spread=1.0)
    x, y = nets.batch(model, (6,), 50)
    rule: Any = credit.rule("dtp", model, precision="float64", example=x, noise_std=0.1)
    optimizer = torch.optim.SGD(list(rule.parameters()), lr=0.05)
    held, free = dict(rule.named_parameters()), lra_objectives.run(model, ["act1", "act2"], x).z
    missed = []
    for steps in (0, 300):
        for _ in range(steps):
            rule.step(x, y)
            optimizer.step()
        with torch.no_grad():
            back = torch.tanh(free["act2"] @ held["feedback.act1.act2.weight"].T + held["feedback.act1.act2.bias"])
            missed.append(float((back - free["act1"]).square().sum() / free["act1"].square().sum()))
    assert missed[1] < 0.25 * missed[0]


@pytest.mark.parametrize("told_", [{}, {"first_target": "logits", "feedback_loss": "l_drl"}])
def test_telling_targets_changes_no_update(told_: dict[str, Any]) -> None:
    model = dual_nets.Residual("tanh")
    x, y = nets.batch(model, dual_nets.RESIDUAL_IMAGE, 3)
    found = []
    for keep in (False, True):
        rule: Any = credit.rule("dtp", model, precision="float64", example=x, **told_)
        rule.keep_errors = keep
        done = rule.updates(x, y)
        assert (done.targets is not None) == (done.errors is not None) == keep
        found.append(done.updates)
    assert all(bool(torch.equal(update, found[1][name])) for name, update in found[0].items())


@pytest.mark.parametrize("radius", [1e-3, 0.5])
def test_reprojection_takes_feedback_too(radius: float) -> None:
    model = Stacked("tanh", (6, 9, 8, 5))
    x, y = nets.batch(model, (6,), 4)
    free = credit.rule("dtp", model, precision="float64", example=x).updates(x, y).updates
    rule = credit.rule("dtp", model, precision="float64", example=x, reproject=radius)
    rule.step(x, y)
    gradients: Any = {name: p.grad for name, p in [*model.named_parameters(), *rule.named_parameters()]}
    assert set(gradients) == set(free)
    for name, update in free.items():
        size = float(update.norm())
        close(gradients[name], update * (radius / size if size >= radius else 1.0), name)


def test_noise_is_another_at_every_step() -> None:
    model = Stacked("tanh", (6, 9, 8, 5))
    x, y = nets.batch(model, (6,), 4)
    rule = credit.rule("dtp", model, precision="float64", example=x)
    name, found = "feedback.act1.act2.weight", []
    for position in (0, 1, 0):
        rule.position = position
        found.append(rule.updates(x, y).updates[name])
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
