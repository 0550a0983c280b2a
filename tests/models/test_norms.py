"""A residual network without batch statistics: it starts with logits of moderate size, learns, and a frozen norm stays frozen."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.ops.norms import BatchNorm
from credit.models import build
from credit.models.norms import FrozenBatchNorm2d
from credit.training.evaluate import with_fresh_statistics

CIFAR = (3, 32, 32)


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    pixels = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32).reshape(-1, 1, 8, 8)
    return pixels, torch.tensor(y)


def resnet(shape: tuple[int, ...] = (1, 8, 8), **options: Any) -> nn.Module:
    return build({"kind": "cifar_resnet", **options}, shape, 10, seed=0)


@pytest.mark.parametrize("norm", ["none", "frozen"])
@pytest.mark.parametrize("depth", [8, 20, 110])
def test_logits_and_gradients_start_at_a_moderate_size_at_any_depth(norm: str, depth: int) -> None:
    model = resnet(CIFAR, norm=norm, depth=depth)
    logits = model(torch.randn(16, *CIFAR, generator=torch.Generator().manual_seed(0)))
    assert 0.1 < logits.detach().std() < 1.0 and logits.detach().std(dim=0).mean() > 0.02
    nn.functional.cross_entropy(logits, torch.arange(16) % 10).backward()
    sizes = [float(p.grad.norm() / p.detach().norm()) for p in model.parameters() if p.grad is not None and p.dim() > 1]
    assert min(sizes) > 1e-3 and max(sizes) < 5  # none is dead, none explodes


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "frozen"])
def test_depth_20_learns_digits_by_backprop(norm: str) -> None:
    x, y = digits()
    model = resnet(norm=norm)
    rule = credit.rule("bp", model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        batch = torch.randint(0, 1500, (48,), generator=draw)
        rule.step(x[batch], y[batch])
        optimizer.step()
    model.eval()
    assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.7


def test_without_norm_there_is_none_and_convolutions_have_biases() -> None:
    modules = list(resnet(norm="none").modules())
    assert not [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    assert all(module.bias is not None for module in modules if isinstance(module, nn.Conv2d))


def test_a_frozen_norm_stays_as_it_is_while_its_scale_and_shift_learn() -> None:
    model = resnet(norm="frozen", depth=8, width=4)
    norms = {name: module for name, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)}
    assert len(norms) == 1 + 3 * 2 + 2 and not any(
        module.training for module in model.train().modules() if module in norms.values()
    )
    before = {name: copy.deepcopy(module.state_dict()) for name, module in norms.items()}
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)
    rule = credit.rule("bp", model)
    rule.step(x, y)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for name, module in norms.items():
        after = module.state_dict()
        assert all(
            torch.equal(before[name][key], after[key]) for key in ("running_mean", "running_var", "num_batches_tracked")
        )
        assert not any(torch.equal(before[name][key], after[key]) for key in ("weight", "bias")), name


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_plan_sees_a_frozen_norm_in_a_model_of_either_mode(mode: str) -> None:
    model = resnet(norm="frozen", depth=8, width=4)
    getattr(model, mode)()
    norms = [op for op in credit.rule("bp", model).plan.ops if isinstance(op, BatchNorm)]
    assert len(norms) == 9 and all(op.args["frozen"] and not op.couples for op in norms)


def test_fresh_statistics_for_an_evaluation_leave_a_frozen_norm_alone() -> None:
    model = resnet(norm="frozen", depth=8, width=4)
    assert with_fresh_statistics(model, [torch.randn(8, 1, 8, 8)]) is model


def test_an_unknown_norm_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"arch\.norm=layer: .*no such choice; valid: batch, frozen, none"):
        resnet(norm="layer")
