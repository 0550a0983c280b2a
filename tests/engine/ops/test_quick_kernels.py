"""The CPU's quick roads (2x2 pooling by comparisons, oneDNN's products) are taken where they should be and change nothing."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.engine.backward import BackwardPass
from credit.engine.ops import products
from credit.engine.ops.pools import MaxPool
from credit.engine.plan import Plan
from tests.support.harness import draws


def pooled(model: nn.Module, x: Tensor, signal: Tensor, overwrite: bool) -> tuple[Tensor, dict[str, Tensor], bool]:
    """Return (output, updates, whether the windows were compared) of a plan run."""
    plan = Plan(model)
    run = plan.run(dict(model.named_parameters()), {}, draws(x))
    run.overwrite = overwrite
    with torch.no_grad():
        out = plan.forward(run, x)
        saved = [run.saved[op.index] for op in plan.ops if isinstance(op, MaxPool)]
        return out, plan.backward(run, signal.clone(), BackwardPass()), all(kept[2] is not None for kept in saved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("before", ["relu", "rounded"])
def test_pooling_by_comparisons_picks_torchs_winners(before: str, dtype: torch.dtype) -> None:
    """Ties are everywhere: zeros behind ReLU, and few levels."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1, dtype=dtype)
    model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Flatten())
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-1, 2, conv.weight.shape))
        assert conv.bias is not None
        conv.bias.fill_(1.0 if before == "rounded" else -2.0)
    x = torch.randint(-2, 3, (5, 2, 8, 12)).to(dtype)
    signal = torch.randn(5, 18, dtype=dtype)
    out, updates, compared = pooled(model, x, signal, overwrite=True)
    plain, expected, plain_compared = pooled(model, x, signal, overwrite=False)
    assert compared and not plain_compared
    assert torch.equal(out, plain)
    for name, update in updates.items():
        assert torch.equal(update, expected[name]), name


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2)]
)
def test_other_windows_and_odd_sizes_are_torchs(pool: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), pool, nn.Flatten())
    x = torch.randn(2, 1, 7 if pool.stride == pool.kernel_size == 2 else 6, 6)
    _, _, compared = pooled(model, x, torch.randn_like(model(x)), overwrite=True)
    assert not compared


def test_non_finite_values_stay_visible_behind_a_pool() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = torch.nan
    out, _, compared = pooled(model, x, torch.ones(1, 1, 2, 2), overwrite=True)
    assert compared and torch.equal(out.isnan(), model(x).isnan()) and bool(out.isnan().any())


SHAPES: dict[str, tuple[Tensor, Tensor]] = {
    "rows": (torch.randn(100, 300), torch.randn(200, 300)),
    "transposed": (torch.randn(300, 100).t(), torch.randn(300, 200).t()),
    "positions": (torch.randn(20, 6, 300), torch.randn(200, 300)),
    "permuted": (torch.randn(6, 300, 20).permute(2, 0, 1), torch.randn(300, 200).t()),
    "expanded": (torch.randn(1, 300).expand(100, 300), torch.randn(200, 300)),
}


@pytest.mark.skipif(not products._carried(), reason="this torch carries no oneDNN")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_large_products_are_onednns(shape: str, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = SHAPES[shape]
    shift = torch.randn(200) if bias else None
    called: list[Any] = []
    plain = F.linear

    def counted(*args: Any) -> Tensor:
        called.append(args)
        return plain(*args)

    monkeypatch.setattr(F, "linear", counted)
    with torch.no_grad():
        out = products.linear(x, weight, shift, True)
        assert not called
        exact = plain(x.double(), weight.double(), None if shift is None else shift.double())
        torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-4)
        for odd in (torch.randn(400)[::2], torch.randn(1).expand(200)):  # oneDNN itself would not look at the strides
            torch.testing.assert_close(
                products.linear(x, weight, odd, True), plain(x, weight, odd), rtol=1e-4, atol=1e-4
            )
        # Mapped or compiled steps, other types, small products and a user who turned oneDNN off keep torch's own.
        products.linear(x, weight, shift, False)
        products.linear(x.double(), weight.double(), None, True)
        products.linear(x[:1], weight, shift, True)
        torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns of GPUs
        try:
            products.linear(x, weight, shift, True)
        finally:
            torch._C._set_mkldnn_enabled(True)
    products.linear(x, weight, shift, True)  # autograd could not follow it
    assert len(called) == 5


def test_a_large_layer_agrees_with_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    x, g = torch.randn(100, 300), torch.randn(100, 10)
    plan = Plan(model)
    run = plan.run(dict(model.named_parameters()), {}, draws(x))
    with torch.no_grad():
        out = plan.forward(run, x)
        updates = plan.backward(run, g.clone(), BackwardPass())
    expected = model(x)
    (expected * g).sum().backward()
    torch.testing.assert_close(out, expected.detach(), rtol=1e-4, atol=1e-4)
    for name, p in model.named_parameters():
        torch.testing.assert_close(updates[name], p.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.LPPool2d(2, 2)], ids=["average", "quadratic"])
@pytest.mark.parametrize("shape", [(3, 2, 8, 12), (1, 2, 2, 2), (4, 2, 5, 6)])
def test_means_of_windows_by_sums_are_torchs(pool: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), pool, nn.Flatten()).double()
    x = torch.randn(shape, dtype=torch.float64)
    signal = torch.randn_like(model(x))
    found = []
    for overwrite in (True, False):
        plan = Plan(model)
        run = plan.run(dict(model.named_parameters()), {}, draws(x))
        run.overwrite = overwrite
        with torch.no_grad():
            out = plan.forward(run, x)
            if isinstance(pool, nn.AvgPool2d):  # the quick road keeps a shape alone
                assert isinstance(run.saved[2], torch.Size) == (overwrite and shape[2] % 2 == 0)
            found.append({"out": out} | plan.backward(run, signal.clone(), BackwardPass()))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-12, atol=1e-14)
