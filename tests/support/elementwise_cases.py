"""Test cases of elementwise functions, changes of type and rearrangements, by row; see ``test_kernels``."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.harness import case

POSITIVE = {name: getattr(torch, name) for name in ("log", "log1p", "reciprocal", "rsqrt", "sqrt")}
ANY = {name: getattr(torch, name) for name in ("abs", "cos", "exp", "neg", "sin", "square")}

COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


def _times(comparison: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    return lambda x: x * comparison(x, 0.1)


class Masked(nn.Module):
    """Entries of a score matrix replaced by a constant mask's, as in attention to the past alone."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(5, 5).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(self.mask, -torch.inf).softmax(-1)


class Bounded(nn.Module):
    """Values no smaller than a parameter of one number a channel, and a buffer's."""

    floor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.least = nn.Parameter(torch.zeros(5))
        self.register_buffer("floor", torch.linspace(-1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.least) + torch.maximum(self.floor, x)


FUNCTIONS: dict[Any, list[Any]] = {
    **{function: [case(lambda x, f=function: f(x * x + 0.5), 3, 5)] for function in POSITIVE.values()},
    **{function: [case(lambda x, f=function: f(x), 3, 5)] for function in ANY.values()},
    operator.neg: [case(lambda x: -x * (-x.shape[1]), 3, 5)],
    operator.abs: [case(lambda x: abs(x) * abs(-x.shape[1]), 3, 5)],
    operator.pow: [
        case(lambda x: x**2 + x**3, 3, 5),
        case(lambda x: x.abs() ** 1.5, 3, 5),
        case(lambda x: x**0 + x**1, 3, 5),
        case(lambda x: x ** x.shape[1], 3, 5),
    ],
    torch.pow: [case(lambda x: torch.pow(x, -2), 3, 5)],
    torch.clamp: [
        case(lambda x: torch.clamp(x, -0.3, 0.4), 3, 5),
        case(lambda x: torch.clamp(x, max=0.4), 3, 5),
        case(lambda x: torch.clamp(torch.relu(x), min=0.0), 3, 5),  # a bend where many values lie
    ],
    torch.clamp_min: [case(lambda x: torch.clamp_min(x, 0.1), 3, 5)],
    torch.clamp_max: [case(lambda x: torch.clamp_max(x, 0.1), 3, 5)],
    torch.maximum: [
        case(lambda x, y: torch.maximum(x, y[:, :1]), 3, 5, two=True),
        case(lambda x: torch.maximum(torch.relu(x), torch.zeros(3, 5)), 3, 5),
        case(Bounded(), 3, 5),
    ],
    torch.minimum: [case(lambda x, y: torch.minimum(torch.minimum(x, x), y), 3, 5, two=True)],
    torch.where: [
        case(lambda x, y: torch.where(x > y, x, y * 2), 3, 5, two=True),
        case(lambda x: torch.where(x < 0.1, 0.5, x), 3, 5),
        case(lambda x, y: torch.where(torch.arange(5) < x.shape[1] // 2, x[:, :1], 1.0) * y, 3, 5, two=True),
    ],
    **{
        getattr(module, name): [case(_times(getattr(module, name)), 3, 5)]
        for name in COMPARISONS
        for module in (operator, torch)
    },
    torch.masked_fill: [case(lambda x: torch.masked_fill(x, torch.eye(5).bool(), 2.0), 4, 5, 5)],
    torch.amax: [
        case(lambda x: torch.amax(x, 1), 3, 5),
        case(lambda x: torch.amax(torch.relu(x - 1), dim=(1, -1), keepdim=True) * x, 2, 3, 5),  # ties of zeros
        case(lambda x: torch.amax(x) * x, 3, 5),
    ],
    torch.amin: [case(lambda x: torch.amin(x, dim=-1, keepdim=True) * x, 2, 3, 5)],
    torch.max: [
        case(lambda x: torch.max(x) * x, 3, 5),
        case(lambda x: torch.max(torch.relu(x - 1), 1)[0], 3, 5),
        case(lambda x: torch.max(x, dim=-1, keepdim=True).values * x, 2, 3, 5),
    ],
    torch.min: [case(lambda x: torch.min(x, 1).values, 3, 5), case(lambda x: torch.min(x) * x, 3, 5)],
    F.unfold: [case(lambda x: F.unfold(x, (2, 3), padding=1, stride=2), 2, 3, 5, 4)],
    F.fold: [case(lambda x: F.fold(x, (4, x.shape[2] // 2), 2), 2, 8, 6)],
    torch.norm: [
        case(lambda x: torch.norm(x, dim=1, keepdim=True), 3, 5),
        case(lambda x: torch.norm(torch.relu(x), dim=(1, -1)), 2, 3, 5),
        case(lambda x: torch.norm(x) * x, 3, 5),
    ],
    torch.linalg.vector_norm: [case(lambda x: torch.linalg.vector_norm(x, dim=-1), 2, 3, 5)],
    F.normalize: [
        case(lambda x: F.normalize(x), 3, 5),
        case(lambda x: F.normalize(torch.relu(x), dim=-1, eps=0.5), 3, 5),
    ],
    F.log_softmax: [case(lambda x: F.log_softmax(x, dim=0), 4, 5), case(lambda x: F.log_softmax(x, -1), 2, 3, 5)],
    torch.log_softmax: [case(lambda x: torch.log_softmax(x, 1), 2, 5, 3)],
    torch.flip: [case(lambda x: torch.flip(x, (0, -1)), 2, 3, 5), case(lambda x: torch.flip(x, [1]), 2, 3, 5)],
    torch.roll: [
        case(lambda x: torch.roll(x, (1, -2), dims=(1, 2)), 2, 3, 5),
        case(lambda x: torch.roll(x, 2), 2, 3, 5),
        case(lambda x: torch.roll(x, x.shape[2] // 2, 2), 2, 3, 5),
    ],
    torch.movedim: [case(lambda x: torch.movedim(x, 1, -1), 2, 3, 4, 5)],
    torch.swapaxes: [case(lambda x: torch.swapaxes(x, 1, -1), 2, 3, 4, 5)],
    F.pixel_shuffle: [case(lambda x: F.pixel_shuffle(x, 2), 2, 8, 3, 5)],
    F.pixel_unshuffle: [case(lambda x: F.pixel_unshuffle(x, 2), 2, 3, 4, 6)],
}

METHODS: dict[str, list[Any]] = {
    **{name: [case(lambda x, name=name: getattr(x * x + 0.5, name)(), 3, 5)] for name in POSITIVE},
    **{name: [case(lambda x, name=name: getattr(x, name)(), 3, 5)] for name in ANY},
    "pow": [case(lambda x: x.pow(3).mean(1, keepdim=True) * x, 3, 5)],
    "clamp": [case(lambda x: (x * 2).clamp_(-0.5, 0.5) + x.clamp(min=0.1), 3, 5)],
    "clamp_min": [case(lambda x: x.clamp_min(0.1), 3, 5)],
    "clamp_max": [case(lambda x: x.clamp_max(0.1), 3, 5)],
    "maximum": [case(lambda x, y: x.maximum(y), 3, 5, two=True)],
    "minimum": [case(lambda x, y: x.minimum(y), 3, 5, two=True)],
    "where": [
        case(lambda x: x.where(x > 0, x * 0.1), 3, 5),
        case(lambda x: x.where(torch.arange(5) < 3, 1.0), 3, 5),
    ],
    **{name: [case(lambda x, name=name: x * getattr(x, name)(0.1), 3, 5)] for name in COMPARISONS},
    "masked_fill": [case(Masked(), 2, 5, 5)],
    "amax": [case(lambda x: x.amax(1, keepdim=True) - x, 3, 5)],
    "amin": [case(lambda x: x.amin((1, 2)), 2, 3, 5)],
    "max": [case(lambda x: x.max(1)[0] + x.max(dim=1).values, 3, 5)],
    "min": [case(lambda x: x.min(-1, keepdim=True)[0] * x, 3, 5)],
    "norm": [case(lambda x: x / (x.norm(p=2, dim=(1, 2), keepdim=True) + 0.1), 2, 3, 4, 5)],
    "log_softmax": [case(lambda x: x.log_softmax(dim=-1), 2, 3, 5)],
    "flip": [case(lambda x: x.flip(1, 2), 2, 3, 5), case(lambda x: x.flip([-1]), 2, 3, 5)],
    "roll": [case(lambda x: x.roll(shifts=(2, 1), dims=(2, 1)), 2, 3, 5)],
    "movedim": [case(lambda x: x.movedim(-1, 1), 2, 3, 4, 5)],
    "swapaxes": [case(lambda x: x.swapaxes(0, 1), 3, 5), case(lambda x: x.swapaxes(1, 2), 2, 3, 5)],
    "repeat": [
        case(lambda x: x.repeat(1, 2), 3, 5),
        case(lambda x: x.repeat((2, x.shape[1], 1)) * 2, 3, 5),
        case(lambda x: x.mean(0).repeat(x.shape[0], 1), 3, 5),
    ],
    "expand_as": [case(lambda x: x.mean(1, keepdim=True).expand_as(x) * x, 3, 5)],
    "reshape_as": [case(lambda x: x.flatten(1).mul(2).reshape_as(x), 2, 3, 5)],
    "view_as": [case(lambda x: x.flatten(1).mul(2).view_as(x), 2, 3, 5)],
    "to": [
        case(lambda x: (x.to(torch.float32) * 2).to(x.dtype), 3, 5),
        case(lambda x: x.to(x.dtype).to(device=x.device) * 2, 3, 5),
        case(lambda x: x + x.to(torch.int64).to(x.dtype), 3, 5),
    ],
    "type_as": [case(lambda x: torch.arange(5).type_as(x) * x, 3, 5)],
    "float": [case(lambda x: x.float().tanh().to(x.dtype), 3, 5)],
    "double": [case(lambda x: x.float().double() * 3, 3, 5)],
    **{name: [case(lambda x, name=name: x * getattr(x * 3, name)(), 3, 5)] for name in ("long", "int", "bool")},
    "half": [case(lambda x: (x.half() * 2).to(x.dtype), 3, 5)],
    "bfloat16": [case(lambda x: (x.bfloat16() * 2).to(x.dtype), 3, 5)],
}
