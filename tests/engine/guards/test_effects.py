"""Calls in forward() whose effect is not in their result: buffers moved, weights changed, parameters read under no_grad."""

import cProfile
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.compare import equals_autograd, net, refusal


def _plain(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model.c(torch.relu(model.a(x)))
    return out


def _after(effect: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Tensor]:
    def run(model: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            effect(model, x)
        return _plain(model, x)

    return run


def _init(model: Any) -> None:
    model.register_buffer("mean", torch.zeros(6))
    model.norm = nn.BatchNorm1d(6, affine=False)


UNUSED: dict[str, tuple[Callable[[Any, Tensor], Any], dict[str, Any], tuple[str, ...]]] = {
    "a running mean": (lambda m, x: m.mean.mul_(0.9).add_(x.mean(0)), {}, ("changes 'mean' in place ('mul_')",)),
    "a counter": (lambda m, x: m.mean.add_(1), {}, ("changes 'mean' in place", "nn.BatchNorm2d")),
    "part of a buffer": (lambda m, x: m.mean[:3].mul_(2), {}, ("changes 'mean' in place",)),
    "a weight": (lambda m, x: m.a.weight.clamp_(-0.1, 0.1), {}, ("changes 'a.weight' in place ('clamp_')",)),
    "a weight, local autograd": (
        lambda m, x: m.a.weight.clamp_(-0.1, 0.1), {"local_autograd": True}, ("changes 'a.weight' in place",),
    ),
    "a norm for its statistics": (
        lambda m, x: m.norm(x), {}, ("changes the buffer 'norm.running_mean'", "Use the call's result"),
    ),
    "an op without a row": (
        lambda m, x: m.a(x).cumsum(0), {"local_autograd": True}, ("does not use the result of 'cumsum'",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSED)
def test_an_effect_that_the_plan_would_leave_out_is_refused(name: str) -> None:
    effect, options, words = UNUSED[name]
    said = refusal(net(_after(effect), _init), **options)
    for word in words:
        assert word in said, said


def _read_first(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        target = F.linear(x, model.a.weight * 2)
    out: Tensor = model.c(torch.relu(F.linear(x, model.a.weight * 0.5, model.a.bias) + target))
    return out


def _read_under_no_grad(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        weight = model.a.weight
    out: Tensor = model.c(torch.relu(F.linear(x, weight * 0.5) + model.a(x)))
    return out


@pytest.mark.parametrize("run", [_read_first, _read_under_no_grad])
def test_a_parameter_read_under_no_grad_learns_where_it_is_used_outside(run: Callable[[Any, Tensor], Tensor]) -> None:
    equals_autograd(net(run))


def test_a_counter_in_a_configuration_is_refused_and_put_back() -> None:
    def count(model: Any, x: Tensor) -> Tensor:
        model.config.calls += 1
        return _plain(model, x)

    config = SimpleNamespace(calls=0)
    said = refusal(net(count, lambda m: setattr(m, "config", config)))
    assert "assigns or changes 'config'" in said and config.calls == 0


def test_a_custom_function_defined_while_a_model_is_traced_can_be_applied_afterwards() -> None:
    made = []

    def define(model: Any, x: Tensor) -> Tensor:
        class Reverse(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return -grads[0]

        made.append(Reverse)
        return _plain(model, x)

    equals_autograd(net(define))
    x = torch.ones(3, requires_grad=True)
    made[0].apply(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-1, -1, -1]


def test_a_model_is_traced_under_a_profiler() -> None:
    with cProfile.Profile() as profile:
        equals_autograd(net(_plain))
        after: Any = sys.getprofile()
    assert after is profile
