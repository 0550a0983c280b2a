"""A step in anybody's loop: no autograd inside, gradients overwritten, nothing else of the model touched."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import credit
from credit.rules.outcome import InferenceDiverged
from tests.support import nets

RULES = [
    "bp", "bp_hinge", "bp_normhinge", "lisp", "lisp_margin", "lisp_ce", "lisp_raw", "ste", "fa", "dfa", "usf", "frsf", "brsf",
]  # fmt: skip


Case = tuple[nets.Residual, Tensor, Tensor]


@pytest.fixture
def image_case() -> Case:
    model: Any = nets.Residual("relu", norm=True)
    return (model, *nets.batch(model, (2, 5, 7)))


def test_all_rules_are_listed() -> None:
    listing: Any = credit.rules  # also the package of that name, which is how mypy sees it
    assert set(RULES) | {"sweep"} <= set(listing())


@pytest.mark.parametrize("name", RULES)
def test_no_autograd_in_a_step(name: str, image_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = image_case

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("autograd was called")

    saved: list[Tensor] = []
    monkeypatch.setattr(torch.autograd, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(Tensor, "backward", refuse)
    rule = credit.rule(name, model)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        step = rule.step(x, y)
    assert not saved  # no graph was built
    for tensor in (step.logits, step.loss, *step.signals.values()):
        assert not tensor.requires_grad and tensor.grad_fn is None
    for key, p in model.named_parameters():
        assert p.requires_grad and p.is_leaf, key
        assert p.grad is not None and not p.grad.requires_grad and p.grad.shape == p.shape, key


@pytest.mark.parametrize("outer", [torch.no_grad, torch.enable_grad, torch.inference_mode], ids=lambda f: f.__name__)
def test_the_callers_gradient_mode_does_not_matter(outer: Any, image_case: Case) -> None:
    model, x, y = image_case
    rule = credit.rule("lisp_ce", model)
    rule.step(x, y)
    expected = nets.gradients(model)
    with outer():
        rule.step(x, y)
        assert torch.is_grad_enabled() == (outer is torch.enable_grad)
    for key, update in nets.gradients(model).items():
        np.testing.assert_array_equal(update, expected[key])


@pytest.mark.parametrize("name", RULES)
def test_gradients_are_overwritten_and_the_rest_is_left_alone(name: str, image_case: Case) -> None:
    model, x, y = image_case
    weights, batch = nets.parameters(model), (x.clone(), y.clone())
    rule = credit.rule(name, model)
    rule.step(x, y)
    first = nets.gradients(model)
    for p in model.parameters():
        assert p.grad is not None
        p.grad.fill_(torch.nan)
    rule.position = 0
    rule.step(x, y)
    for key, update in nets.gradients(model).items():
        np.testing.assert_array_equal(update, first[key], err_msg=key)
        np.testing.assert_array_equal(nets.parameters(model)[key], weights[key], err_msg=key)
    assert torch.equal(x, batch[0]) and torch.equal(y, batch[1])
    assert model.training


@pytest.mark.parametrize("name", RULES)
def test_a_gradient_kept_from_an_earlier_step_is_not_written_over(name: str, image_case: Case) -> None:
    """Two steps never share memory: not with each other, nor with what a step returned or holds."""
    model, x, y = image_case
    rule = credit.rule(name, model)
    logits = rule.step(x, y).logits
    kept = [(p.grad, p.grad.clone()) for p in model.parameters() if p.grad is not None]
    told = logits.clone()
    rule.step(x.flip(0), y.flip(0))
    assert all(torch.equal(held, value) for held, value in kept)
    assert torch.equal(logits, told)


def test_backprop_by_autograd_still_works_on_the_same_model(image_case: Case) -> None:
    model, x, y = image_case
    credit.rule("bp", model).step(x, y)
    mine = nets.gradients(model)
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for key, update in nets.gradients(model).items():
        np.testing.assert_allclose(mine[key], update, rtol=1e-10, atol=1e-14)


def test_permuting_the_batch_changes_nothing(image_case: Case) -> None:
    model, x, y = image_case
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for name in ("lisp_margin", "fa", "dfa"):
        rule = credit.rule(name, model)
        rule.step(x, y)
        first = nets.gradients(model)
        rule.step(x[order], y[order])
        for key, update in nets.gradients(model).items():
            np.testing.assert_allclose(update, first[key], rtol=1e-9, atol=1e-13, err_msg=f"{name} {key}")


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


def learn(model: nn.Module, name: str, opt: torch.optim.Optimizer, epochs: int = 15) -> float:
    """Accuracy on the training set after a plain loop with torch's own optimizer and schedule."""
    x, y = digits()
    rule = credit.rule(name, model)
    order = torch.Generator().manual_seed(0)
    batches = [at for _ in range(epochs) for at in torch.randperm(len(x), generator=order).split(64)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, len(batches))
    for at in batches:
        rule.step(x[at], y[at])
        opt.step()
        schedule.step()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


RATES = {"bp_normhinge": 0.02, "lisp": 0.02, "lisp_margin": 0.02, "lisp_ce": 0.01}
RATES |= dict.fromkeys(("fa", "dfa", "usf", "frsf", "brsf"), 0.1)


LEARNING = ("bp", "bp_normhinge", "lisp_margin", "lisp_ce", "fa", "dfa")


@pytest.mark.parametrize(
    "name", [name if name in LEARNING else pytest.param(name, marks=pytest.mark.slow) for name in RULES]
)
def test_digits_are_learnt_in_a_foreign_loop(name: str) -> None:
    """Normalised signals do not shrink as the network learns, so their learning rate is smaller; feedback takes more steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = torch.optim.SGD(model.parameters(), lr=RATES.get(name, 0.05), momentum=0.9)
    # D1 gives fitted samples the weight of wrong ones, which holds LISP-CE back on a net without BatchNorm (.92 to .94).
    assert learn(model, name, opt) > (0.85 if name == "lisp_ce" else 0.95)


@pytest.mark.parametrize("name", ["lisp_margin", "dfa"])
def test_any_optimizer_of_torch_will_do(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    assert learn(model, name, torch.optim.AdamW(model.parameters(), lr=2e-3)) > 0.9


@pytest.mark.parametrize("name", ["lisp_margin", "ste"])
def test_a_network_of_signs_is_learnt_by_rules_without_derivatives(name: str) -> None:
    """The straight-through case of LISP: backprop's gradient is zero everywhere below a sign."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nets.ACTIVATIONS["sign"](), nn.Linear(128, 10))
    first = model.get_parameter("0.weight").detach().clone()
    assert learn(model, name, torch.optim.Adam(model.parameters(), lr=2e-3)) > 0.9
    assert float((model.get_parameter("0.weight").detach() - first).abs().max()) > 1e-3


def test_a_diverged_inference_reaches_other_processes() -> None:
    end = pickle.loads(pickle.dumps(InferenceDiverged("linear 'a'", "its states grew")))
    assert (end.where, end.why, str(end)) == ("linear 'a'", "its states grew", "first in linear 'a': its states grew")
