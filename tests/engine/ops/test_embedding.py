"""Networks of tokens: an embedding looks integer inputs up, and its table learns under every rule that has a reading of it."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError

WORDS, LENGTH = 11, 6


class Bag(nn.Module):
    """The mean of a text's embeddings, and two layers."""

    def __init__(self, act: type[nn.Module] = nn.Tanh) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 8, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(8, 7), act(), nn.Linear(7, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.layers(self.table(tokens).mean(1))
        return out


class Encoder(nn.Module):
    """A transformer of tokens and places that does not look at padding; the output's weights are the table's."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(WORDS, 8), nn.Embedding(LENGTH, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, WORDS)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.table(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        out: Tensor = self.head(self.encoder(h, src_key_padding_mask=tokens == 0)[:, 0])
        return out


def batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, WORDS, (9, LENGTH), generator=source)
    tokens[:, 4:] = 0
    return tokens, torch.randint(0, 3, (9,), generator=source)


def net(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().double()


@pytest.mark.parametrize("kind", [Bag, Encoder])
def test_a_network_of_tokens_equals_autograd(kind: type[nn.Module]) -> None:
    model, (x, y) = net(kind), batch()
    same = copy.deepcopy(model)
    F.cross_entropy(same(x), y).backward()
    credit.rule("bp", model, precision="float64").step(x, y)
    for name, p in same.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(model.get_parameter(name).grad, p.grad, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "rule", ["fa", "dfa", "usf", "lisp_margin", "untied_constant", "dp", "eqprop", "rec_lra", "dtp"]
)
def test_the_table_learns_under_every_rule(rule: str) -> None:
    model, (x, y) = net(Bag), batch()
    options: dict[str, Any] = {"first_target": "logits"} if rule == "dtp" else {}
    step = credit.rule(rule, model, precision="float64", example=x, **options).step(x, y)
    assert step.logits.shape == (9, 3)
    grad = model.get_parameter("table.weight").grad
    assert grad is not None and bool(grad[1:].any()) and not bool(grad[0].any())


def test_dual_propagation_comes_to_backprop_at_the_table() -> None:
    model, (x, y) = net(Bag), batch()
    made = credit.rule("dp", model, precision="float64", beta=1e-7).updates(x, y).updates["table.weight"]
    exact = credit.rule("bp", model, precision="float64").updates(x, y).updates["table.weight"]
    torch.testing.assert_close(made, exact, rtol=1e-5, atol=1e-9)


def test_bfloat16_looks_up_and_learns() -> None:
    model, (x, y) = net(Bag).float(), batch()
    credit.rule("bp", model, precision="bf16").step(x, y)
    exact = credit.rule("bp", copy.deepcopy(model)).updates(x, y).updates["table.weight"]
    grad = model.get_parameter("table.weight").grad
    assert grad is not None and grad.dtype == torch.float32
    torch.testing.assert_close(grad, exact, rtol=0.1, atol=0.02 * float(exact.abs().max()))


def refusal(rule: str, x: Tensor) -> str:
    with pytest.raises(UserError) as refused:
        credit.rule(rule, net(Bag), precision="float64").step(x, batch()[1])
    return str(refused.value)


def test_what_cannot_be_is_refused_in_words() -> None:
    x, _ = batch()
    told = refusal("bp", x.double())
    assert "x is torch.float64" in told and "Bag looks its input up in an embedding" in told and "x.long()" in told
    rule = credit.rule("bp", net(Bag), precision="float64")
    rule.keep_input_signal = True
    with pytest.raises(UserError, match="to the input of Bag .* its input is tokens"):
        rule.step(*batch())
