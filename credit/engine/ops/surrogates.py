"""Surrogate derivatives of spikes, which replace dS/dV of S = [V > theta] in the backward pass.

Formulas and slopes are snnTorch's.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Surrogate = Literal["fast_sigmoid", "sigmoid", "atan", "straight_through"]

SLOPES: dict[str, float | None] = {"fast_sigmoid": 25.0, "sigmoid": 25.0, "atan": 2.0, "straight_through": None}
"""The slope k of each that is not given one; None: it has no slope."""


def divisor(surrogate: str, x: Tensor, slope: float | None, own: bool = False) -> Tensor:
    """Return the inverse of the surrogate derivative at x = V - theta, of x's shape; infinite where the derivative underflows.

    | surrogate        | derivative                      |
    |------------------|---------------------------------|
    | fast_sigmoid     | 1 / (1 + k abs(x))^2            |
    | sigmoid          | k s (1 - s), s = sigmoid(k x)   |
    | atan             | k / 2 / (1 + (pi / 2 k x)^2)    |
    | straight_through | 1                               |

    Args:
        surrogate: a name above.
        x: a tensor of the caller's, which is overwritten.
        slope: k.
        own: the result may lie in x's memory whatever is mapped or compiled: x is no part of a mapped step.
    """
    if slope is None:
        return x.fill_(1.0)
    if surrogate == "fast_sigmoid":
        x = torch.add(x.new_ones(()), x.abs_(), alpha=slope, out=x if own else None)
        return x.mul_(x)
    if surrogate == "sigmoid":  # 1 / (s (1 - s)) = (2 cosh(k x / 2))^2, which has no 0 / 0
        x = x.mul_(slope / 2).cosh_()
        return x.mul_(x).mul_(4 / slope)
    x = x.mul_(math.pi / 2 * slope)
    return x.mul_(x).add_(1).mul_(2 / slope)
