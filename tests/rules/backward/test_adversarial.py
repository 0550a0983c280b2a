"""Training at x + epsilon sign(gradient): whole steps against autograd in float64, BatchNorm, draws, what is refused."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.ops.weighted import Weighted
from credit.rules import Mapped
from tests.support import nets

EPSILON = 0.05


def least(z: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (z - F.one_hot(y, z.shape[1])).square().sum() / len(y)


def worst(z: Tensor, y: Tensor) -> Tensor:
    gaps = (1 - (z.gather(1, y[:, None]) - z)).scatter(1, y[:, None], 0.0).clamp(min=0)
    return 0.5 * gaps.amax(1).square().sum() / len(y)


LOSSES: dict[str, Any] = {"ce": F.cross_entropy, "half_sse": least, "worst_violation": worst}


def moved(model: nn.Module, x: Tensor, y: Tensor, loss: Any) -> Tensor:
    """By autograd, on a copy whose statistics nobody sees again."""
    x = x.clone().requires_grad_()
    loss(copy.deepcopy(model)(x), y).backward()
    assert x.grad is not None
    return (x + EPSILON * x.grad.sign()).detach()


@pytest.mark.parametrize("signal", LOSSES)
@pytest.mark.parametrize("norm", [False, True])
def test_a_step_is_autograds_at_the_moved_batch(signal: str, norm: bool) -> None:
    model = nets.Residual("tanh", norm=norm)
    x, y = nets.batch(model, (2, 5, 7))
    twin = copy.deepcopy(model)
    kept = x.clone()
    outcome = credit.rule("bp_fgsm", model, loss=signal, fgsm_epsilon=EPSILON).step(x, y)
    loss = LOSSES[signal](twin(moved(twin, x, y, LOSSES[signal])), y)
    loss.backward()
    torch.testing.assert_close(outcome.loss, loss.detach(), rtol=1e-12, atol=0)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)
    # Statistics moved once, by the moved batch alone, and the caller's batch not at all.
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-12, atol=1e-14)
    assert torch.equal(x, kept)
    clean = copy.deepcopy(twin)
    clean.zero_grad()
    credit.rule("bp", clean, loss=signal).step(x, y)
    unmoved, moved_grad = (net.get_parameter("stem.weight").grad for net in (clean, model))
    assert unmoved is not None and moved_grad is not None and not torch.allclose(unmoved, moved_grad)


@pytest.mark.parametrize("name", ["fa", "dfa", "lisp_margin", "usf", "untied_constant"])
def test_any_sweep_rule_makes_its_own_step_at_the_batch_that_the_true_gradient_moves(name: str) -> None:
    model = nets.Residual("tanh", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    loss = F.cross_entropy if name != "lisp_margin" else worst
    at = moved(model, x, y, loss)
    expected = credit.rule(name, model, seed=3).updates(at, y)
    found = credit.rule(name, model, seed=3, fgsm_epsilon=EPSILON).updates(x, y)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found.updates, expected.updates, rtol=1e-8, atol=1e-11)
    assert float((at - x).abs().max()) == pytest.approx(EPSILON)


def test_dropout_drops_the_same_units_from_the_attack_and_the_step() -> None:
    model = nn.Sequential(nn.Linear(7, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 5)).double()
    x, y = nets.batch(model, (7,))
    rule = credit.rule("bp_fgsm", model, fgsm_epsilon=EPSILON)
    asked: dict[str, Tensor] = rule.functional(x, y)[1][-1]
    [mask] = asked.values()
    kept = (credit.rule("bp", model).step(x, y).logits, rule.step(x, y).logits)
    assert mask.shape == (6, 30)
    # The gradient of the masked network, so that its loss rises as far as it can to first order.
    rises = F.cross_entropy(kept[1], y) - F.cross_entropy(kept[0], y)
    assert float(rises) > 0


def test_a_share_of_the_samples_is_drawn_afresh_in_every_step() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=400)
    clean = model(x).detach()
    rule = credit.rule("bp_fgsm", model, fgsm_epsilon=EPSILON, adversarial_share=0.3)
    whole = credit.rule("bp_fgsm", model, fgsm_epsilon=EPSILON).updates(x, y).logits
    touched = []
    for _ in range(2):
        logits = rule.step(x, y).logits
        at = (logits != clean).any(1)
        assert torch.allclose(logits[at], whole[at]) and torch.allclose(logits[~at], clean[~at])
        touched.append(at)
    assert 80 < int(touched[0].sum()) < 160 and not torch.equal(*touched)


def test_the_attack_updates_nothing_and_leaves_the_rules_own_plan_alone() -> None:
    model = nets.mlp("relu")
    rule = credit.rule("bp_fgsm", model)
    first = next(op for op in rule.plan.ops if isinstance(op, Weighted))
    assert first.wants == (False,) and not rule.plan.to_input
    x, y = nets.batch(model, (7,))
    assert rule.step(x, y).input_signal is None
    rule.keep_input_signal = True
    assert rule.step(x, y).input_signal is not None


def test_frozen_first_layers_are_crossed_by_the_attack() -> None:
    model = nets.mlp("tanh")
    twin = copy.deepcopy(model)
    x, y = nets.batch(model, (7,))
    model[0].requires_grad_(False)
    credit.rule("bp_fgsm", model, fgsm_epsilon=EPSILON).step(x, y)
    F.cross_entropy(twin(moved(twin, x, y, F.cross_entropy)), y).backward()
    assert model.get_parameter("0.weight").grad is None
    torch.testing.assert_close(model.get_parameter("2.weight").grad, twin.get_parameter("2.weight").grad)


def test_several_in_one_pass_and_half_precision() -> None:
    models = [nets.mlp("tanh", seed=seed) for seed in (1, 2)]
    batches = [nets.batch(model, (7,)) for model in models]
    rules = [
        credit.rule("bp_fgsm", m, seed=s, fgsm_epsilon=EPSILON, adversarial_share=0.5) for s, m in enumerate(models)
    ]
    alone = [rule.updates(*batch).updates for rule, batch in zip(rules, batches, strict=True)]
    together = Mapped(rules)
    together.step(torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]))
    for at, (rule, expected) in enumerate(zip(rules, alone, strict=True)):
        together.show_updates(at)
        torch.testing.assert_close({name: p.grad for name, p in rule.model.named_parameters()}, expected)
    model = nets.mlp("tanh").float()
    x, y = batches[0][0].float(), batches[0][1]
    credit.rule("bp_fgsm", model, precision="bf16").step(x, y)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fgsm_epsilon": 0.0}, r"rule.fgsm_epsilon=0 is outside \(0, inf\).* null: examples as they are"),
    ({"fgsm_epsilon": -0.1}, r"rule.fgsm_epsilon=-0.1 is outside \(0, inf\)"),
    ({"adversarial_share": 0.0}, r"rule.adversarial_share=0 is outside \(0, 1\]"),
    ({"adversarial_share": 1.5}, r"outside \(0, 1\]"),
    ({"fgsm_epsilon": None, "adversarial_share": 0.5}, "would change nothing: it is read with rule.fgsm_epsilon above 0 alone"),
    ({"fgsm_epsilon": "much"}, "rule.fgsm_epsilon"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_is_no_attack_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        credit.rule("bp_fgsm", nets.mlp("relu"), **options)


@pytest.mark.parametrize("activation", ["step", "sign"])
def test_a_network_whose_gradient_is_0_is_refused(activation: str) -> None:
    with pytest.raises(
        UserError, match=f"which is 0 below activation '1' in Sequential, a {activation}: nothing would"
    ):
        credit.rule("ste", nets.mlp(activation), fgsm_epsilon=0.01)
