"""Shattering: how alike the signals are that neighbouring inputs get (paper 2, A.4; Balduzzi et al. 2017, section 2).

Over a grid of 1-D inputs the signal at the input is a function of the input. Where it is like Brownian motion, neighbours get
nearly the same; where it is like white noise, the signal of an input says nothing about its neighbour's: it has shattered.
"""

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.rules.base import Rule


def input_signal(rule: Rule, x: Tensor, y: Tensor) -> Tensor:
    """Return what one step of a rule sends back to its input, of x's shape; weights, buffers and position stay.

    Args:
        rule: any rule; what its normalizer measures over a batch, it measures over these inputs.
        x: batch (B, ...); y: labels (B,).

    Raises:
        UserError: the rule sends nothing to the input.
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
    """Return the root of the mean square of a signal's numbers."""
    return float(signal.double().square().mean().sqrt())


def autocorrelation(signal: Tensor, lags: int = 1) -> list[float]:
    """Return the autocorrelation of a signal over neighbouring inputs at lags 1 to ``lags``.

        c(k) = sum_i (s_i - m)(s_{i+k} - m) / sum_i (s_i - m)^2,  m the mean over inputs

    summed over the signal's numbers (of each feature by itself) in float64. 1 is a signal that does not change, 0 is noise.
    One that is the same everywhere, as one of zeros, has no correlation: nan.

    Args:
        signal: (N,) or (N, ...), along a grid of inputs.
        lags: how many.

    Raises:
        UserError: fewer than lags + 2 inputs.
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
