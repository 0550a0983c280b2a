"""Test cases of the table's functions and methods that have no weights, by row; see ``test_kernels``."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.harness import case


def _chunks(x: Tensor) -> Tensor:
    a, b, c = x.chunk(3, 1)
    return a * b + c


def _split_sizes(x: Tensor) -> Tensor:
    a, b = x.split([2, x.shape[1] - 2], 1)
    return torch.cat([b, a, b], dim=1)


def _unbind(x: Tensor) -> Tensor:
    a, b, c = x.unbind(1)
    return a * c - b


def _asserted(x: Tensor) -> Tensor:
    torch._assert(x.shape[1] == 5, "five")
    return x * 2


class Constants(nn.Module):
    """A buffer, a parameter and plain tensors among the operands."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(5))
        self.shift = nn.Parameter(torch.zeros(1, 5))
        self.register_buffer("mean", torch.arange(5.0))
        self.plain = torch.full((5,), 1.5, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / (self.mean + 1.0) * self.gain + self.shift + self.gain * self.plain


class Table(nn.Module):
    """A trainable table read at repeated places, as relative position biases are."""

    at: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(4, 5))
        self.register_buffer("at", torch.tensor([0, 2, 2, 1, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rows[self.at]


FUNCTIONS: dict[Any, list[Any]] = {
    operator.add: [
        case(lambda x: 3 + (x + 2.5), 3, 5),
        case(lambda x: x + x, 3, 5),
        case(lambda x, y: x + y, 3, 5, two=True),
        case(lambda x, y: x + y[:1], 3, 5, two=True),
        case(lambda x, y: x[:, :1] + y[0], 3, 5, two=True),
        case(lambda x: x + torch.arange(x.shape[1]), 3, 5),
        case(lambda x: x[:, :1] + torch.arange(x.shape[1]), 3, 5),
        case(Constants(), 3, 5),
    ],
    operator.iadd: [case(lambda x, y: operator.iadd(x * 1, y), 3, 5, two=True)],
    torch.add: [
        case(lambda x, y: torch.add(x, y, alpha=-2), 3, 5, two=True),
        case(lambda x: torch.add(x, 2, alpha=3), 3, 5),
    ],
    operator.sub: [
        case(lambda x: 1 - (x - 2), 3, 5),
        case(lambda x, y: x[:1] - y, 3, 5, two=True),
        case(lambda x, y: (x - y) - x, 3, 5, two=True),
    ],
    operator.isub: [case(lambda x, y: operator.isub(x * 1, y), 3, 5, two=True)],
    torch.sub: [
        case(lambda x, y: torch.sub(x, y, alpha=3), 3, 5, two=True),
        case(lambda x: torch.sub(x, 2, alpha=3), 3, 5),
    ],
    operator.mul: [
        case(lambda x: 2 * x * 0.5, 3, 5),
        case(lambda x: x * x, 3, 5),
        case(lambda x, y: x * y.mean(1, keepdim=True), 3, 5, two=True),
        case(lambda x: x[:, :1] * torch.arange(x.shape[1]), 3, 5),
        case(lambda x: x * (x.shape[1] ** -0.5), 3, 5),
    ],
    operator.imul: [case(lambda x, y: operator.imul(x * 1, y), 3, 5, two=True)],
    torch.mul: [case(lambda x, y: torch.mul(x, y), 3, 5, two=True)],
    torch.addcmul: [
        case(lambda x, y: torch.addcmul(x, y, x), 3, 5, two=True),
        case(lambda x, y: torch.addcmul(x[:1], y, x, value=2), 3, 5, two=True),
    ],
    operator.truediv: [
        case(lambda x: x / 3, 3, 5),
        case(lambda x: x / x.shape[1], 3, 5),
        case(lambda x, y: x / (y * y + 1.0).mean(1, keepdim=True), 3, 5, two=True),
        case(lambda x: 2.0 / (x * x + 1.0), 3, 5),
    ],
    torch.div: [
        case(lambda x: torch.div(x, 4.0), 3, 5),
        case(
            lambda x: x * torch.div(torch.arange(x.shape[1], device=x.device).cumsum(0), 2, rounding_mode="floor"), 3, 5
        ),
    ],
    operator.getitem: [
        case(lambda x: x[:, 0], 2, 3, 5),
        case(lambda x: x[1:, :, ::2], 3, 3, 5),
        case(lambda x: x[..., None, -1], 2, 3, 5),
        case(lambda x: x[:, [0, 2, 2]], 2, 3, 5),
        case(lambda x: x[:, : x.shape[1] - 1] * 2, 2, 3, 5),
        case(Table(), 5, 5),
    ],
    getattr: [case(lambda x: x.reshape(x.shape[0], -1) * x.ndim, 2, 3, 5), case(lambda x: x.mT, 2, 3, 5)],
    torch.cat: [
        case(lambda x, y: torch.cat([x, y, x], 1), 3, 5, two=True),
        case(lambda x: torch.cat((x, torch.zeros(2, x.shape[1])), dim=0), 3, 5),
    ],
    torch.concat: [case(lambda x, y: torch.concat([x, y], dim=-1), 2, 3, 5, two=True)],
    torch.stack: [case(lambda x, y: torch.stack([x, y, x], dim=-1), 3, 5, two=True)],
    torch.mean: [case(lambda x: torch.mean(x, dim=(1, -1), keepdim=True), 2, 3, 5, 2)],
    torch.sum: [case(lambda x: torch.sum(x, 1), 2, 3, 5)],
    torch.flatten: [case(lambda x: torch.flatten(x, 1), 2, 3, 5), case(lambda x: torch.flatten(x, 0, 1), 2, 3, 5)],
    torch.permute: [case(lambda x: torch.permute(x, (2, 0, 1)), 2, 3, 5)],
    torch.transpose: [case(lambda x: torch.transpose(x, -1, 1), 2, 3, 5, 4)],
    torch.chunk: [case(lambda x: torch.chunk(x, 3, dim=1)[-1], 2, 5, 3)],
    torch.split: [case(lambda x: torch.split(x, 2, dim=1)[2], 2, 5, 3)],
    torch.unbind: [case(lambda x: torch.unbind(x, 1)[2], 2, 5, 3)],
    torch.reshape: [case(lambda x: torch.reshape(x, (3, -1)), 2, 3, 5)],
    torch.squeeze: [case(lambda x: torch.squeeze(x, 1), 3, 1, 5), case(lambda x: torch.squeeze(x), 3, 1, 5)],
    torch.unsqueeze: [case(lambda x: torch.unsqueeze(x, 1), 3, 5), case(lambda x: torch.unsqueeze(x, dim=-1), 3, 5)],
    torch.detach: [case(lambda x: torch.tanh(x) + torch.detach(x), 3, 5)],
    torch._assert: [case(_asserted, 3, 5)],
    F.max_pool2d: [
        case(lambda x: F.max_pool2d(x, 2), 2, 3, 5, 7),
        case(lambda x: F.max_pool2d(x, 3, 2, 1, 2, True), 2, 3, 9, 8),
    ],
    F.max_pool1d: [case(lambda x: F.max_pool1d(x, 3, stride=2, ceil_mode=True), 2, 3, 8)],
    torch.max_pool2d: [case(lambda x: torch.max_pool2d(x, (2, 3), stride=(1, 2)), 2, 3, 5, 7)],
    F.avg_pool2d: [case(lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), 2, 3, 5, 8)],
    F.avg_pool1d: [case(lambda x: F.avg_pool1d(x, 3, stride=2, padding=1), 2, 3, 8)],
    F.lp_pool2d: [
        case(lambda x: F.lp_pool2d(x, 2.0, 2), 2, 3, 5, 7),
        case(lambda x: F.lp_pool2d(x * x, 2.5, (2, 3), 2, True), 2, 3, 5, 8),
    ],
    F.lp_pool1d: [case(lambda x: F.lp_pool1d(x, 2.0, 3, stride=2), 2, 3, 8)],
    F.adaptive_avg_pool2d: [case(lambda x: F.adaptive_avg_pool2d(x, (3, 1)), 2, 3, 5, 8)],
    F.adaptive_avg_pool1d: [case(lambda x: F.adaptive_avg_pool1d(x, 3), 2, 3, 8)],
    F.adaptive_max_pool2d: [case(lambda x: F.adaptive_max_pool2d(x, (3, 2)), 2, 3, 5, 8)],
    F.adaptive_max_pool1d: [case(lambda x: F.adaptive_max_pool1d(x, 3), 2, 3, 8)],
    F.max_pool3d: [case(lambda x: F.max_pool3d(x, 2, stride=(1, 2, 2)), 2, 3, 4, 5, 6)],
    F.avg_pool3d: [case(lambda x: F.avg_pool3d(x, (1, 2, 3)), 2, 3, 4, 5, 6)],
    F.lp_pool3d: [case(lambda x: F.lp_pool3d(x, 2.0, (1, 2, 3), ceil_mode=True), 2, 3, 4, 5, 6)],
    F.adaptive_avg_pool3d: [case(lambda x: F.adaptive_avg_pool3d(x, (3, 1, 2)), 2, 3, 4, 5, 6)],
    F.adaptive_max_pool3d: [case(lambda x: F.adaptive_max_pool3d(x, (3, 1, 2)), 2, 3, 4, 5, 6)],
    F.interpolate: [
        case(lambda x: F.interpolate(x, scale_factor=2), 2, 3, 5),
        case(lambda x: F.interpolate(x, size=(7, 3)), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, 3, mode="nearest-exact"), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, scale_factor=1.7, mode="linear", align_corners=True), 2, 3, 5),
        case(lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, (9, x.shape[2] + 1), mode="bilinear", align_corners=True), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, size=(3, 7), mode="bicubic", antialias=True), 2, 3, 5, 4),
        case(lambda x: F.interpolate(x, size=x.shape[-3:], mode="trilinear"), 2, 3, 5, 4, 2),
        case(lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), 2, 3, 2, 4, 2),
    ],
    F.pad: [
        case(lambda x: F.pad(x, (0, -x.shape[-1] % 4, x.shape[1] - 1, 0)), 2, 3, 5, 6),
        case(lambda x: F.pad(x, (1, 2)), 2, 3, 5),
        case(lambda x: F.pad(x, (1, 0, 0, 2), value=1.5), 2, 3, 5, 4),
        case(lambda x: F.pad(x, (-1, 2, 1, -2)), 2, 3, 5, 4),
        case(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 2, 3, 5, 4),
        case(lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect"), 2, 3, 5, 4),
        case(lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate"), 2, 3, 5, 4),
        case(lambda x: F.pad(x, (2, 1, 0, 3), mode="circular"), 2, 3, 5, 4),
    ],
}

METHODS: dict[str, list[Any]] = {
    "add": [case(lambda x, y: x.add(y, alpha=2), 3, 5, two=True)],
    "add_": [case(lambda x, y: (x * 2).add_(y), 3, 5, two=True)],
    "sub": [case(lambda x, y: x.sub(y), 3, 5, two=True)],
    "mul": [case(lambda x, y: x.mul(y), 3, 5, two=True)],
    "addcmul": [case(lambda x, y: x.addcmul(y, x[:, :1]), 3, 5, two=True)],
    "mul_": [case(lambda x: (x * 2).mul_(0.5), 3, 5)],
    "div": [case(lambda x: x.div(0.3), 3, 5)],
    "mean": [
        case(lambda x: x.mean(), 2, 3, 5),
        case(lambda x: x.mean((2, 3)), 2, 3, 5, 2),
        case(lambda x: x.mean(-2, keepdim=True), 2, 3, 5, 2),
    ],
    "sum": [case(lambda x: x.sum([0, -1]), 2, 3, 5), case(lambda x: x.sum(), 2, 3)],
    "relu": [case(lambda x: x.relu(), 3, 5)],
    "relu_": [case(lambda x: (x * 2).relu_(), 3, 5)],
    "sigmoid": [case(lambda x: x.sigmoid(), 3, 5)],
    "sigmoid_": [case(lambda x: (x * 2).sigmoid_(), 3, 5)],
    "tanh": [case(lambda x: x.tanh(), 3, 5)],
    "sign": [case(lambda x: x.sign(), 3, 5)],
    "softmax": [case(lambda x: x.softmax(dim=-1), 2, 3, 5)],
    "flatten": [case(lambda x: x.flatten(1), 2, 3, 5), case(lambda x: x.flatten(1, x.dim() - 2), 2, 3, 5, 2)],
    "permute": [case(lambda x: x.permute(0, -1, 1), 2, 3, 5), case(lambda x: x.permute((2, 1, 0)), 2, 3, 5)],
    "transpose": [case(lambda x: x.transpose(1, 2).flatten(1), 2, 3, 5)],
    "chunk": [case(_chunks, 2, 6, 3), case(lambda x: x.chunk(2, dim=-1)[1], 2, 3, 5)],
    "split": [case(_split_sizes, 2, 5), case(lambda x: x.split(2, dim=1)[0], 2, 5)],
    "unbind": [case(_unbind, 2, 3, 4)],
    "view": [
        case(lambda x: x.view(x.size(0), -1), 2, 3, 5),
        case(lambda x: x.view((3, x.shape[0] * 5)), 2, 3, 5),
    ],
    "reshape": [case(lambda x: x.transpose(0, 2).reshape(-1, x.shape[1]), 2, 3, 5)],
    "squeeze": [case(lambda x: x.squeeze(-1), 3, 5, 1), case(lambda x: x.squeeze(dim=1), 3, 1, 5)],
    "unsqueeze": [case(lambda x: x.unsqueeze(-2), 3, 5), case(lambda x: x.unsqueeze(dim=0), 3, 5)],
    "unflatten": [case(lambda x: x.unflatten(1, (2, -1)), 3, 6)],
    "contiguous": [case(lambda x: x.transpose(1, 2).contiguous().view(-1), 2, 3, 5)],
    "clone": [case(lambda x: x.clone().mul_(3), 3, 5)],
    "detach": [case(lambda x: x * x.detach(), 3, 5)],
    "expand": [
        case(lambda x: x.unsqueeze(1).expand(-1, 4, -1), 3, 5),
        case(lambda x: x[:1].expand(x.shape[1], 2, 5) * 2, 3, 5),
    ],
    "size": [case(lambda x: x.reshape(x.size(0) * x.size(dim=1)), 3, 5)],
    "dim": [case(lambda x: x * x.dim(), 3, 5)],
    "numel": [case(lambda x: x / x.numel(), 3, 5)],
}
