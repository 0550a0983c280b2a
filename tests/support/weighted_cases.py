"""Test cases of linear maps called as functions, by row; see ``test_kernels``."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from tests.support.harness import case


class Called(nn.Module):
    """``call(self, x)`` with a weight, a second one and a bias among the parameters."""

    mask: Tensor

    def __init__(self, call: Callable[[Any, Tensor], Tensor], *shape: int, bias: int = 0, frozen: bool = False) -> None:
        super().__init__()
        self.call = call
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=not frozen)
        self.other = nn.Parameter(torch.zeros(shape))
        self.shift = nn.Parameter(torch.zeros(bias or shape[0]))
        self.register_buffer("mask", torch.arange(shape[-1]) % 2.0)
        self.register_buffer("kernel", torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        # The second weight and the shift take part in every case.
        return self.call(self, x) + self.other.mean() + self.shift.mean()


class Inside(nn.Linear):
    """A linear layer that standardises its weight in a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean(1, keepdim=True)
        return F.linear(input, centred / ((centred * centred).mean(1, keepdim=True) + 0.1), self.bias)


def _tied(m: Any, x: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.linear(x, m.weight, m.shift)), m.weight.t())


def _convs(call: Any, *kernel: int) -> list[Any]:
    size, room = (4, 2, *kernel), (2, 4, *(7 + at for at in range(len(kernel))))
    return [
        case(Called(lambda m, x: call(x, m.weight, m.shift, 2, 1, 1, 2), *size), *room),
        case(Called(lambda m, x: call(x, m.weight * m.other, m.shift * 2, stride=2, groups=2), *size), *room),
        case(Called(lambda m, x: call(x, m.weight, None, padding="same", dilation=2, groups=2), *size), *room),
        case(Called(lambda m, x: call(x, m.kernel, m.shift, 2, 1, groups=2), *size, frozen=True), *room),
        case(Called(lambda m, x: call(x, m.kernel * 2, dilation=2, groups=2), *size, frozen=True), *room),
        case(Called(lambda m, x: call(x, torch.tanh(m.weight), groups=2, padding="valid"), *size, frozen=True), *room),
    ]


def _transposed(call: Any, *kernel: int) -> list[Any]:
    size, room = (2, 3, *kernel), (2, 2, *(4 + at for at in range(len(kernel))))
    return [
        case(Called(lambda m, x: call(x, m.weight, None, 2, 1, 1), *size), *room),
        case(Called(lambda m, x: call(x, m.weight * m.other, m.shift, groups=2, dilation=2), *size, bias=6), *room),
    ]


FUNCTIONS: dict[Any, list[Any]] = {
    F.linear: [
        case(Called(lambda m, x: F.linear(x, m.weight, m.shift), 4, 5), 3, 5),
        case(Called(lambda m, x: F.linear(x, m.weight), 4, 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.linear(x, m.weight * m.mask + m.other, m.shift), 4, 5), 3, 5),
        case(Called(lambda m, x: F.linear(x, torch.tanh(m.weight), torch.tanh(m.shift)), 4, 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.linear(x, m.weight, bias=m.shift * 2), 4, 5), 3, 5),
        case(Called(lambda m, x: F.linear(x, m.weight * m.other, m.shift), 4, 5, frozen=True), 3, 5),
        case(Called(_tied, 4, 5), 3, 5),
        case(Called(lambda m, x: F.linear(x, m.other @ m.weight.t()), 5, 5), 3, 5),
        case(Inside(5, 4), 3, 5),
        case(Called(lambda m, x: F.linear(x, m.weight), 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.linear(x, m.weight, torch.tanh(x[:, :4])), 4, 5), 3, 5),
    ],
    F.conv1d: _convs(F.conv1d, 3),
    F.conv2d: _convs(F.conv2d, 3, 2),
    F.conv3d: _convs(F.conv3d, 2, 3, 1),
    F.conv_transpose1d: _transposed(F.conv_transpose1d, 3),
    F.conv_transpose2d: _transposed(F.conv_transpose2d, 3, 4),
    F.conv_transpose3d: _transposed(F.conv_transpose3d, 3, 4, 3),
    operator.matmul: [
        case(lambda x, y: x @ y.mT, 2, 3, 5, two=True, linear=True),
        case(Called(lambda m, x: x @ m.weight, 5, 4), 3, 5),
        case(Called(lambda m, x: x @ m.weight.T, 4, 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: m.weight @ x, 4, 3), 2, 3, 5, linear=True),
        case(Called(lambda m, x: x @ (m.weight * m.other), 5, 4), 3, 5),
        case(Called(lambda m, x: x @ m.weight, 2, 5, 4), 2, 3, 5, linear=True),
        case(Called(lambda m, x: x @ m.weight, 5), 2, 3, 5, linear=True),
    ],
    torch.matmul: [
        case(lambda x, y: torch.matmul(x, y[0].transpose(0, 1)), 2, 3, 5, two=True, linear=True),
        case(Called(lambda m, x: torch.matmul(x, m.weight.transpose(0, 1)), 4, 5), 2, 3, 5, linear=True),
    ],
    torch.mm: [case(Called(lambda m, x: torch.mm(x, m.weight), 5, 4), 3, 5)],
    torch.mv: [case(Called(lambda m, x: torch.mv(x, m.weight), 5), 3, 5)],
    torch.bmm: [case(lambda x, y: torch.bmm(x, y.transpose(1, 2)), 2, 3, 5, two=True)],
    torch.addmm: [case(Called(lambda m, x: torch.addmm(m.shift, x, m.weight), 5, 4, bias=4), 3, 5)],
    F.embedding: [
        case(
            Called(lambda m, x: x + F.embedding(torch.arange(x.shape[1]) % 2, m.weight, padding_idx=-1), 3, 5),
            3,
            4,
            5,
            linear=True,
        ),
        case(Called(lambda m, x: F.embedding((x * 9).long().abs() % 3, m.weight) * x.unsqueeze(-1), 3, 5), 3, 5),
    ],
    F.prelu: [case(Called(lambda m, x: F.prelu(x, m.weight), 5), 3, 5)],
    torch.einsum: [
        case(lambda x, y: torch.einsum("bik,bjk->bij", x, y), 2, 3, 5, two=True, linear=True),
        case(lambda x, y: torch.einsum("bhqd, bkhd -> bqhk", x, y.transpose(1, 2)), 2, 3, 4, 5, two=True, linear=True),
        case(lambda x, y: torch.einsum("bi,bj->bij", x, y), 3, 5, two=True),
        case(lambda x, y: torch.einsum("bi,bi->bi", x, y), 3, 5, two=True),
        case(lambda x, y: torch.einsum("bi,bi->b", [x, y]), 3, 5, two=True),
        case(Called(lambda m, x: torch.einsum("bi,oi->bo", x, m.weight), 4, 5), 3, 5),
        case(Called(lambda m, x: torch.einsum("hdi,bni->bhnd", m.weight, x), 2, 4, 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: torch.einsum("bhi,hoi->bho", x, m.weight), 3, 4, 5), 2, 3, 5, linear=True),
        case(
            Called(lambda m, x: torch.einsum("bhni,hio->bno", x.unflatten(1, (2, -1)), m.weight), 2, 5, 4),
            *(2, 4, 5),
            linear=True,
        ),
    ],
    torch.t: [case(Called(lambda m, x: x @ torch.t(m.weight), 4, 5), 3, 5)],
}


class Statistics(Called):
    """A norm as a function, with running statistics of the module's."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], *shape: int) -> None:
        super().__init__(call, *shape)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))


NORMS: dict[Any, list[Any]] = {
    F.layer_norm: [
        case(Called(lambda m, x: F.layer_norm(x, (5,), m.weight, m.shift), 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.layer_norm(x, (3, 5), eps=0.1) * m.weight, 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.layer_norm(x, (5,), 1 + m.weight, torch.tanh(m.shift)), 5), 4, 5),
        case(LayerNorm2d(3), 2, 3, 5, 4),
    ],
    F.rms_norm: [
        case(Called(lambda m, x: F.rms_norm(x, (5,), m.weight, 1e-3), 5), 2, 3, 5, linear=True),
        case(Called(lambda m, x: F.rms_norm(x, (5,), 1 + m.weight), 5), 4, 5),
    ],
    F.group_norm: [
        case(Called(lambda m, x: F.group_norm(x, 2, m.weight, m.shift), 4), 2, 4, 5, 3),
        case(Called(lambda m, x: F.group_norm(x, 2, m.weight * 2, m.shift * 2), 4), 2, 4, 5),
    ],
    F.instance_norm: [
        case(Called(lambda m, x: F.instance_norm(x, weight=m.weight, bias=m.shift, eps=0.1), 3), 2, 3, 5, 4),
    ],
    F.batch_norm: [
        case(Statistics(lambda m, x: F.batch_norm(x, m.mean, m.var, m.weight, m.shift, True, 0.3), 5), 7, 5),
        case(Statistics(lambda m, x: F.batch_norm(x, m.mean, m.var, m.weight * 2, m.shift), 5), 7, 5, 3),
        case(Called(lambda m, x: F.batch_norm(x, None, None, training=True) * m.weight, 5), 7, 5),
        case(Called(lambda m, x: F.linear(x, _standardised(m)), 4, 5), 3, 5),
    ],
}


def _standardised(m: Any) -> Tensor:
    """Return a weight standardised as in timm's StdConv2d."""
    made = F.batch_norm(m.weight.reshape(1, 4, -1), None, None, m.shift, training=True, momentum=0.0)
    return made.reshape_as(m.weight)


class Looked(nn.Module):
    """Embeddings of tokens that the module has, some of them more than once."""

    tokens: Tensor

    def __init__(self, tokens: Any = ((0, 3, 3), (1, 6, 1)), **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 5, **options)
        self.register_buffer("tokens", torch.tensor(tokens))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.table(self.tokens)


EMBEDDINGS: dict[type[nn.Module], list[Any]] = {
    nn.Embedding: [
        case(Looked(), 2, 3, 5, linear=True),
        case(Looked(padding_idx=1), 2, 3, 5, linear=True),
        case(Looked([[5, 0, 5]], padding_idx=-2), 2, 3, 5, linear=True),
    ],
}

METHODS: dict[str, list[Any]] = {
    "matmul": [
        case(lambda x, y: x.matmul(y.mT), 2, 3, 5, two=True),
        case(Called(lambda m, x: x.matmul(m.weight.t()), 4, 5), 3, 5),
    ],
    "mm": [case(Called(lambda m, x: x.mm(m.weight), 5, 4), 3, 5)],
    "bmm": [case(lambda x, y: x.bmm(y.mT), 2, 3, 5, two=True)],
    "mv": [case(Called(lambda m, x: x.mv(m.weight), 5), 3, 5)],
    "addmm": [case(Called(lambda m, x: m.shift.addmm(x, m.weight), 5, 4, bias=4), 3, 5)],
    "t": [case(Called(lambda m, x: x @ m.weight.t(), 4, 5), 3, 5)],
}
