"""LISP's theorems and what follows from them, against autograd in float64."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from tests.support import nets

NETS = {
    "dense": (lambda activation: nets.mlp(activation), (7,)),
    "residual": (lambda activation: nets.Residual(activation, norm=False), (2, 5, 7)),
    "residual_bn": (lambda activation: nets.Residual(activation, norm=True), (2, 5, 7)),
}


def made(name: str, activation: str = "relu", n: int = 9) -> tuple[nn.Module, Tensor, Tensor]:
    build, shape = NETS[name]
    model = build(activation)
    return (model, *nets.batch(model, shape, n=n))


def squared_hinge(z: Tensor, y: Tensor, margin: float) -> Tensor:
    """S of LISP section 2, term by term."""
    terms = [
        torch.clamp(margin - (z[i, y[i]] - z[i, c]), min=0) ** 2
        for i in range(len(y)) for c in range(z.shape[1]) if c != y[i]
    ]  # fmt: skip
    return torch.stack(terms).sum() / (2 * len(y))


def worst_squared_hinge(z: Tensor, y: Tensor, margin: float) -> Tensor:
    others = z.scatter(1, y.unsqueeze(1), -torch.inf).amax(1)
    return (margin - z.gather(1, y.unsqueeze(1)).squeeze(1) + others).clamp(min=0).square().sum() / (2 * len(y))


def assert_gradient(model: nn.Module, rule: credit.Rule, x: Tensor, y: Tensor, loss: Any) -> None:
    """One step of the rule leaves autograd's gradient of the loss in every `.grad`, to 1e-10, and tells that loss."""
    plain = copy.deepcopy(model)
    value = loss(plain(x), y)
    value.backward()
    step = rule.step(x, y)
    torch.testing.assert_close(step.loss, value.detach(), rtol=1e-12, atol=1e-14)
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        assert float((p.grad - q.grad).abs().max()) <= 1e-10, name
        assert float(q.grad.abs().max()) > 1e-6 or name == "block.bias", name  # a bias before BatchNorm has none


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("name", "options"), [("lisp_raw", {"loss": "ce"}), ("lisp_ce", {"normalizer": "none"})])
def test_theorem_3_raw_lisp_ce_is_backprop_on_relu_networks(net: str, name: str, options: dict[str, Any]) -> None:
    """The paper leaves BatchNorm out; with its full Jacobian (D2) and no D1 the equality holds there too."""
    model, x, y = made(net)
    assert_gradient(model, credit.rule(name, model, **options), x, y, F.cross_entropy)


def test_lisp_ce_without_a_normalizer_points_where_backprop_does() -> None:
    model, x, y = made("dense")
    twin = copy.deepcopy(model)
    credit.rule("bp", twin, precision="float64").step(x, y)
    credit.rule("lisp_ce", model, precision="float64", normalizer="none").step(x, y)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        assert 1 - float(torch.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0)) < 1e-12
        assert float((p.grad - q.grad).norm() / q.grad.norm()) < 1e-12


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_theorem_1_raw_lisp_descends_the_squared_hinge_in_every_layer(net: str, margin: float) -> None:
    model, x, y = made(net)
    rule = credit.rule("lisp_raw", model, margin=margin)
    assert_gradient(model, rule, x, y, lambda z, labels: squared_hinge(z, labels, margin))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leaky_relu"])
def test_bp_hinge_is_backprop_on_the_worst_squared_violation(net: str, activation: str) -> None:
    model, x, y = made(net, activation)
    rule = credit.rule("bp_hinge", model, margin=2.0)
    assert_gradient(model, rule, x, y, lambda z, labels: worst_squared_hinge(z, labels, 2.0))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_label_smoothing_is_torchs(net: str, share: float) -> None:
    model, x, y = made(net, "tanh")
    rule = credit.rule("bp", model, label_smoothing=share)
    assert_gradient(model, rule, x, y, lambda z, labels: F.cross_entropy(z, labels, label_smoothing=share))


def test_ste_is_backprop_where_nothing_steps() -> None:
    model, x, y = made("residual_bn", "tanh")
    assert_gradient(model, credit.rule("ste", model), x, y, F.cross_entropy)


def test_feedback_alignment_with_the_weights_transported_is_backprop() -> None:
    model, x, y = made("residual_bn", "tanh")
    rule = credit.rule("fa", model)
    for name in rule.buffers:
        rule.buffers[name] = model.get_parameter(name.removeprefix("feedback.")).detach()
    assert_gradient(model, rule, x, y, F.cross_entropy)


def test_direct_feedback_with_one_crossing_transported_is_backprop() -> None:
    model = nets.mlp("tanh", (7, 11, 5))
    x, y = nets.batch(model, (7,))
    rule = credit.rule("dfa", model)
    rule.buffers["feedback.2"] = model.get_parameter("2.weight").detach()
    assert_gradient(model, rule, x, y, F.cross_entropy)


@pytest.mark.parametrize("net", NETS)
def test_normalisation_makes_lisp_ce_another_rule(net: str) -> None:
    """The paper's remark that D1 has no directional effect is wrong (NOTES 1.4): the samples are weighed anew."""
    model, x, y = made(net)
    credit.rule("bp", model).step(x, y)
    backprop = nets.gradients(model)
    credit.rule("lisp_ce", model).step(x, y)
    for name, update in nets.gradients(model).items():
        cosine = (update * backprop[name]).sum() / ((update**2).sum() * (backprop[name] ** 2).sum()) ** 0.5
        assert cosine < 0.999 or name == "block.bias", name
