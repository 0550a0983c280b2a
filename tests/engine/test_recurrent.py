"""nn.RNN, nn.GRU and nn.LSTM in a user's network, written out over time: against torch's own, by autograd."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import credit
from credit.core.errors import UserError
from credit.engine.ops.weighted import Linear


class Reader(nn.Module):
    """Reads (B, T, 4): a recurrent module, and a head on all its outputs and its last state."""

    def __init__(self, kind: Callable[..., nn.RNNBase], given: bool = False, **options: object) -> None:
        super().__init__()
        self.cells = kind(4, 5, **options)
        ways = 2 if self.cells.bidirectional else 1
        self.given, self.places = given, ways * self.cells.num_layers
        self.head = nn.Linear(ways * (self.cells.proj_size or 5), 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.cells.batch_first else x.transpose(0, 1)
        if self.given:
            start = torch.tanh(x.mean(1)).expand(self.places, -1, -1)[..., :1].expand(-1, -1, 5)
            out, last = self.cells(x, (start, start) if isinstance(self.cells, nn.LSTM) else start)
        else:
            out, last = self.cells(x)
        last = last[1] if isinstance(last, tuple) else last
        return self.head(out.mean(1 if self.cells.batch_first else 0)) + last.sum((0, 2)).unsqueeze(-1)


CASES = [
    (nn.RNN, {"batch_first": True}),
    (nn.RNN, {"nonlinearity": "relu", "bias": False, "num_layers": 2}),
    (nn.GRU, {"batch_first": True, "bidirectional": True}),
    (nn.GRU, {"bias": False}),
    (nn.GRU, {"batch_first": True, "given": True, "num_layers": 2}),
    (nn.LSTM, {"batch_first": True, "num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"proj_size": 3, "num_layers": 2}),
    (nn.LSTM, {"batch_first": True, "given": True, "bias": False}),
]


def _batch(count: int = 6) -> tuple[Tensor, Tensor]:
    by = torch.Generator().manual_seed(count)
    return torch.randn(count, 4, 4, generator=by, dtype=torch.float64), torch.arange(count) % 3


@pytest.mark.parametrize("kind, options", CASES)
def test_backprop_equals_autograd(kind, options):
    torch.manual_seed(0)
    net = Reader(kind, **options).double()
    twin = copy.deepcopy(net)
    rule = credit.rule("bp", net, example=_batch(2)[0])
    for count in (2, 6):
        x, y = _batch(count)
        logits = rule.step(x, y).logits
        twin.zero_grad()
        wanted = twin(x)
        torch.testing.assert_close(logits, wanted.detach(), atol=1e-9, rtol=0)
        F.cross_entropy(wanted, y).backward()
        for (name, mine), (_, p) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
            assert mine.grad is not None and p.grad is not None
            torch.testing.assert_close(mine.grad, p.grad, atol=1e-9, rtol=0, msg=name)
    assert not rule.plan.localised


def test_weights_of_a_recurrent_module_are_layers_with_one_feedback_matrix_for_all_positions():
    torch.manual_seed(0)
    net = Reader(nn.LSTM, batch_first=True).double()
    x, y = _batch()
    rule = credit.rule("fa", net, example=x)
    assert "feedback.cells.weight_hh_l0" in rule.buffers
    used = [op for op in rule.plan.ops if isinstance(op, Linear) and op.params["weight"] == "cells.weight_hh_l0"]
    assert len(used) == x.shape[1] - 1
    before = rule.updates(x, y).updates["cells.weight_ih_l0"]
    rule.buffers["feedback.cells.weight_hh_l0"] = net.cells.get_parameter("weight_hh_l0").detach().clone()
    rule.buffers["feedback.head.weight"] = net.head.weight.detach().clone()
    wanted = credit.rule("bp", net, example=x).updates(x, y).updates
    after = rule.updates(x, y).updates
    assert float((before - wanted["cells.weight_ih_l0"]).norm()) > 1e-3
    for name, value in wanted.items():
        torch.testing.assert_close(after[name], value, atol=1e-9, rtol=0, msg=name)


def test_a_recurrent_module_with_weight_norm():
    torch.manual_seed(0)
    net = Reader(nn.GRU, batch_first=True).double()
    parametrizations.weight_norm(net.cells, "weight_hh_l0")
    twin = copy.deepcopy(net)
    x, y = _batch()
    credit.rule("bp", net, example=x).step(x, y)
    F.cross_entropy(twin(x), y).backward()
    for (name, mine), (_, p) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, p.grad, atol=1e-9, rtol=0, msg=name)


def test_what_cannot_be_written_out_is_refused():
    x = _batch()[0]
    with pytest.raises(UserError, match="example=x"):
        credit.rule("bp", Reader(nn.LSTM).double())
    with pytest.raises(UserError, match=r"dropout=0.1 between its layers.*nn.Dropout between them"):
        credit.rule("bp", Reader(nn.LSTM, num_layers=2, dropout=0.1).double(), example=x)
    rule = credit.rule("bp", Reader(nn.LSTM, batch_first=True).double(), example=x)
    with pytest.raises(UserError, match=r"is for samples of \(4, 4\)"):
        rule.step(torch.randn(2, 5, 4, dtype=torch.float64), torch.tensor([0, 1]))
