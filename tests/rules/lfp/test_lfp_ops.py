"""LFP-epsilon through ops that the matrix twins do not have, against autograd: ``r_i = x_i dy/dx_i r / (y + sign(y) epsilon)``."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import credit
from tests.support import nets

EPSILON = 0.05


class Shared(torch.autograd.Function):
    """An op y = f(x_1, x_2, ...), whose backward pass shares the feedback of y among the x by their contributions."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        ctx.function, ctx.weights = function, [isinstance(x, nn.Parameter) for x in given]
        ctx.save_for_backward(*given)
        return function(*given)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor | None, ...]:
        given = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            y = ctx.function(*given)
        quotient = r / (y + torch.where(y < 0, -1, 1).to(y.dtype) * EPSILON)
        # An input's feedback and a weight's update: with x and with |w| in front.
        found = torch.autograd.grad(y, given, quotient.detach())
        shares = zip(found, ctx.saved_tensors, ctx.weights, strict=True)
        return None, *[g * (x.abs() if weight else x) for g, x, weight in shares]


class Passed(torch.autograd.Function):
    """An activation: feedback passes unchanged."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[None, Tensor]:
        return None, r


class Ways:
    """The two ways to run a network: as it is, and with LFP-epsilon in the place of derivatives."""

    def __init__(self, lfp: bool) -> None:
        self.lfp = lfp

    def __call__(self, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        out: Tensor = Shared.apply(function, *given) if self.lfp else function(*given)
        return out

    def layer(self, module: nn.Module, x: Tensor) -> Tensor:
        if not self.lfp:
            plain: Tensor = module(x)
            return plain
        names = [name for name, _ in module.named_parameters()]
        return self(
            lambda x, *own: functional_call(module, dict(zip(names, own, strict=True)), (x,)), x, *module.parameters()
        )

    def act(self, x: Tensor) -> Tensor:
        out: Tensor = Passed.apply(torch.tanh, x) if self.lfp else torch.tanh(x)
        return out


class Odd(nn.Module):
    """Groups, dilation, a difference, a scaled sum, pieces put together, a mean; for images (4, 6, 7)."""

    lfp = False

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, padding=(1, 2), dilation=(1, 2))
        self.thin = nn.Conv2d(6, 6, 1)
        self.wide = nn.Conv2d(12, 5, (2, 3), stride=(1, 2))
        self.head = nn.Linear(5, nets.CLASSES)
        self.double()
        nets._randomize(self, 11, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        way = Ways(self.lfp)
        h = way.act(way.layer(self.grouped, x))
        k = way.act(way.layer(self.thin, h))
        h = torch.cat([way(lambda a, b: a - b, h, k), way(lambda a: a + 0.25, way(lambda a: 0.5 * a, k))], 1)
        h = way.act(way.layer(self.wide, h))
        return way.layer(self.head, way(lambda a: a.mean((2, 3)), h))


class Sequence(nn.Module):
    """Convolutions over one dimension of pieces of a sequence (3, 10), pooled, then a layer for every place."""

    lfp = False

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 4, 3, padding=1)
        self.each = nn.Linear(4, 6)
        self.head = nn.Linear(30, nets.CLASSES, bias=False)
        self.double()
        nets._randomize(self, 12, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        way = Ways(self.lfp)
        h = way.act(way.layer(self.first, x))
        h = way(lambda a: F.avg_pool1d(a, 2), h)
        h = way.act(way.layer(self.each, h.transpose(1, 2)))
        return way.layer(self.head, h.flatten(1))


@pytest.mark.parametrize(("network", "shape"), [(Odd, (4, 6, 7)), (Sequence, (3, 10))])
def test_epsilon_shares_by_contributions_everywhere(network: type[Odd | Sequence], shape: tuple[int, ...]) -> None:
    model = network()
    x, y = nets.batch(model, shape, 3)
    rule = credit.rule("lfp_epsilon", model, epsilon=EPSILON)
    rule.keep_input_signal = True
    step = rule.step(x, y)
    twin, inputs = copy.deepcopy(model), x.clone().requires_grad_()
    twin.zero_grad()
    twin.lfp = True
    logits = twin(inputs)
    o = logits.detach()
    logits.backward(o * (F.one_hot(y, nets.CLASSES) - o.sigmoid()))
    torch.testing.assert_close(step.logits, o, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(step.input_signal, inputs.grad, rtol=1e-9, atol=1e-13)
    for (name, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert other.grad is not None and other.grad.any()
        torch.testing.assert_close(p.grad, -other.grad / len(x), rtol=1e-9, atol=1e-13, msg=name)
