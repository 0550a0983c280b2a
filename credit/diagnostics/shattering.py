"""Shattering: the correlation of error signals at neighboring inputs (paper 2, A.4; Balduzzi et al. 2017, section 2).

Over a grid of 1-D inputs the error signal at the input is a function of the input. If it resembles Brownian motion, neighboring
inputs have similar error signals. If it resembles white noise, neighboring error signals are uncorrelated: they have shattered.
"""

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.rules.base import Rule


def input_signal(rule: Rule, x: Tensor, y: Tensor) -> Tensor:
    """Return the error signal that one step of a rule sends to the input, with x's shape.

    Weights, buffers, gradients and the rule's position are left unchanged.

    Args:
        rule: any rule; a normalizer with statistics over a batch computes them over these inputs.
        x: batch of inputs (B, ...).
        y: labels (B,).

    Raises:
        UserError: the rule sends no error signal to the input.
    """
    position, kept = rule.position, rule.keep_input_signal
    buffers = {name: value.clone() for name, value in rule.model.named_buffers()}
    gradients = {name: p.grad for name, p in rule.model.named_parameters()}
    rule.keep_input_signal = True
    try:
        signal = rule.step(x, y).input_signal
    finally:
        rule.position, rule.keep_input_signal = position, kept
        for name, p in rule.model.named_parameters():
            p.grad = gradients[name]
        for name, value in rule.model.named_buffers():
            value.copy_(buffers[name])
    if signal is None:
        raise UserError(f"rule '{rule.name}' sends no signal to the input, so there is nothing to measure there")
    return signal.detach()


def rms(signal: Tensor) -> float:
    """Return the root mean square of a tensor's elements, computed in float64."""
    return float(signal.double().square().mean().sqrt())


def autocorrelation(signal: Tensor, lags: int = 1) -> list[float]:
    """Return the autocorrelation of an error signal along a grid of inputs, at lags 1 to ``lags``.

        c(k) = sum_i (s_i - m)(s_{i+k} - m) / sum_i (s_i - m)^2,  m the mean over inputs

    The sums also run over the features, each with its own mean, in float64. The value is close to 1 for a smooth error signal and
    to 0 for noise. It is nan for a constant one.

    Args:
        signal: error signals (N,) or (N, ...), in the order of the grid.
        lags: largest lag.

    Raises:
        UserError: ``lags`` is below 1, or there are fewer than lags + 2 inputs.
    """
    count = len(signal)
    if not 1 <= lags <= count - 2:
        raise UserError(f"lags={lags}: between 1 and {count - 2}, two less than the {count} inputs of the signal")
    away = signal.double().reshape(count, -1)
    away = away - away.mean(0)
    whole = away.square().sum()
    if not whole > torch.finfo(signal.dtype).eps ** 2 * signal.double().square().sum():
        return [float("nan")] * lags
    return [float((away[:-lag] * away[lag:]).sum() / whole) for lag in range(1, lags + 1)]
