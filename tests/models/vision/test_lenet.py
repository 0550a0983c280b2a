"""LeNet-5's pools and norms: which modules stand where, and the quadratic mean's values and gradient, zeros included."""

import pytest
import torch
from torch import nn

import credit
from credit.core.errors import UserError
from credit.models import build
from credit.models.pools import QuadraticPool2d

MNIST = (1, 28, 28)


def lenet(**options: object) -> nn.Module:
    return build({"kind": "lenet5", **options}, MNIST, 10, seed=0)


@pytest.mark.parametrize(
    ("variant", "pool", "expected"),
    [
        ("untied", None, nn.AvgPool2d),
        ("lfp", None, nn.MaxPool2d),
        ("untied", "max", nn.MaxPool2d),
        ("lfp", "average", nn.AvgPool2d),
        ("untied", "quadratic", QuadraticPool2d),
    ],
)
def test_both_pools_are_the_chosen_one(variant: str, pool: str | None, expected: type[nn.Module]) -> None:
    model = lenet(variant=variant, pool=pool)
    assert [type(model.get_submodule(f"pool{at}")) for at in (1, 2)] == [expected, expected]


def test_batch_norm_stands_before_every_hidden_activation() -> None:
    model = lenet(variant="untied", norm="batch")
    names = [name for name, _ in model.named_children()]
    for at in (1, 2, 3, 4):
        weighted = model.get_submodule(f"conv{at}" if at < 3 else f"fc{at}")
        assert names[names.index(f"act{at}") - 1] == f"norm{at}"
        assert names[names.index(f"norm{at}") - 1] == (f"conv{at}" if at < 3 else f"fc{at}")
        assert weighted.bias is None
    assert model.get_submodule("head").bias is not None


def test_a_window_gives_the_root_of_its_mean_square() -> None:
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 9.0], [1.0, 1.0, 1.0]]).view(1, 1, 3, 3)
    assert QuadraticPool2d(2)(x).flatten().tolist() == pytest.approx([2.5])  # sqrt((9 + 16) / 4)
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(QuadraticPool2d(2)(x), windows.square().mean((-2, -1)).sqrt())


def test_a_window_of_zeros_has_gradient_zero_by_autograd_and_by_the_engine() -> None:
    """The derivative of a root at 0 is infinite and 0 times it is NaN: sigmoid networks rarely meet it, ReLU ones do."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), QuadraticPool2d(2), nn.Flatten(), nn.Linear(8, 3)).double()
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[:, :, :2, :2] = -50.0
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1.0)
        model.get_parameter("0.bias").zero_()
    y = torch.tensor([0, 1, 2, 0, 1])
    assert (model[:3](x) == 0).any()
    nn.functional.cross_entropy(model(x), y).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    credit.rule("bp", model).step(x, y)
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all()
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["bp", "ste"])
def test_rules_run_on_the_quadratic_network_with_norm(name: str) -> None:
    model = lenet(variant="untied", pool="quadratic", norm="batch", activation="relu" if name == "bp" else "step")
    x = torch.randn(6, *MNIST, generator=torch.Generator().manual_seed(2))
    credit.rule(name, model).step(x, torch.arange(6))
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool": "quadratc"}, "arch.pool=quadratc: arch 'lenet5' has no such choice; did you mean 'quadratic'?"),
        ({"norm": "layer"}, "arch.norm=layer"),
        ({"pool": 2}, "arch.pool=2 of arch 'lenet5' is a number: must be one of average, quadratic, max or null"),
    ],
)
def test_other_words_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        lenet(**options)
    assert words in str(refusal.value)
