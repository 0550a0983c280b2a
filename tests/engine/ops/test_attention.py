"""Attention modules with dropout, and what a rule makes of them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.ops.chance import Dropout
from credit.engine.plan import Plan
from tests.support.harness import assert_close, by_plan, draws


class Attending(nn.Module):
    """Attention with dropout on its weights, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x)
        out: Tensor = self.attention(h, h, h, need_weights=False)[0]
        return out

    def written_out(self, x: Tensor, mask: Tensor) -> Tensor:
        inner = self.attention
        made = F.linear(self.before(x), inner.in_proj_weight, inner.in_proj_bias)
        q, k, v = made.unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.mT / 3**0.5).softmax(-1) * mask / 0.6
        out: Tensor = inner.out_proj((weights @ v).transpose(1, 2).flatten(2))
        return out


def test_dropout_within_attention_is_drawn_once_a_step() -> None:
    torch.manual_seed(0)
    model, x = Attending().double(), torch.randn(3, 5, 6, dtype=torch.float64)
    out, updates, _, g = by_plan(model, x)
    dropout = next(op for op in Plan(model).ops if isinstance(op, Dropout))
    assert dropout.name.partition("#")[0] == "attention"  # the module, which the check of outputs puts in eval mode
    mask = draws(x).get(f"dropout.{dropout.name}", "uniform", (3, 2, 5, 5), x.dtype) >= 0.4
    expected = model.written_out(x, mask)
    assert_close(out, expected.detach(), "output")
    grads = torch.autograd.grad(expected, list(model.parameters()), g)
    for (name, _), grad in zip(model.named_parameters(), grads, strict=True):
        assert_close(updates[name], grad, name)


class Encoded(nn.Module):
    """Torch's encoder, as its documentation uses it, over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa", "lisp_margin"])
def test_torchs_encoder_learns_and_needs_no_autograd(rule: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(9, 4, 8), torch.arange(9) % 3
    model: Any = Encoded()
    made = credit.rule(rule, model, example=x)
    assert not made.plan.localised
    step = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        losses.append(float(made.step(x, y).loss))
        step.step()
    assert losses[-1] < 0.8 * losses[0]


def test_weights_are_layers_by_name() -> None:
    plan = Plan(Encoded())
    names = {op.params["weight"] for op in plan.back if op.kind == "linear"}
    parts = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    assert names == {f"encoder.layers.{at}.{part}" for at in (0, 1) for part in parts} | {"head.weight"}


def test_a_mask_that_is_computed_from_the_input_is_refused() -> None:
    class Masking(Attending):
        def forward(self, x: Tensor) -> Tensor:
            h = self.before(x)
            out: Tensor = self.attention(h, h, h, attn_mask=h[0, :, :5], need_weights=False)[0]
            return out

    with pytest.raises(UserError) as refused:
        Plan(Masking())
    assert "'attention' in Masking: a mask of nn.MultiheadAttention" in str(refused.value)
