"""Changes of a model after its rule was made are seen at the next step; batches can be accumulated."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.replicas import Mapped
from tests.support.compare import X, Y, equals_autograd


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.0), nn.Linear(6, 4),
    ).double()  # fmt: skip


CHANGES: dict[str, Callable[[Any], Any]] = {
    "freeze a layer": lambda net: net[0].requires_grad_(False),
    "freeze one parameter": lambda net: net[4].bias.requires_grad_(False),
    "thaw a layer": lambda net: net[0].requires_grad_(True),
    "batch norm in eval mode": lambda net: net[1].eval(),
    "the whole model in eval mode": lambda net: net.eval(),
    "another momentum": lambda net: setattr(net[1], "momentum", 0.5),
    "replace the head": lambda net: net.__setitem__(4, nn.Linear(6, 4).double()),
    "replace an activation": lambda net: net.__setitem__(2, nn.Tanh()),
    "insert a layer": lambda net: net.insert(3, nn.Linear(6, 6).double()),
    "remove a layer": lambda net: net.__delitem__(1),
    "assign a parameter": lambda net: setattr(net[0], "weight", nn.Parameter(torch.randn(6, 6).double())),
    "assign a state": lambda net: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}, assign=True),
    "load a state": lambda net: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}),
    "assign a buffer": lambda net: setattr(net[1], "running_mean", torch.ones(6).double()),
    "tie two layers": lambda net: net.insert(3, net[0]),
    "remove a bias": lambda net: setattr(net[0], "bias", None),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("stepped", [False, True])
def test_a_change_after_the_rule_was_made(name: str, stepped: bool) -> None:
    net = model()
    if name == "thaw a layer":
        net[0].requires_grad_(False)
    rule = credit.rule("bp", net, precision="float64")
    if stepped:
        rule.step(X, Y)
    CHANGES[name](net)
    equals_autograd(net, rule)


class Scaled(nn.Sequential):
    """A network whose output is scaled by a number from a list, a dict and a configuration."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.factors, self.named = [[1.0]], {"factor": 1.0}
        self.config = SimpleNamespace(factor=1.0, widths=[6])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out * (self.factors[0][0] * self.named["factor"] * self.config.factor)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.factors[0].__setitem__(0, 2.0),
        lambda net: net.named.update(factor=2.0),
        lambda net: setattr(net.config, "factor", 2.0),
    ],
)
def test_a_changed_list_dict_or_configuration_is_followed(change: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    net = Scaled(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).double()
    rule = credit.rule("bp", net, precision="float64")
    rule.step(X, Y)
    assert not rule._traced.changed()
    change(net)
    equals_autograd(net, rule)
    assert not rule._traced.changed()


def test_a_frozen_layer_keeps_no_update_of_an_earlier_step() -> None:
    net = model()
    rule = credit.rule("bp", net, precision="float64")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rule.step(X, Y)
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    rule.step(X, Y)
    optimizer.step()
    assert net[0].weight.grad is None and torch.equal(net[0].weight, before)


def test_dropout_follows_its_probability_and_a_hook_is_refused_once_it_is_there() -> None:
    net = model()
    rule = credit.rule("bp", net, precision="float64")
    plain = rule.step(X, Y).loss
    net[3].p = 0.9
    assert rule.step(X, Y).loss != plain
    net[3].p = 0.0
    assert rule.step(X, Y).loss == plain
    handle = net[0].register_forward_hook(lambda module, given, out: 3 * out)
    with pytest.raises(UserError, match="'0' .Linear. in Sequential has a forward hook"):
        rule.step(X, Y)
    handle.remove()
    assert rule.step(X, Y).loss == plain
    net[0].weight.register_hook(lambda grad: -grad)
    with pytest.raises(UserError, match=r"parameter '0.weight' of Sequential has a gradient hook"):
        rule.updates(X, Y)


@pytest.mark.parametrize("name", ["fa", "dfa", "kolen_pollack"])
def test_feedback_of_layers_that_stay_is_kept(name: str) -> None:
    net = model()
    options: dict[str, Any] = {"feedback_weights": "kolen_pollack"} if name == "kolen_pollack" else {}
    rule = credit.rule("fa" if options else name, net, precision="float64", **options)
    rule.step(X, Y)
    kept = {key: value.detach().clone() for key, value in {**rule.buffers, **rule.feedback_parameters}.items()}
    objects = {key: id(value) for key, value in rule.feedback_parameters.items()}
    net[0].bias.requires_grad_(False)
    net[2] = nn.Tanh()
    rule.step(X, Y)
    now = {**rule.buffers, **rule.feedback_parameters}
    assert kept and set(now) == set(kept) and all(torch.equal(now[key], value) for key, value in kept.items())
    assert {key: id(value) for key, value in rule.feedback_parameters.items()} == objects
    assert [type(one).__name__ for one in rule.transforms] == (["LearnedFeedback"] if options else [])


def test_own_transforms_stay_behind_the_limits_after_a_change() -> None:
    net = model()
    rule = credit.rule("bp", net, precision="float64", clip_norm=0.5)

    def twice(parameters: Any, updates: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: 2 * update for name, update in updates.items()}

    rule.transforms.append(twice)
    net.insert(3, nn.Linear(6, 6).double())
    rule.step(X, Y)
    assert len(rule.transforms) == 2
    total = sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None) ** 0.5
    assert total == pytest.approx(1.0, rel=1e-5)


def test_a_compiled_or_mapped_step_refuses_a_changed_model() -> None:
    net = model()
    rule = credit.rule("bp", net, precision="float64", compile="eager")
    net[0].requires_grad_(False)
    with pytest.raises(UserError, match="changed .* after rule 'bp' was compiled"):
        rule.step(X, Y)
    nets = [model(), model()]
    together = Mapped([credit.rule("bp", one, precision="float64") for one in nets])
    together.step(X.expand(2, *X.shape), Y.expand(2, -1))
    nets[1][0].requires_grad_(False)
    with pytest.raises(UserError, match=r"changed .* after Mapped\(rules\) was made"):
        together.step(X.expand(2, *X.shape), Y.expand(2, -1))


def test_keeping_the_input_signal_survives_a_change() -> None:
    net = model()
    rule = credit.rule("bp", net, precision="float64")
    rule.keep_input_signal = True
    net[2] = nn.Tanh()
    assert rule.step(X, Y).input_signal is not None


@pytest.mark.parametrize(
    ("name", "options"),
    [("bp", {}), ("lfp_epsilon", {"batchnorm": "folded"}), ("dp", {"batchnorm": "frozen"}), ("rec_lra", {})],
)
def test_toggling_the_input_signal_makes_another_plan(name: str, options: dict[str, Any]) -> None:
    rule: Any = credit.rule(name, model(), precision="float64", **options)
    first, wants = rule.plan, [op.wants for op in rule.plan.ops]
    rule.keep_input_signal = True
    assert rule.plan is not first and rule.plan.to_input and rule.plan.ops[0].wants == (True,)
    assert not first.to_input and [op.wants for op in first.ops] == wants
    rule.keep_input_signal = False
    assert rule.plan is not first and [op.wants for op in rule.plan.ops] == wants


# ---------------------------------------------------------------- accumulation and batches of one


@pytest.mark.parametrize("name", ["bp", "lisp_raw", "lfp_epsilon", "dp"])
def test_accumulated_batches_sum_up(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).double()
    other = copy.deepcopy(net)
    rule, alone = (credit.rule(name, one, precision="float64") for one in (net, other))
    alone.step(X[:4], Y[:4])
    first = {key: p.grad.clone() for key, p in other.named_parameters() if p.grad is not None}
    alone.step(X[4:], Y[4:])
    rule.step(X[:4], Y[:4], accumulate=True)
    rule.step(X[4:], Y[4:], accumulate=True)
    for key, p in net.named_parameters():
        mine, last = p.grad, other.get_parameter(key).grad
        assert mine is not None and last is not None
        torch.testing.assert_close(mine, first[key] + last, rtol=1e-12, atol=1e-14)
    rule.step(X[4:], Y[4:])
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.grad, other.get_parameter(key).grad, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bp", "lfp_epsilon", "kolen_pollack"])
def test_limits_are_of_the_sum_that_the_optimizer_gets(name: str) -> None:
    """Updates are limited once, after the last batch, and feedback weights that learn then get the limited sum."""
    options: dict[str, Any] = {"feedback_weights": name} if name == "kolen_pollack" else {}
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).double()
    rule = credit.rule("fa" if options else name, net, precision="float64", clip=0.01, clip_norm=0.05, **options)
    parts = [rule.updates(X[:4], Y[:4]).updates, rule.updates(X[4:], Y[4:]).updates]
    raw = {key: parts[0][key] + parts[1][key] for key in parts[0]}
    owned = dict(rule.model.named_parameters()) | dict(rule.named_parameters())
    for part in (X[:4], Y[:4]), (X[4:], Y[4:]):
        rule.step(*part, accumulate=True, transform=False)
    torch.testing.assert_close({key: owned[key].grad for key in raw}, raw)
    rule.transform()
    expected = {key: value.clone() for key, value in raw.items()}
    for transform in rule.transforms:
        expected = transform(owned, expected)
    assert expected.keys() == owned.keys()
    torch.testing.assert_close({key: p.grad for key, p in owned.items()}, expected)
    assert float(torch.stack([p.grad.norm() for p in rule.model.parameters() if p.grad is not None]).norm()) <= 0.051


def test_the_mean_of_accumulated_batches_is_the_whole_batches_gradient() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).double()
    rule = credit.rule("bp", net, precision="float64")
    for part in range(4):
        rule.step(X[2 * part : 2 * part + 2], Y[2 * part : 2 * part + 2], accumulate=True)
    expected = torch.autograd.grad(F.cross_entropy(net(X), Y), list(net.parameters()))
    for p, grad in zip(net.parameters(), expected, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad / 4, grad, rtol=1e-9, atol=1e-12)


def test_accumulating_limited_updates_is_refused() -> None:
    rule = credit.rule("bp", model(), precision="float64", clip_norm=1.0)
    with pytest.raises(UserError, match="limit the update of each batch, not the sum.*transform=False.*rule.transform"):
        rule.step(X, Y, accumulate=True)


def test_a_batch_of_one_under_batch_norm_is_refused_where_torch_refuses_it() -> None:
    net = model()
    with pytest.raises(UserError, match="batch_norm '1' has one value a channel .*two samples or more.*eval mode"):
        credit.rule("bp", net, precision="float64").step(X[:1], Y[:1])
    net[1].eval()
    equals_autograd(net, x=X[:1], y=Y[:1])
    torch.manual_seed(0)
    images = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    ).double()  # fmt: skip
    equals_autograd(images, x=torch.randn(1, 1, 4, 4).double(), y=Y[:1])


def chain() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)).double()


def test_feedback_weights_of_a_frozen_layer_stay_as_they_are() -> None:
    net = chain()
    rule = credit.rule("fa", net, precision="float64", feedback_weights="kolen_pollack")
    optimizer = torch.optim.SGD([*net.parameters(), *rule.parameters()], lr=0.1)
    rule.step(X, Y)
    optimizer.step()
    net[2].requires_grad_(False)
    before = {name: p.detach().clone() for name, p in rule.named_parameters()}
    rule.step(X, Y)
    optimizer.step()
    moved = {name for name, p in rule.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"feedback.4.weight"} and rule.feedback_parameters["feedback.2.weight"].grad is None
    net[2].requires_grad_(True)
    rule.step(X, Y)
    thawed = rule.feedback_parameters["feedback.2.weight"]
    assert thawed.requires_grad and thawed.grad is not None


NARROWER: dict[str, tuple[dict[str, Any], str]] = {
    "fa": (
        {},
        "rule.buffers.'feedback.4.weight'. has shape .4, 5., but this network needs .4, 3.; .* del rule.buffers",
    ),
    "dfa": ({}, "rule.buffers.'feedback.4'. has shape .4, 5., but this network needs .4, 3."),
    "kolen_pollack": ({"feedback_weights": "kolen_pollack"}, "'4.weight' of Sequential has another shape .* anew"),
    "dtp": ({}, "a layer changed its shape; then make the rule and its optimizer anew"),
}


@pytest.mark.parametrize("name", NARROWER)
def test_a_layer_of_another_shape_is_refused_at_each_step(name: str) -> None:
    options, words = NARROWER[name]
    net = chain()
    rule = credit.rule("fa" if options else name, net, precision="float64", **options)
    rule.step(X, Y)
    net[2], net[4] = nn.Linear(7, 3).double(), nn.Linear(3, 4).double()
    for _ in range(2):
        with pytest.raises(UserError, match=words):
            rule.step(X, Y)
    if name == "fa":
        del rule.buffers["feedback.4.weight"]
        rule.buffers.pop("feedback.2.weight")
        rule.step(X, Y)


def test_a_change_that_a_rule_cannot_take_is_refused_at_each_step() -> None:
    net = chain()
    rule = credit.rule("lisp_raw", net, precision="float64")
    rule.step(X, Y)
    net[1] = nn.GELU()
    for _ in range(2):
        with pytest.raises(UserError, match="cannot take gelu"):
            rule.step(X, Y)
    net[1] = nn.ReLU()
    rule.step(X, Y)
