"""Torch's optimizers as configured, averaged weights, and the search for non-finite parameters."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from credit.core.config.schema import OptimizerConfig
from credit.training.optimization import averaged, build_optimizer, nonfinite_parameter, set_learning_rate


def two_linears() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]


@pytest.mark.parametrize(
    ("cfg", "plain"),
    [
        (
            OptimizerConfig("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01, foreach=False),
        ),
        (
            OptimizerConfig("adam", lr=0.1, betas=[0.8, 0.9], eps=1e-3, weight_decay=0.01),
            lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.9), 1e-3, 0.01, foreach=False),
        ),
        (
            OptimizerConfig("adamw", lr=0.1, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1, foreach=False),
        ),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_equals_torchs_plain_loop(cfg, plain):
    ours, theirs = two_linears(), two_linears()
    optimizers = [build_optimizer(cfg, ours[:1], ours[1:]), plain(theirs)]
    for step in range(5):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 0.1 * step - 0.2)
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_frozen_parameters_are_left_out_and_the_rules_own_are_in():
    frozen, trained, own = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = build_optimizer(OptimizerConfig(), [frozen, trained], [own])
    assert [group["params"] for group in optimizer.param_groups] == [[trained], [own]]
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_average_follows_weights_and_statistics():
    linear, norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
    model = nn.Sequential(linear, norm)
    average = averaged(model, 0.75)
    assert average is not None
    average.update_parameters(model)
    before = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight += 4
        norm.get_buffer("running_mean").add_(4)
    average.update_parameters(model)
    torch.testing.assert_close(average.module.get_parameter("0.weight").detach(), before + 1)
    torch.testing.assert_close(average.module.get_buffer("1.running_mean"), torch.ones(2))
    assert averaged(model, None) is None


def test_names_the_parameter_that_is_not_finite():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert nonfinite_parameter(model) is None
    model.get_buffer("1.running_var")[1] = float("inf")
    assert nonfinite_parameter(model) == "1.running_var"


def test_averaged_weights_are_torchs_bit_for_bit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours, theirs = averaged(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    assert ours is not None
    for _ in range(4):
        model(torch.randn(5, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update_parameters(model)
        theirs.update_parameters(model)
        for (name, one), (same, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert name == same and torch.equal(one, other), name
