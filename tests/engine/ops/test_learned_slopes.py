"""PReLU, whose slope learns: it takes part in every sweep, or is refused in words."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError


def net(kind: type[nn.Module] = nn.PReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), kind(), nn.Linear(8, 7), kind(), nn.Linear(7, 4)).double()


def batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(9, 6, generator=source).double(), torch.arange(9) % 4


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa", "untied_constant", "jam_full"])
def test_slopes_learn(rule: str) -> None:
    model, (x, y) = net(), batch()
    made = credit.rule(rule, model, precision="float64", example=x).step(x, y)
    assert made.logits.shape == (9, 4)
    for at in (1, 3):
        grad = model.get_parameter(f"{at}.weight").grad
        assert grad is not None and float(grad.abs().max()) > 0


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "lisp_margin": ({}, ("rule.gate=responsive cannot take prelu at '1' in Sequential", "not monotone")),
    "dp": ({}, ("prelu", "falls somewhere")),
    "eqprop": ({}, ("prelu", "falls somewhere")),
    "lfp_epsilon": ({}, ("activation '3' in Sequential", "no reading")),
    "dtp": ({}, ("prelu", "a slope that learns", "nn.LeakyReLU")),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_has_no_meaning_for_a_learned_slope_is_refused(rule: str) -> None:
    options, words = REFUSED[rule]
    x, y = batch()
    with pytest.raises(UserError) as refused:
        credit.rule(rule, net(), precision="float64", example=x, **options).step(x, y)
    for word in words:
        assert word in str(refused.value), str(refused.value)


@pytest.mark.parametrize("kind", [nn.SELU, nn.CELU])
@pytest.mark.parametrize("rule", ["bp", "lisp_margin", "lfp_epsilon", "dp", "eqprop", "rec_lra", "dtp"])
def test_selu_and_celu_are_activations_for_every_rule(rule: str, kind: type[nn.Module]) -> None:
    model, (x, y) = net(kind), batch()
    credit.rule(rule, model, precision="float64", example=x).step(x, y)
    for parameter in model.parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())


def test_dual_propagation_is_backprop_where_nudges_are_weak() -> None:
    """The states' differences use the closed forms of the two functions."""
    for kind in (nn.SELU, nn.CELU):
        model, (x, y) = net(kind), batch()
        found = credit.rule("dp", model, precision="float64", beta=1e-7).updates(x, y).updates
        for name, update in credit.rule("bp", model, precision="float64").updates(x, y).updates.items():
            torch.testing.assert_close(found[name], update, rtol=1e-5, atol=1e-8)
