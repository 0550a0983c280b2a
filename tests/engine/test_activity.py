"""Leaving out samples whose signal is zero: every row of the table against the sweep over the whole batch, in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from credit.engine.activity import Separation, batch_norm, separation
from credit.engine.backward import BackwardPass
from credit.engine.ops.base import Rows
from credit.engine.plan import Plan
from tests.engine.ops.test_kernels import CASES, label, places
from tests.support.elementwise_cases import COMPARISONS
from tests.support.harness import assert_close, case, draws

BATCH = 6
# Rows whose cases in this folder all couple samples: by their nature, or because dim 0 is moved, or has time or a mask too.
COUPLING = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchNormAct2d", "spiking_kind", *COMPARISONS,
            "_get_relative_position_bias", "repeat", "long", "int", "bool", "shifted_window_attention"}  # fmt: skip
MOVING: dict[str, list[Any]] = {
    "matmul": [
        case(lambda x, y: torch.matmul(x, y.mT), 2, 3, 5, two=True, linear=True),
        case(lambda x: torch.matmul(x, torch.ones(5, 4, dtype=torch.float64)), 2, 5, linear=True),
        case(lambda x: torch.matmul(x, torch.ones(5, 4, dtype=torch.float64)), 2, 3, 5, linear=True),
        case(lambda x: torch.matmul(torch.ones(4, 3, dtype=torch.float64), x), 2, 3, 5, linear=True),
    ],
    "permute": [case(lambda x: torch.permute(x, (0, 2, 1)), 2, 3, 5)],
    "reshape": [case(lambda x: torch.reshape(x, (x.shape[0], 5, -1)), 2, 3, 5)],
    "sum": [case(lambda x: x.sum([1, -1]), 2, 3, 5), case(lambda x: x.sum(1, keepdim=True) * x, 2, 3)],
    "contiguous": [case(lambda x: x.transpose(1, 2).contiguous().view(x.shape[0], -1), 2, 3, 5)],
    "size": [case(lambda x: x.reshape(x.size(0), x.size(1) * x.size(dim=2)), 2, 3, 5)],
}


def plan_of(model: nn.Module, x: Tensor) -> tuple[Plan, Separation]:
    plan = Plan(model)
    with torch.no_grad():
        run = plan.run(dict(model.named_parameters()), _copies(model), draws(x))
        return plan, separation(plan, run, x)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def swept(model: nn.Module, plan: Plan, x: Tensor, signal: Tensor, found: Separation | None) -> dict[str, Tensor]:
    """Updates of a sweep over all samples, or, given a separation, over those with a signal."""
    run = plan.run(dict(model.named_parameters()), _copies(model), draws(x))
    with torch.no_grad():
        plan.forward(run, x)
        if found is None:
            return plan.backward(run, signal.clone(), BackwardPass())
        index = signal.reshape(BATCH, -1).any(1).nonzero().squeeze(1)
        run.rows = Rows(index, found.carried)
        updates = plan.backward(run, signal[index], BackwardPass())
    kept = [op.describe() for op, saved in zip(plan.ops, run.saved, strict=True) if saved is not None]
    assert not kept, f"still saved after the sweep: {kept}"
    return updates


def assert_same(model: nn.Module, plan: Plan, found: Separation, x: Tensor) -> None:
    with torch.no_grad():
        run = plan.run(dict(model.named_parameters()), _copies(model), draws(x))
        shape = plan.forward(run, x).shape
    for active in ([1, 3, 4], [5], []):
        signal = torch.zeros(shape, dtype=x.dtype)
        source = torch.Generator().manual_seed(7)
        signal[active] = torch.randn((len(active), *shape[1:]), dtype=x.dtype, generator=source)
        dense, sparse = (swept(model, plan, x, signal, way) for way in (None, found))
        assert dense.keys() == sparse.keys()
        for name, update in dense.items():
            assert sparse[name].shape == update.shape
            assert_close(sparse[name], update, f"{name}, active {active}")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("row", "way"), places({"alone": (), "overwritten": (0,)}))
def test_left_out_samples_change_nothing(row: Any, way: str) -> None:
    separable, name = 0, label(row).rpartition(".")[2]
    for make in [*CASES[row], *MOVING.get(name, [])]:
        model, given = make(way)
        x = torch.randn((BATCH, *given.shape[1:]), dtype=given.dtype, generator=torch.Generator().manual_seed(4))
        try:
            plan, found = plan_of(model, x)
        except RuntimeError:  # a case written for its own number of samples
            continue
        if found.coupling is None:
            separable += 1
            assert_same(model, plan, found, x)
    assert bool(separable) == (name not in COUPLING), f"{separable} of {len(CASES[row])} cases leave samples out"


class Applied(nn.Module):
    """``op(linear(x))``, with a tensor of the batch's size at hand."""

    full: Tensor

    def __init__(self, op: Callable[["Applied", Tensor], Tensor]) -> None:
        super().__init__()
        self.op, self.linear = op, nn.Linear(BATCH, BATCH)
        self.register_buffer("full", torch.randn(BATCH, BATCH))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(self, self.linear(x))


# Everything has six entries everywhere, so that no shape gives the mixing away.
MIXING: dict[str, Callable[[Applied, Tensor], Tensor]] = {
    "transpose": lambda m, x: x.transpose(0, 1),
    "transpose and back": lambda m, x: x.transpose(0, 1).transpose(0, 1),
    "mean": lambda m, x: x - x.mean(0),
    "mean of all": lambda m, x: x / x.sum(),
    "softmax": lambda m, x: x.softmax(0),
    "flatten": lambda m, x: x.reshape(-1).reshape(BATCH, -1),
    "flip": lambda m, x: x.flip(-2),
    "roll": lambda m, x: x.roll(1),
    "rows": lambda m, x: x[[1, 0, 2, 3, 4, 5]],
    "dots before all": lambda m, x: x[..., [1, 0, 2, 3, 4, 5], :],
    "dots of nothing": lambda m, x: x[..., ::1, :],
    "one row": lambda m, x: x + x[0],
    "unbind": lambda m, x: x + x.unbind(0)[2],
    "chunk": lambda m, x: torch.cat([x.chunk(2)[1], x.chunk(2)[0]]),
    "cat": lambda m, x: torch.cat([x[:, :3], x[:, 3:]], 0).reshape(BATCH, -1),
    "stack": lambda m, x: torch.stack([x, x]).sum(0),
    "gram": lambda m, x: x @ x.mT,
    "matrix from the left": lambda m, x: m.full @ x,
    "weights by sample": lambda m, x: x * m.full,
    "mask by sample": lambda m, x: x.masked_fill(m.full > 0, 0.0),
    "bounds by sample": lambda m, x: torch.maximum(x, m.full),
    "comparison": lambda m, x: torch.where(x > 0, x, m.full),
    "length of all": lambda m, x: x / x.norm(),
    "numbers by sample": lambda m, x: x * torch.arange(6.0, dtype=torch.float64).reshape(6, 1) + m.full[:1],
    "weights of samples as features": lambda m, x: x.unsqueeze(0) + x.unsqueeze(1),
    "another dimension first": lambda m, x: torch.relu(x.unsqueeze(0)).squeeze(0),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_may_mix_samples_is_named(name: str) -> None:
    torch.manual_seed(0)
    model = Applied(MIXING[name]).double()
    _, found = plan_of(model, torch.randn(BATCH, BATCH, dtype=torch.float64))
    assert found.coupling is not None and not found.carried


class Frozen(nn.Module):
    """Frozen batch norms, one with and one without running statistics."""

    def __init__(self, track: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=track)
        self.head = nn.Linear(12, 4)
        self.double().train()
        self.norm.eval()
        if track:
            assert self.norm.running_mean is not None and self.norm.running_var is not None
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.norm(self.conv(x))).flatten(1))
        return out


def test_a_frozen_batch_norm_leaves_samples_apart() -> None:
    torch.manual_seed(0)
    x = torch.randn(BATCH, 2, 4, 4, dtype=torch.float64)
    model = Frozen(track=True)
    plan, found = plan_of(model, x)
    assert batch_norm(plan) is None and found.coupling is None
    assert_same(model, plan, found, x)
    plan, found = plan_of(Frozen(track=False), x)  # without running statistics it uses the batch's always
    assert found.coupling is batch_norm(plan) is not None


def test_a_layer_fed_by_parameters_is_dense() -> None:
    model = Applied(lambda m, x: x + m.linear(m.full)[:1]).double()
    _, found = plan_of(model, torch.randn(BATCH, BATCH, dtype=torch.float64))
    assert found.coupling is not None and found.coupling.kind == "linear"
