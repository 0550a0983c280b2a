"""`credit.wrap`: the rule's updates as gradients in loops of anyone's, against the rule's own steps."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

import credit
from credit.core.errors import UserError
from credit.models import build
from tests.support import nets

RULES = ["bp", "lisp_raw", "lfp_epsilon", "dp", "dfa", "fa", "rec_lra", "dtp", "eqprop"]


def made(name: str, **options: Any) -> tuple[Any, Any, Tensor, Tensor]:
    """A wrapped network, the same rule by itself on a copy, and a batch."""
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=12)
    twin = copy.deepcopy(model)
    return credit.wrap(model, name, example=x[:2], **options), credit.rule(name, twin, example=x[:2], **options), x, y


def grads(module: Any) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", RULES)
def test_backward_gives_what_steps_give(name: str) -> None:
    net, rule, x, y = made(name)
    for _ in range(2):
        net.zero_grad()
        loss = net(x, y)
        loss.backward()
        step = rule.step(x, y)
        torch.testing.assert_close(loss.detach(), step.loss)
        torch.testing.assert_close(net.outcome.logits, step.logits)
        wanted = grads(rule.model) | {key: p.grad for key, p in rule.named_parameters() if p.grad is not None}
        found = grads(net.model) | {key: p.grad for key, p in net.rule.named_parameters() if p.grad is not None}
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        with torch.no_grad():
            for net_p, p in zip(net.model.parameters(), rule.model.parameters(), strict=True):
                net_p -= 0.1 * net_p.grad
                p -= 0.1 * p.grad


def test_gradients_accumulate_and_scale_as_any_losss() -> None:
    net, rule, x, y = made("lisp_raw")
    rule.step(x[:6], y[:6], accumulate=True)
    rule.step(x[6:], y[6:], accumulate=True)
    (net(x[:6], y[:6]) * 3).backward()
    (net(x[6:], y[6:]) * 3).backward()
    torch.testing.assert_close(grads(net.model), {key: 3 * grad for key, grad in grads(rule.model).items()})


def test_limits_act_on_what_the_optimizer_gets() -> None:
    net, rule, x, y = made("bp", clip=0.01)
    with pytest.raises(UserError, match=r"changes updates .*net.attach\(optimizer\)"):
        net(x, y)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.attach(optimizer)
    for part in (slice(6), slice(6, None)):
        net(x[part], y[part]).backward()
        rule.step(x[part], y[part], accumulate=True, transform=False)
    optimizer.step()
    rule.transform()
    torch.testing.assert_close(grads(net.model), grads(rule.model))


def moved(net: Any, before: list[Tensor]) -> list[float]:
    """How far each tensor of a network moved, as a share of its norm."""
    return [
        float((p.detach() - was).norm() / was.norm()) for p, was in zip(net.model.parameters(), before, strict=True)
    ]


def test_limits_act_after_a_closure_and_once_however_often_they_are_attached() -> None:
    net, _, x, y = made("lisp_margin", margin=10.0)
    net.rule.transforms.append(lambda params, updates: {name: update / 2 for name, update in updates.items()})
    for _ in range(2):
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        net.attach(optimizer)
        net.attach(optimizer)
        before = [p.detach().clone() for p in net.model.parameters()]

        def closure(optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = net(x, y)
            loss.backward()
            return loss

        assert optimizer.step(closure) is not None
        assert moved(net, before) == pytest.approx([0.05] * 6)


def test_limits_are_refused_on_scaled_gradients_and_on_a_part_of_the_parameters() -> None:
    net, _, x, y = made("lisp_margin", margin=10.0)
    net.float()
    for unscales in (False, True):
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=True)
        net.attach(optimizer)
        before = [p.detach().clone() for p in net.model.parameters()]
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
        scaler.scale(net(x.float(), y)).backward()
        if unscales:
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
        else:
            with pytest.raises(UserError, match="scaled gradients; write scaler.unscale_"):
                scaler.step(optimizer)
    assert moved(net, before) == pytest.approx([0.1] * 6)
    net, _, x, y = made("bp", feedback_weights="kolen_pollack")
    with pytest.raises(UserError, match=r"lacks feedback.* make it with net.parameters\(\)"):
        net.attach(torch.optim.SGD(net.model.parameters(), lr=1.0))


def test_a_replaced_layer_gets_its_gradient_at_once() -> None:
    net, _, x, y = made("bp")
    net(x, y).backward()
    name, old = [(name, one) for name, one in net.model.named_modules() if isinstance(one, nn.Linear)][-1]
    new = copy.deepcopy(old)
    net.model.set_submodule(name, new)
    net.zero_grad()
    old.zero_grad()
    net(x, y).backward()
    assert new.weight.grad is not None and old.weight.grad is None


def test_loading_takes_over_tensors_and_keeps_the_position_that_a_state_lacks() -> None:
    net, _, x, y = made("bp", feedback_weights="kolen_pollack")
    net.attach(torch.optim.SGD(net.parameters(), lr=1.0))
    net(x, y).backward()
    state = {key: value + 1 if value.is_floating_point() else value for key, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    net(x, y).backward()
    for key, value in net.rule.named_parameters():
        assert torch.equal(value, state["feedback." + key.replace(".", "/")])
    net.load_state_dict({}, strict=False)
    assert net.rule.position == 2


def test_without_gradients_the_loss_alone_is_computed() -> None:
    net, rule, x, y = made("fa")
    with torch.no_grad():
        loss = net(x, y)
    assert net.rule.position == 0 and not grads(net)
    torch.testing.assert_close(loss, rule.step(x, y).loss)
    assert torch.equal(net(x), net.model(x))


@pytest.mark.parametrize("name", ["bp", "dfa", "fa", "rec_lra", "dtp"])
@pytest.mark.parametrize("how", ["state", "pickle", "deepcopy"])
def test_a_copy_goes_on_as_the_original(name: str, how: str) -> None:
    net, _, x, y = made(name, seed=3)
    net(x, y).backward()
    if how == "state":
        other, _, _, _ = made(name, seed=4 if name in ("bp", "rec_lra") else 3)
        other.load_state_dict(net.state_dict())
    else:
        other = copy.deepcopy(net) if how == "deepcopy" else pickle.loads(pickle.dumps(net))
    assert other.rule.model is other.model and other.rule.position == 1
    found = []
    for one in (net, other):
        one.zero_grad()
        one(x, y).backward()
        found.append(grads(one))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[0].keys() == found[1].keys() and len(found[0]) >= 4


def test_buffers_made_at_the_first_step_are_loaded_before_it() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    net, other = (credit.wrap(copy.deepcopy(model), "dfa", seed=seed) for seed in (1, 2))
    net(x, y).backward()
    names = [key for key in net.state_dict() if key.startswith("feedback.")]
    assert names and all(isinstance(value, Tensor) for value in net.state_dict().values())
    other.load_state_dict(net.state_dict())
    net.zero_grad()
    for one in (net, other):
        one(x, y).backward()
    torch.testing.assert_close(grads(net.model), grads(other.model), rtol=0, atol=0)


def test_an_average_of_weights_has_the_buffers_of_the_first_step() -> None:
    net, _, x, y = made("dfa")
    net = credit.wrap(net.model, "dfa")
    net(x, y).backward()
    average = torch.optim.swa_utils.AveragedModel(net)
    average.update_parameters(net)
    assert torch.equal(average(x), net(x))


def test_a_layer_frozen_before_the_limits_keeps_no_update() -> None:
    _, rule, x, y = made("bp", clip_norm=1e-3)
    rule.step(x, y, accumulate=True, transform=False)
    frozen, *others = rule.model.parameters()
    frozen.requires_grad_(False)
    rule.transform()
    assert frozen.grad is None
    assert torch.cat([p.grad.flatten() for p in others]).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_types_follow_the_module() -> None:
    net, _, x, y = made("dfa")
    net.float()
    net(x.float(), y).backward()
    assert all(value.dtype == torch.float32 for value in net.rule.buffers.values())


def test_autocast_and_a_gradient_scaler() -> None:
    model = nets.mlp("tanh").float()
    x, y = nets.batch(nets.mlp("tanh"), (7,))
    x = x.float()
    net, rule = credit.wrap(model, "lisp_ce"), credit.rule("lisp_ce", copy.deepcopy(model), precision="bf16")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(x, y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    rule.step(x, y)
    torch.testing.assert_close(grads(net.model), grads(rule.model), rtol=1e-6, atol=0)
    with (
        torch.autocast("cpu", dtype=torch.float16),
        pytest.raises(UserError, match="vanish in float16; write torch.autocast"),
    ):
        net(x, y)


def test_what_cannot_be_wrapped_is_refused() -> None:
    net, _, x, y = made("bp")
    with pytest.raises(UserError, match="x requires a gradient"):
        net(x.clone().requires_grad_(), y)
    for reentrant in (False, True):
        start = torch.zeros((), dtype=x.dtype, requires_grad=True)
        loss: Any = checkpoint(lambda zero: net(x, y) + zero, start, use_reentrant=reentrant)
        with pytest.raises(UserError, match="under torch.utils.checkpoint would make the step twice"):
            loss.backward()
    copied = copy.copy(net)
    copied._modules = dict(net._modules) | {"model": copy.deepcopy(net.model)}
    with pytest.raises(UserError, match="DataParallel copies the model.*DistributedDataParallel"):
        copied(x, y)
    with pytest.raises(UserError, match="make it with an example"):
        credit.wrap(nets.mlp("tanh"), "rec_lra")


def test_the_loss_of_given_weights_and_transforms_of_torch_func() -> None:
    net, rule, x, y = made("bp")
    given = {name: (p.detach() / 2).requires_grad_() for name, p in net.named_parameters()}
    functional_call(net, given, (x, y)).backward()
    with torch.no_grad():
        for p in rule.model.parameters():
            p /= 2
    rule.step(x, y)
    torch.testing.assert_close(
        {name: p.grad for name, p in given.items()},
        {f"model.{name}": value for name, value in grads(rule.model).items()},
    )
    assert not grads(net)
    plain = {name: p.detach() for name, p in given.items()}
    for transformed in (
        lambda: grad(lambda own: functional_call(net, own, (x, y)))(plain),
        lambda: vmap(lambda one, label: net(one[None], label[None]))(x, y),
        lambda: torch.no_grad()(vmap(lambda one, label: net(one[None], label[None])))(x, y),
    ):
        with pytest.raises(UserError, match=r"inside torch.func.grad, vmap.*net.rule.functional\(x, y\)"):
            transformed()
    torch.testing.assert_close(vmap(net)(x), net(x))


def test_it_can_stand_inside_a_module() -> None:
    net, rule, x, y = made("bp")
    outer = nn.ModuleDict({"net": net})
    outer["net"](x, y).backward()
    rule.step(x, y)
    torch.testing.assert_close(grads(net.model), grads(rule.model))
    assert "net.position" in outer.state_dict()


@pytest.mark.parametrize("task", ["regression", "tokens"])
def test_gradients_of_other_tasks_are_autograds(task):
    if task == "tokens":
        model = build({"kind": "gpt", "width": 8, "heads": 2, "layers": 1}, (6,), 5, seed=0)
        x, y = (torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(at)) for at in (0, 1))
    else:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        x, y = (torch.randn(4, size, generator=torch.Generator().manual_seed(size)) for size in (3, 2))
    net = credit.wrap(copy.deepcopy(model), "bp", task=task)
    net(x, y).backward()
    out = model(x)
    loss = (
        torch.nn.functional.mse_loss(out, y)
        if task == "regression"
        else torch.nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())
    )
    loss.backward()
    for one, other in zip(net.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
