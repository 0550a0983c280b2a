"""The untied gates' factors g(z), written from the paper's formulas and from nothing of credit's, and the noise they get."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from credit.engine.draws import Draws

Factor = Callable[[Tensor, Tensor], Tensor]  # (z, noise) -> g
INF = math.inf


def within(half: float) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.where((z <= half) & (z >= -half), 1.0, 0.0).to(z)


def triangle(height: float, width: float) -> Factor:
    return lambda z, u: height * ((width / 2 - z.abs()) / (width / 2)).clamp(min=0)  # exact at the ends


def logistic(z: Tensor, u: Tensor) -> Tensor:
    return torch.exp(-z.abs()) / (1 + torch.exp(-z.abs())) ** 2


# rule, options, g; the noise u is uniform on (0, 1)
GATES: dict[str, tuple[str, dict[str, Any], Factor]] = {
    "constant": ("untied_constant", {}, lambda z, u: torch.ones_like(z)),
    "constant 0.3": ("untied_constant", {"height": 0.3}, lambda z, u: torch.full_like(z, 0.3)),
    "rectangle": ("untied_rectangle", {}, lambda z, u: within(0.5)(z)),
    "rectangle 2 x 0.7": ("untied_rectangle", {"height": 2, "width": 0.7}, lambda z, u: 2 * within(0.35)(z)),
    "rectangle -0.2..1.5": (
        "untied_rectangle",
        {"low": -0.2, "high": 1.5, "height": 0.5},
        lambda z, u: 0.5 * ((z >= -0.2) & (z <= 1.5)).to(z.dtype),
    ),
    "rectangle 0..0.5": (
        "untied_rectangle",
        {"low": 0.0, "high": 0.5},
        lambda z, u: ((z >= 0) & (z <= 0.5)).to(z.dtype),
    ),
    "triangle": ("untied_triangle", {}, triangle(0.25, 8)),
    "triangle freegrad": ("untied_triangle", {"shape": "freegrad"}, triangle(1, 2)),
    "triangle 3 x 0.7": ("untied_triangle", {"height": 3.0, "width": 0.7}, triangle(3, 0.7)),
    "logistic": ("untied_logistic", {}, logistic),
    "full": ("jam_full", {}, lambda z, u: u),
    "full 0.2-0.6": ("jam_full", {"noise_low": 0.2, "noise_high": 0.6}, lambda z, u: 0.2 + 0.4 * u),
    "positive": ("jam_positive", {}, lambda z, u: torch.where(z >= 0, u, 0.0)),
    "rectangle jam": ("jam_rectangle", {}, lambda z, u: u * within(5)(z)),
    "rectangle jam 0.7": (
        "jam_rectangle",
        {"width": 0.7, "noise_low": 0.5},
        lambda z, u: (1 + u) / 2 * within(0.35)(z),
    ),
}
ACTIVATIONS = ("relu", "sigmoid", "step", "sign", "identity", "gelu", "tanh", "hardtanh", "silu")


def noise(
    rule: Any, shape: tuple[int, ...], name: str, position: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    draws = Draws(rule.seed, position, torch.device("cpu"))
    return draws.get(f"{rule.options.gate}.{name}", "uniform16", shape, dtype)
