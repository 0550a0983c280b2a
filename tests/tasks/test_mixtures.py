"""Soft targets and class weights: the gradients of torch's losses; one-hot shares give the updates of labels."""

import pytest
import torch
import torch.nn.functional as F

import credit
from credit.core.errors import UserError
from credit.rules.backward.losses import CrossEntropy, HalfSquaredError, SquaredError
from credit.tasks.base import of
from tests.tasks.test_rules import RULES, batch, compares_classes, mlp, source, updates

WEIGHTS = [0.5, 2.0, 1.0, 0.0]
W = torch.tensor(WEIGHTS, dtype=torch.float64)


def outputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (6, 4), labels (6,) and shares of classes (6, 4)."""
    random = source(0)
    out, shares = torch.randn(2, 6, 4, generator=random, dtype=torch.float64)
    return out, torch.randint(4, (6,), generator=random), shares.softmax(1)


def cross_entropy(o, t, **more):
    return F.cross_entropy(o, t, reduction="sum", **more) / len(o)


CASES = {
    "shares": ("mixtures", CrossEntropy(), F.cross_entropy),
    "smoothed": ("mixtures", CrossEntropy(label_smoothing=0.2), lambda o, t: F.cross_entropy(o, t, label_smoothing=0.2)),
    "weighted": ("mixtures", CrossEntropy(class_weights=WEIGHTS), lambda o, t: F.cross_entropy(o, t, weight=W)),
    "weighted labels": ("classification", CrossEntropy(class_weights=WEIGHTS), lambda o, t: cross_entropy(o, t, weight=W)),
    "weighted, smoothed": (
        "classification", CrossEntropy(0.3, WEIGHTS), lambda o, t: cross_entropy(o, t, weight=W, label_smoothing=0.3),
    ),
    "mse": ("mixtures", SquaredError(), F.mse_loss),
    "half_sse": ("mixtures", HalfSquaredError(), lambda o, t: 0.5 * (o - t).square().sum() / len(o)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_output_error_is_the_gradient_of_torchs_loss(case):
    task, loss, function = CASES[case]
    out, labels, shares = outputs()
    y = shares if task == "mixtures" else labels
    out.requires_grad_()
    expected = function(out, y)
    (gradient,) = torch.autograd.grad(expected, out)
    with torch.no_grad():
        error, value = of(task).score(loss, out, y)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(error, gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_two_classes_act_on_a_probability_as_on_two_logits(smoothing):
    logit, y = torch.randn(6, 1, generator=source(0), dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    loss = CrossEntropy(smoothing, [0.5, 3.0])
    p = logit.sigmoid().requires_grad_()
    signal, value = loss.of_probability(p.detach(), y)
    two = torch.cat([torch.zeros_like(logit), logit], 1)
    on_logits, expected = loss(two, y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(signal * (p * (1 - p)).detach(), on_logits[:, 1:])


@pytest.mark.parametrize("name", [name for name in RULES if not compares_classes(name)])
def test_one_hot_shares_are_labels(name):
    x, y = batch()
    activation = "relu" if name in ("dp_damped", "lpom") else "tanh"
    _, classes = updates(name, mlp(activation), x, y)
    for target in (y, F.one_hot(y, 3).double()):
        _, shares = updates(name, mlp(activation), x, target, task="mixtures")
        torch.testing.assert_close(shares.loss, classes.loss)
        for key, value in classes.updates.items():
            torch.testing.assert_close(shares.updates[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in RULES if compares_classes(name)])
def test_rules_that_compare_classes_refuse_shares(name):
    words = "the targets are shares of classes.*(Write rule.loss=|[Ll]eave out data.mixup)"
    with pytest.raises(UserError, match=words):
        credit.rule(name, mlp(), task="mixtures")


def test_backprop_on_shares_equals_autograd():
    x, _ = batch()
    y = torch.rand(6, 3, generator=source(1), dtype=torch.float64).softmax(1)
    model = mlp()
    _, done = updates("bp", model, x, y, task="mixtures", class_weights=[1.0, 2.0, 0.5])
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y, weight=weight), list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(done.updates[name], gradient, rtol=1e-9, atol=1e-12)


def test_measures_of_shares():
    out, _, shares = outputs()
    task = of("mixtures")
    means = {key: value / 6 for key, value in task.sums(out, shares).items()}
    found = task.measures(means)
    assert found["loss"] == pytest.approx(F.cross_entropy(out, shares).item())
    assert found["top1"] == pytest.approx((out.argmax(1) == shares.argmax(1)).double().mean().item())


def test_bad_targets():
    x, y = batch()
    rule = credit.rule("bp", mlp(), precision="float64", task="mixtures")
    for target, words in [
        (F.one_hot(y, 3), "y must hold shares of classes, floating point"),
        (torch.rand(6, 4).double(), r"returns \(6, 3\) for shares of classes \(6, 4\)"),
    ]:
        with pytest.raises(UserError, match=words):
            rule.step(x, target)
    task = of("mixtures")
    assert "add up to 1" in str(task.problem(rule.model, torch.zeros(2, 3), torch.tensor([[0.5, 0.5, 0.5], [1, 0, 0]])))
    with pytest.raises(UserError, match="rule.class_weights has 2 weights, and there are 3 classes; give one a class"):
        credit.rule("bp", mlp(), precision="float64", class_weights=[1, 2]).step(x, y)
    with pytest.raises(UserError, match="rule.class_weights"):
        credit.rule("bp", mlp(), class_weights=[1, -2, 1])
