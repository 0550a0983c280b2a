"""Ops without a row, differentiated by autograd one at a time on request."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.engine.plan import Capabilities, Plan
from tests.support.harness import WAYS, Around, assert_close, assert_equal, by_plan, case, draws


class Recurrent(nn.Module):
    """nn.GRU returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(6, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, last = self.inner(x)
        return torch.cat([out + x, last.transpose(0, 1)], 1)


CASES = {
    "recurrent": case(Recurrent(), 2, 3, 6, linear=True),
    "function": case(lambda x: torch.logsumexp(x, 1, keepdim=True) * x, 3, 5),
    "view": case(lambda x: x.diagonal(0, 0, 1), 3, 5),
    "view, overwritten": case(lambda x: torch.relu(x.moveaxis(0, 1)), 3, 5),
    "reduction": case(lambda x: x.std(1) + x.var(1), 3, 5),
    "method in place": case(lambda x: (x * 2).erf_(), 3, 5),
    "function in place": case(lambda x: F.threshold(x * 2, 0.1, 0.0, inplace=True), 3, 5),
    "augmented": case(lambda x: _remainder(x * 1), 3, 5),
    "weights": case(nn.Bilinear(5, 5, 5), 3, 5, two=True),
    "two inputs": case(nn.Bilinear(5, 5, 3), 4, 5, two=True),
    "running statistics": case(nn.InstanceNorm2d(3, affine=True, track_running_stats=True), 2, 3, 5, 4),
    "unused input": case(lambda x, y: torch.where(torch.isnan(x.detach()), y, x * 3) + torch.erf(y), 3, 5, two=True),
}


def _remainder(x: Tensor) -> Tensor:
    x %= 0.3
    return x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_local_autograd_equals_autograd(name: str, way: str) -> None:
    model, x = CASES[name](way)
    plan = Plan(model, Capabilities(local_autograd=True))
    assert plan.localised
    assert_equal(model, x, local=True)


def test_only_the_unknown_op_is_localised_and_the_rule_says_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Softshrink(), nn.Linear(4, 2))
    rule = credit.rule("bp", model, local_autograd=True)
    assert rule.plan.localised == ["1 (Softshrink)"]
    assert any("local autograd" in note and "1 (Softshrink)" in note for note in rule.notes)
    rule.step(torch.randn(3, 4), torch.tensor([0, 1, 1]))
    assert all(p.grad is not None for p in model.parameters())


def test_updates_on_copied_buffers_leave_a_local_modules_statistics_alone() -> None:
    model, x = CASES["running statistics"]("alone")
    before = copy.deepcopy(model.state_dict())
    _, _, moved, _ = by_plan(model, x, plan=Plan(model, Capabilities(local_autograd=True)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(moved["op.running_mean"], before["op.running_mean"])


def test_wide_attention_from_rows_alone() -> None:
    """Attention written out has rows and needs no autograd."""

    def attention(x: Tensor) -> Tensor:
        q, k, v = x.chunk(3, dim=-1)
        return (q @ k.transpose(-2, -1) * 0.5).softmax(dim=-1) @ v

    model = Around(attention, (2, 5, 12), linear=True, two=False, way="added").double()
    assert_equal(model, torch.randn(2, 5, 12, dtype=torch.float64))


def test_a_nonfinite_value_is_named_where_it_appears() -> None:
    class Burst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Any:
            return self.fc2(self.fc1(x) / 0.0)

    model = Burst()
    plan = Plan(model)
    x = torch.ones(2, 3)
    params: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        assert plan.first_nonfinite(plan.run(params, {}, draws(x)), x) == "the output of affine 'truediv'"
        assert plan.first_nonfinite(plan.run(params, {}, draws(x)), x * torch.nan) == "the input batch"
        params["fc2.bias"] = torch.tensor([torch.inf, 0.0])
        assert plan.first_nonfinite(plan.run(params, {}, draws(x)), x) == "parameter 'fc2.bias'"
    assert_close(x, torch.ones(2, 3), "input")
