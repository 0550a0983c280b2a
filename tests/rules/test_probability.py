"""Networks of one probability: signals against torch's own losses in float64, whole steps, and what is refused."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.models import build
from credit.rules.backward.losses import CrossEntropy, HalfSquaredError, SquaredError

Y = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])


def probabilities() -> Tensor:
    """Between the ends, near them, and at them, right and wrong."""
    return torch.tensor([[0.3], [0.6], [1e-9], [1 - 1e-9], [0.0], [1.0], [1.0], [0.0]], dtype=torch.float64)


def suc(activation: str = "sigmoid", features: int = 5) -> nn.Module:
    return build({"kind": "suc", "activation": activation}, (features,), 2, seed=0).double()


def batch(features: int = 5, size: int = 8) -> tuple[Tensor, Tensor]:
    x = torch.randn(size, features, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return x, Y[:size]


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad for p in model.parameters()]
    assert all(grad is not None for grad in found)
    return [grad.clone() for grad in found if grad is not None]


def test_the_cross_entropy_of_a_probability_is_torchs_at_its_ends_too() -> None:
    p = probabilities().requires_grad_()
    expected = F.binary_cross_entropy(p, Y.double().unsqueeze(1))
    expected.backward()
    signal, loss = CrossEntropy().of_probability(p.detach(), Y)
    assert signal.isfinite().all() and loss.isfinite()
    torch.testing.assert_close(loss, expected.detach())
    assert p.grad is not None
    torch.testing.assert_close(signal, p.grad, rtol=1e-8, atol=0)  # torch's 1e-12 is a float32
    assert signal[4] == -1e12 / 8 and signal[6] == 0  # wrong and sure; right and sure


def test_label_smoothing_is_that_of_two_classes() -> None:
    p = probabilities()[:4].requires_grad_()
    target = 0.8 * Y[:4].double().unsqueeze(1) + 0.1
    expected = F.binary_cross_entropy(p, target)
    expected.backward()
    signal, loss = CrossEntropy(label_smoothing=0.2).of_probability(p.detach(), Y[:4])
    torch.testing.assert_close(loss, expected.detach())
    assert p.grad is not None
    torch.testing.assert_close(signal, p.grad)


def test_the_squared_error_of_a_probability_is_torchs() -> None:
    p = probabilities().requires_grad_()
    expected = F.mse_loss(p, Y.double().unsqueeze(1))
    expected.backward()
    signal, loss = SquaredError().of_probability(p.detach(), Y)
    assert p.grad is not None
    torch.testing.assert_close((signal, loss), (p.grad, expected.detach()))


def test_the_squared_error_of_logits_is_torchs_against_one_hot_targets() -> None:
    z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = F.mse_loss(z, F.one_hot(y, 5).double())
    expected.backward()
    signal, loss = SquaredError()(z.detach(), y)
    assert z.grad is not None
    torch.testing.assert_close((signal, loss), (z.grad, expected.detach()))


def test_half_the_sum_of_squares_is_averaged_over_the_batch_alone() -> None:
    z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = torch.stack([0.5 * (z[i] - F.one_hot(y[i], 5)).square().sum() for i in range(6)]).mean()
    expected.backward()
    signal, loss = HalfSquaredError()(z.detach(), y)
    assert z.grad is not None
    torch.testing.assert_close((signal, loss), (z.grad, expected.detach()), rtol=1e-13, atol=0)
    torch.testing.assert_close(signal, 2.5 * SquaredError()(z.detach(), y)[0])
    p = probabilities().requires_grad_()
    half = 0.5 * F.mse_loss(p, Y.double().unsqueeze(1))
    half.backward()
    assert p.grad is not None
    torch.testing.assert_close(HalfSquaredError().of_probability(p.detach(), Y), (p.grad, half.detach()))


@pytest.mark.parametrize("signal", ["ce", "mse"])
def test_a_step_of_backprop_is_autograds(signal: str) -> None:
    model, (x, y) = suc(), batch()
    p, target = model(x), y.double().unsqueeze(1)
    loss = F.binary_cross_entropy(p, target) if signal == "ce" else F.mse_loss(p, target)
    loss.backward()
    expected = gradients(model)
    outcome = credit.rule("bp", model, loss=signal).step(x, y)
    assert outcome.logits.shape == (8, 1)
    torch.testing.assert_close(outcome.loss, loss.detach())
    torch.testing.assert_close(gradients(model), expected, rtol=1e-12, atol=1e-15)
    assert outcome.signals["output.active"] == 1


def test_the_tied_logistic_gives_the_error_and_a_constant_gate_the_loss_own_slope() -> None:
    model, (x, y) = suc(), batch()
    p = model(x).detach()
    credit.rule("bp", model).step(x, y)
    torch.testing.assert_close(gradients(model)[0], (p - y.unsqueeze(1)).T @ x / 8)
    credit.rule("bp", model, gate="untied_constant").step(x, y)
    torch.testing.assert_close(gradients(model)[0], ((p - y.unsqueeze(1)) / (p * (1 - p))).T @ x / 8)


def test_a_step_unit_learns_by_the_delta_rule() -> None:
    model, (x, y) = suc("step"), batch()
    p = model(x).detach()
    assert set(p.flatten().tolist()) == {0.0, 1.0}
    credit.rule("ste", model, loss="mse").step(x, y)
    torch.testing.assert_close(gradients(model)[0], 2 * (p - y.unsqueeze(1)).T @ x / 8)


def test_steps_can_be_mapped_over_replicas() -> None:
    models = [build({"kind": "suc"}, (5,), 2, seed=seed) for seed in range(3)]
    x, y = batch()
    for signal in ("ce", "mse"):
        singles, calls = [], []
        for model in models:
            rule = credit.rule("bp", model, loss=signal)
            function, arguments = rule.functional(x.float(), y)
            calls.append(arguments)
            singles.append(rule.updates(x.float(), y).updates["unit.weight"])
        stacked = torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts), *calls)
        together = torch.func.vmap(function)(*stacked)[2]["unit.weight"]
        torch.testing.assert_close(together, torch.stack(singles))


REFUSED: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("lisp", "sigmoid", {}, ("rule.loss=violations compares the logits of classes", "SingleUnit gives one number")),
    ("lisp_margin", "sigmoid", {}, ("Write rule.loss=ce, mse or half_sse, or use", "or use a network that returns logits",)),
    ("bp_hinge", "step", {}, ("rule.loss=worst_violation",)),
    ("ste", "step", {}, ("rule.loss=auto cannot take step at 'act' in SingleUnit", "is infinite", "Write rule.loss=mse")),
    ("bp", "identity", {}, ("needs a number in [0, 1], and identity gives any", "Write rule.loss=mse")),
    ("lisp_ce", "sigmoid", {}, ("rule.normalizer=rms brings", "one number", "Write rule.normalizer=none or max_abs")),
    ("bp", "relu", {}, ("and relu gives any",)),
    ("bp", "step", {"loss": "mse"}, ("rule.gate=derivative cannot take step at 'act'", "rule=ste")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "activation", "options", "words"), REFUSED)
def test_what_cannot_score_the_output_is_refused(
    name: str, activation: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule(name, suc(activation), **options)
    for word in words:
        assert word in str(refusal.value)


class TwoColumns(nn.Sequential):
    output_kind = "probability"


class Misspelt(nn.Sequential):
    output_kind = "probabilities"


def test_labels_shapes_and_words_that_do_not_belong_to_a_probability_are_refused() -> None:
    x, y = batch()
    rule = credit.rule("bp", suc())
    for label in (2, -1):
        with pytest.raises(UserError, match=f"label {label}: SingleUnit gives the probability of class 1, so labels"):
            rule.step(x, y.clone().fill_(label))
    wide = TwoColumns(nn.Linear(5, 2), nn.Sigmoid()).double()
    with pytest.raises(
        UserError, match=r"says output_kind='probability' but returns \(8, 2\); .* one column, \(B, 1\)"
    ):
        credit.rule("bp", wide).step(x, y)
    with pytest.raises(UserError, match="Misspelt.output_kind='probabilities'.*did you mean 'probability'?"):
        credit.rule("bp", Misspelt(OrderedDict(unit=nn.Linear(5, 1))))
    with pytest.raises(UserError, match=r"label 1 is outside \[0, 1\).* says so in its class, output_kind ="):
        credit.rule("bp", nn.Sequential(nn.Linear(5, 1)).double()).step(x, y)


def test_a_set_of_more_classes_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"arch=suc has one output.* has 10 classes; use data=ones or .* arch.widths=\[\]"
    ):
        build({"kind": "suc"}, (1, 8, 8), 10, seed=0)
