"""``rule.clip_norm`` is torch's clip_grad_norm_, after whatever else an update suffers."""

import copy

import pytest
import torch

import credit
from credit.core.errors import UserError
from tests.support import nets


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3])
@pytest.mark.parametrize("name", ["bp", "lisp_raw", "dfa"])
def test_it_is_torchs_gradient_clipping(name: str, limit: float) -> None:
    model = nets.Residual("relu", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    twin = copy.deepcopy(model)
    credit.rule(name, twin).step(x, y)
    norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), limit)
    credit.rule(name, model, clip_norm=limit).step(x, y)
    assert (norm > limit) == (limit < 1)  # both sides of the limit are tried
    for (key, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and other.grad is not None
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-14, atol=0, msg=key)


def test_it_comes_after_the_clipping_of_each_update_and_after_the_ball() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    twin = copy.deepcopy(model)
    credit.rule("lisp", twin, clip=0.05, reproject=0.1).step(x, y)
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.08)
    credit.rule("lisp", model, clip=0.05, reproject=0.1, clip_norm=0.08).step(x, y)
    for p, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-12, atol=0)


def test_updates_of_zero_stay_zero() -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    with torch.no_grad():
        y[:] = 3
        model.get_parameter("4.bias")[3] += 1e3
    credit.rule("bp_hinge", model, clip_norm=1.0).step(x, y)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "rule.clip_norm=0 is outside (0, inf): limit on the Euclidean norm of all updates together"),
        (-1.0, "rule.clip_norm=-1 is outside (0, inf)"),
        (float("inf"), "rule.clip_norm=inf: must be a finite number"),
        ("1", "is a word: must be a number or null"),
    ],
)
def test_what_limits_nothing_is_refused(value: object, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule("bp", nets.mlp("relu"), clip_norm=value)
    assert words in str(refusal.value)
