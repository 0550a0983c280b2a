"""Signals at the input: their autocorrelation, that measuring leaves a rule as it is, and what shatters."""

import copy
import math
from typing import Any

import pytest
import torch

from credit.core.errors import UserError
from credit.data.sources.made.sign_line import line
from credit.diagnostics.shattering import autocorrelation, input_signal, rms
from credit.models import build
from credit.rules import api
from credit.rules.base import Rule


def rule_on(name: str, depth: int, **options: Any) -> Rule:
    arch = {"kind": "deep_mlp", "width": 50, "depth": depth, "init": "he"}
    return api.rule(name, build(arch, (1,), 2, seed=0), seed=0, **options)


def test_the_autocorrelation_is_that_of_the_definition() -> None:
    signal = torch.tensor([1.0, 3.0, 2.0, 6.0])
    away = signal - 3
    whole = float(away.square().sum())
    expected = [sum(float(away[i] * away[i + k]) for i in range(4 - k)) / whole for k in (1, 2)]
    assert autocorrelation(signal, 2) == pytest.approx(expected)
    assert autocorrelation(7 * signal[:, None] + 5, 2) == pytest.approx(expected)  # neither scale nor level counts
    assert rms(signal) == pytest.approx(12.5**0.5)


def test_noise_has_none_and_a_walk_has_nearly_one() -> None:
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    assert max(map(abs, autocorrelation(noise, 5))) < 0.05
    assert autocorrelation(noise.cumsum(0), 1)[0] > 0.99


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_signal_that_is_the_same_everywhere_has_no_correlation(level: float) -> None:
    assert all(map(math.isnan, autocorrelation(torch.full((50,), level), 3)))


@pytest.mark.parametrize("lags", [0, 3, -1])
def test_lags_beyond_the_signal_are_refused(lags: int) -> None:
    with pytest.raises(UserError, match=f"lags={lags}: between 1 and 2, two less than the 4 inputs"):
        autocorrelation(torch.ones(4), lags)


def test_backprops_signal_is_each_samples_derivative_and_nothing_is_left_behind() -> None:
    rule = rule_on("bp", 3)
    x, y = line(0.5)
    rule.step(x, y)
    before = copy.deepcopy(rule.model.state_dict())
    gradients = [p.grad.clone() for p in rule.model.parameters() if p.grad is not None]
    signal = input_signal(rule, x, y)
    assert signal.shape == x.shape and rule.position == 1 and not rule.keep_input_signal
    assert all(torch.equal(value, before[name]) for name, value in rule.model.state_dict().items())
    kept = [p.grad for p in rule.model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(kept, gradients, strict=True)) and len(kept) == 8
    own = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(rule.model(own), y, reduction="sum").backward()
    assert own.grad is not None and torch.allclose(signal, own.grad, rtol=1e-4, atol=1e-6)


def test_gradients_shatter_with_depth_and_zpm_does_not() -> None:
    x, y = line(0.02)
    found = {
        (name, depth): autocorrelation(input_signal(rule_on(name, depth, normalizer="max_abs"), x, y))[0]
        for name in ("bp", "lfp_zpm")
        for depth in (2, 100)
    }
    assert found["bp", 2] > 0.9 and found["lfp_zpm", 2] > 0.9
    assert found["bp", 100] < 0.6 and found["lfp_zpm", 100] > 0.9
