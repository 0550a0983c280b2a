"""Feedback functions against their formulas, one sample and class at a time; own functions registered, checked and refused."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core import registry
from credit.core.errors import UserError
from credit.core.option_sets import of_kind
from credit.rules import feedback

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


O = torch.tensor([[2.0, -1.0, 0.5], [-0.3, -2.0, -0.1], [0.0, 3.0, -4.0], [1.0, 1.5, 0.25]], dtype=torch.float64)  # noqa: E741
Y = torch.tensor([0, 1, 2, 0])


def made(name: str, **options: Any) -> Any:
    return registry.find("feedback", name).load()(**options)


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def by_hand(name: str, o: list[float], y: int, **options: Any) -> list[float]:
    powers = [math.exp(v) for v in o]
    p = [v / sum(powers) for v in powers]
    sign = [(v > 0) - (v < 0) for v in o]
    found = []
    for c, v in enumerate(o):
        t = float(c == y)
        if name == "sigmoid":
            r = v * (t - sigmoid(v))
        elif name == "softmax":
            r = v * (t - p[c])
        elif name == "bounded_softmax":
            low, high = options.get("lower_bound", 0.0), options.get("upper_bound", 1.0)
            q = 1.0 if p[c] > high else 0.0 if p[c] < low else p[c]
            r = (sign[c] if options.get("sign_only") else v) * (t - q)
        else:
            if name == "reward":
                r = 0.0 if c != y else 1.0 if v == max(o) else -1.0
            else:
                r = -1.0 if v > o[y] else 0.0
            r *= sign[c] if options.get("reward_sign", True) else 1
        found.append(r)
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sigmoid", {}),
        ("softmax", {}),
        ("bounded_softmax", {}),
        ("bounded_softmax", {"lower_bound": 0.2, "upper_bound": 0.5}),
        ("bounded_softmax", {"lower_bound": 0.2, "upper_bound": 0.5, "sign_only": True}),
        ("reward", {}),
        ("reward", {"reward_sign": False}),
        ("misclassification", {}),
        ("misclassification", {"reward_sign": False}),
    ],
)
def test_the_formula(name: str, options: dict[str, Any]) -> None:
    before = O.clone()
    r, loss = made(name, **options)(O, Y)
    expected = [by_hand(name, o, y, **options) for o, y in zip(O.tolist(), Y.tolist(), strict=True)]
    torch.testing.assert_close(r, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-15)
    assert torch.equal(O, before) and loss.shape == () and r.any()
    # The same of one sample alone: nothing is divided by the batch size, no sample sees another.
    assert torch.equal(made(name, **options)(O[1:2], Y[1:2])[0], r[1:2])


def test_the_losses() -> None:
    onehot = F.one_hot(Y, 3).double()
    bce = -(onehot * O.sigmoid().log() + (1 - onehot) * (1 - O.sigmoid()).log()).sum(1).mean()
    torch.testing.assert_close(made("sigmoid")(O, Y)[1], bce, rtol=1e-13, atol=0)
    for name in ("softmax", "bounded_softmax"):
        torch.testing.assert_close(made(name)(O, Y)[1], F.cross_entropy(O, Y), rtol=1e-14, atol=0)
    for name in ("reward", "misclassification"):
        assert made(name)(O, Y)[1] == 0.75  # the answers are 0, 2, 1, 1


def test_sigmoid_is_the_logit_times_minus_the_gradient_of_its_loss() -> None:
    o = O.clone().requires_grad_()
    onehot = F.one_hot(Y, 3).double()
    (gradient,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(o, onehot, reduction="sum"), o)
    torch.testing.assert_close(made("sigmoid")(O, Y)[0], -O * gradient, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("steps", [5, 4, 1])
def test_spiking_counts_spikes_for_the_true_class_and_silence_for_the_others(steps: int) -> None:
    counts = torch.tensor([[0.0, 1.0, float(steps)], [float(steps), 0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([2, 1])
    spiking = made("spiking")
    r, loss = spiking(counts, y, steps=steps)
    for b in range(2):
        for c in range(3):
            n = float(counts[b, c])
            true = 1 - sigmoid(n - steps // 2)
            other = -(1 - sigmoid((steps - n) - steps // 2))
            assert r[b, c] == pytest.approx(true if c == y[b] else other, rel=1e-13)
    assert spiking.needs_steps and loss == F.cross_entropy(counts, y)


def test_what_is_tiny_keeps_its_digits_and_what_is_huge_stays_finite() -> None:
    counts = torch.tensor([[300.0, 0.0]], dtype=torch.float64)
    r, _ = made("spiking")(counts, torch.tensor([0]), steps=400)
    torch.testing.assert_close(
        r, torch.tensor([[math.exp(-100), -math.exp(-200)]], dtype=torch.float64), rtol=1e-6, atol=0
    )
    huge, y = torch.tensor([[1e30, -1e30], [-800.0, 800.0]]), torch.tensor([1, 0])
    for name in ("sigmoid", "softmax", "bounded_softmax", "reward", "misclassification"):
        r, loss = made(name)(huge, y)
        assert r.isfinite().all() and loss.isfinite(), name


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.5)])
def test_bounds_that_bound_no_probability_are_refused(low: float, high: float) -> None:
    words = (
        r"bound a probability: give 0 <= lower_bound <= upper_bound <= 1, for example|_bound=\S+ is outside \[0, 1\]"
    )
    with pytest.raises(UserError, match=words):
        of_kind("rule", "lfp").check({"feedback": "bounded_softmax", "lower_bound": low, "upper_bound": high})


def test_an_own_function() -> None:
    @feedback("shy")
    def shy(logits: Tensor, y: Tensor, size: float = 2.0) -> Tensor:
        return size * logits.tanh()

    r, loss = made("shy")(O, Y)
    assert torch.equal(r, 2 * O.tanh()) and torch.equal(shy(O, Y), r)
    torch.testing.assert_close(loss, F.cross_entropy(O, Y))
    with pytest.raises(UserError, match="rule.feedback=shi: there is no feedback of this name; did you mean 'shy'"):
        registry.find("feedback", "shi", key="rule.feedback")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda logits, y: 0.5, ("rule.feedback=mine returned 0.5, a float", "torch.zeros_like(logits)")),
        (
            lambda logits, y: logits[:, :1],
            ("returned shape (4, 1), not that of the logits, (4, 3)", "one number for each"),
        ),
        (lambda logits, y: 1 / logits, ("returned inf for class 0 of sample 2, whose logit is 0", "finite")),
    ],
)
def test_a_wrong_result_is_refused_by_what_it_is(function: Any, words: tuple[str, ...]) -> None:
    feedback("mine")(function)
    with pytest.raises(UserError) as refusal:
        made("mine")(O, Y)
    for word in words:
        assert word in str(refusal.value)


def test_logits_that_are_not_finite_are_not_the_functions_fault() -> None:
    feedback("plain")(lambda logits, y: 2 * logits)
    r, _ = made("plain")(torch.tensor([[math.nan, 1.0], [0.5, 0.25]]), torch.tensor([0, 1]))
    assert r[1].isfinite().all() and r[0, 0].isnan()


def test_a_function_can_be_mapped_and_its_result_has_the_logits_type() -> None:
    feedback("soft")(lambda logits, y: F.one_hot(y, 3) - logits.float().sigmoid())
    own = made("soft")
    together, _ = torch.func.vmap(own)(torch.stack([O, -O]), torch.stack([Y, Y]))
    assert together.dtype == torch.float64 and torch.equal(together[1], own(-O, Y)[0])


@pytest.mark.parametrize("function", [lambda logits: logits, lambda o, y, more: o, lambda o, y, *, size: o])
def test_other_arguments_are_refused(function: Any) -> None:
    with pytest.raises(
        UserError, match=r"@credit.rules.feedback\('mine'\) on .*: a feedback function takes \(logits, y\)"
    ):
        feedback("mine")(function)


def test_taken_names_are_refused() -> None:
    with pytest.raises(
        UserError, match="feedback 'sigmoid' is already registered, by credit.rules.lfp.feedbacks.Sigmoid"
    ):
        feedback("sigmoid")(lambda logits, y: logits)
    with pytest.raises(UserError, match="rule.feedback=auto lets the rule choose"):
        feedback("auto")
