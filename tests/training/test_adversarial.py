"""Training at x + epsilon sign(gradient): whole steps against autograd in float64, BatchNorm, draws, what is refused."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.rules import Mapped
from credit.training.adversarial import Attack
from credit.training.prepare import prepare
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
    rule = credit.rule("bp", model, loss=signal)
    outcome = rule.step(Attack(rule, EPSILON)(x, y), y)
    loss = LOSSES[signal](twin(moved(twin, x, y, LOSSES[signal])), y)
    loss.backward()
    torch.testing.assert_close(outcome.loss, loss.detach(), rtol=1e-12, atol=0)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)
    # Statistics moved once, by the moved batch alone, and the caller's batch not at all.
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-12, atol=1e-14)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", ["fa", "dfa", "lisp_margin", "usf", "untied_constant", "lfp_epsilon", "dp", "rec_lra"])
def test_any_rules_batch_is_moved_by_the_true_gradient_of_its_loss(name: str) -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    loss = {"lisp_margin": worst, "dp": least}.get(name, F.cross_entropy)
    options: dict[str, Any] = {"loss": "half_sse"} if name == "dp" else {}
    rule = credit.rule(name, model, seed=3, **options)
    found = Attack(rule, EPSILON)(x, y)
    torch.testing.assert_close(found, moved(model, x, y, loss), rtol=1e-12, atol=1e-13)
    assert float((found - x).abs().max()) == pytest.approx(EPSILON)
    assert rule.position == 0 and all(p.grad is None for p in model.parameters())


def test_the_losss_own_options_are_followed() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("bp", model, label_smoothing=0.9)
    smooth = moved(model, x, y, lambda z, labels: F.cross_entropy(z, labels, label_smoothing=0.9))
    assert torch.equal(Attack(rule, EPSILON)(x, y), smooth)
    assert not torch.equal(smooth, moved(model, x, y, F.cross_entropy))


def test_dropout_drops_the_same_units_from_the_attack_and_the_step() -> None:
    model = nn.Sequential(nn.Linear(7, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 5)).double()
    x, y = nets.batch(model, (7,))
    rule = credit.rule("bp", model)
    clean, found = rule.updates(x, y), rule.updates(Attack(rule, EPSILON)(x, y), y)
    # The gradient of the masked network, so that its loss rises as far as it can to first order.
    assert float(F.cross_entropy(found.logits, y) - F.cross_entropy(clean.logits, y)) > 0


def test_a_share_of_the_samples_is_drawn_afresh_in_every_step() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=400)
    rule = credit.rule("bp", model)
    attack, whole = Attack(rule, EPSILON, 0.3), Attack(rule, EPSILON)(x, y)
    touched = []
    for _ in range(2):
        found = attack(x, y)
        at = (found != x).any(1)
        assert torch.equal(found[at], whole[at]) and torch.equal(found[~at], x[~at])
        touched.append(at)
        rule.position += 1
    assert 80 < int(touched[0].sum()) < 160 and not torch.equal(*touched)


def test_frozen_first_layers_are_crossed() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    wanted = moved(model, x, y, F.cross_entropy)
    model[0].requires_grad_(False)
    assert torch.allclose(Attack(credit.rule("bp", model), EPSILON)(x, y), wanted, rtol=1e-12)


def test_frozen_norms_stay_frozen_when_the_model_changes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 4)).double()
    model[1].running_mean.add_(0.5)  # type: ignore[operator]
    x, y = torch.randn(12, 7).double(), torch.arange(12) % 4
    attack = Attack(credit.rule("dp", model, batchnorm="frozen"), EPSILON)
    wanted = moved(copy.deepcopy(model).eval(), x, y, F.cross_entropy)
    for _ in range(2):
        assert torch.allclose(attack(x, y), wanted, rtol=1e-12)
        model[0].requires_grad_(False)


@pytest.mark.parametrize("norm", [False, True])
def test_several_in_one_pass_are_moved_as_each_alone(norm: bool) -> None:
    models = [nets.Residual("tanh", norm=norm, seed=seed) for seed in (1, 2)]
    batches = [nets.batch(model, (2, 5, 7)) for model in models]
    rules = [credit.rule("bp", m, seed=s) for s, m in enumerate(models)]
    attacks = [Attack(rule, EPSILON, 0.5) for rule in rules]
    alone = [attack(*batch) for attack, batch in zip(attacks, batches, strict=True)]
    x, y = (torch.stack(parts) for parts in zip(*batches, strict=True))
    mapped = Mapped(rules)
    before = {name: value.clone() for name, value in models[0].state_dict().items()}
    torch.testing.assert_close(Attack.together(attacks, mapped, x, y), torch.stack(alone))
    assert all(torch.equal(value, before[name]) for name, value in models[0].state_dict().items())


def test_half_precision() -> None:
    model = nets.mlp("tanh").float()
    x, y = nets.batch(nets.mlp("tanh"), (7,))
    x = x.float()
    found = Attack(credit.rule("bp", model, precision="bf16"), EPSILON)(x, y)
    assert found.dtype == torch.float32 and float((found - x).abs().max()) == pytest.approx(EPSILON, rel=1e-5)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"adversarial_epsilon": 0.0}, r"trainer.adversarial_epsilon=0 is outside \(0, inf\).* null: examples as they are"),
    ({"adversarial_epsilon": -0.1}, r"trainer.adversarial_epsilon=-0.1 is outside \(0, inf\)"),
    ({"adversarial_share": 0.0}, r"trainer.adversarial_share=0 is outside \(0, 1\]"),
    ({"adversarial_share": 1.5}, r"outside \(0, 1\]"),
    ({"adversarial_epsilon": None, "adversarial_share": 0.5}, "would change nothing: it is read with trainer.adversarial"),
    ({"adversarial_epsilon": "much"}, "trainer.adversarial_epsilon"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_is_no_attack_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        compose([f"trainer.{name}={'null' if value is None else value}" for name, value in options.items()])


@pytest.mark.parametrize("activation", ["step", "sign"])
def test_a_network_whose_gradient_is_0_is_refused(activation: str) -> None:
    rule = credit.rule("ste", nets.mlp(activation))
    with pytest.raises(
        UserError, match=f"which is 0 below activation '1' in Sequential, a {activation}: nothing would"
    ):
        Attack(rule, 0.01)
    with pytest.raises(UserError, match="trainer.adversarial_epsilon=0.01 follows the gradient at the input"):
        prepare(compose(["rule=ste", f"arch.activation={activation}", "trainer.adversarial_epsilon=0.01"]))


def test_a_loss_of_every_time_step_is_refused() -> None:
    words = ["rule=bp", "rule.loss=ce_rate", "arch=spiking_mlp", "trainer.adversarial_epsilon=0.1"]
    with pytest.raises(UserError, match=r"adversarial_epsilon=0.1 .* rule.loss=ce_rate scores every time step"):
        prepare(compose(words))
