"""LFP on one network of awkward ways, against contributions split by sign and written as an autograd function of each layer.

An output read twice, a convolution used twice, groups, dilation, stride, a residual sum that broadcasts, a transpose, a dense
layer over positions, logits through a ReLU.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules import Mapped
from tests.support import nets

EPSILON = 1e-6


def _stable(z: Tensor) -> Tensor:
    return z + torch.where(z < 0, -1, 1).to(z.dtype) * EPSILON


def _factors(relevance: str, r: Tensor, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
    """What contributions above and below 0 are multiplied by, from the sums of both."""
    z = plus + minus
    if relevance == "epsilon":
        return r / _stable(z), r / _stable(z)
    if relevance == "zpm":
        size = plus - minus
        share = torch.where(size > 0, r * z.sign() / size.clamp(min=1e-300), 0.0)
        return share, share
    return 2 * r * z.sign() / (plus + EPSILON), -r * z.sign() / (minus - EPSILON)


class Layer(torch.autograd.Function):
    """A layer of weights, split into the four products of positive and negative inputs and weights."""

    @staticmethod
    def forward(ctx: Any, relevance: str, apply: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, w, b)
        ctx.relevance, ctx.apply_ = relevance, apply
        return apply(x, w, b)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor | None, ...]:
        x, w, b = ctx.saved_tensors
        (xp, wp, bp), (xn, wn, bn) = ([v.clamp(min=0) for v in (x, w, b)], [v.clamp(max=0) for v in (x, w, b)])
        none = torch.zeros_like(b)
        parts = (((xp, wp, bp), (xn, wn, none)), ((xp, wn, bn), (xn, wp, none)))
        plus, minus = (sum(ctx.apply_(*part) for part in side) for side in parts)
        total = [torch.zeros_like(v) for v in (x, w, b)]
        for side, factor in zip(parts, _factors(ctx.relevance, r, plus, minus), strict=True):
            for part in side:
                with torch.enable_grad():
                    given = [v.clone().requires_grad_() for v in part]
                    found = torch.autograd.grad(ctx.apply_(*given), given, factor)
                ahead = (part[0], part[1].abs(), part[2].abs())
                total = [t + v * g for t, v, g in zip(total, ahead, found, strict=True)]
        return None, None, *total


class Sum(torch.autograd.Function):
    """A residual sum."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        quotient = r / _stable(a + b)
        return (a * quotient).sum_to_size(a.shape), (b * quotient).sum_to_size(b.shape)


class Passed(torch.autograd.Function):
    """An activation."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[None, Tensor]:
        return None, r


class Awkward(nn.Module):
    """The network; with ``relevance`` set, autograd through it is LFP."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.grouped, self.twice = nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Conv2d(6, 6, 3, padding=2, dilation=2)
        self.strided, self.dense, self.head = nn.Conv2d(6, 4, 3, stride=2), nn.Linear(4, 9), nn.Linear(36, 5)
        self.relevance = ""

    def weighted(self, layer: Any, x: Tensor) -> Tensor:
        if not self.relevance:
            out: Tensor = layer(x)
            return out
        if isinstance(layer, nn.Linear):
            way: Callable[..., Tensor] = F.linear
        else:
            geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
            way = lambda x, w, b: F.conv2d(x, w, b, *geometry)  # noqa: E731 - the layer's own map
        made: Tensor = Layer.apply(self.relevance, way, x, layer.weight, layer.bias)
        return made

    def act(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        out: Tensor = Passed.apply(function, x) if self.relevance else function(x)
        return out

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = Sum.apply(a, b) if self.relevance else a + b
        return out

    def forward(self, x: Tensor) -> Tensor:
        z = self.weighted(self.grouped, x)
        branch = self.act(torch.tanh, z)
        h = self.act(torch.relu, self.weighted(self.twice, self.act(torch.relu, z)))
        h = self.add(self.act(torch.relu, self.weighted(self.twice, h)), branch)
        h = F.max_pool2d(self.act(torch.relu, h), 2, 2)
        h = self.act(torch.relu, self.weighted(self.strided, h)).flatten(2).transpose(1, 2)
        h = self.act(torch.tanh, self.weighted(self.dense, h))
        h = self.add(h, h[:, :1]).flatten(1)
        return self.act(torch.relu, self.weighted(self.head, h))


@pytest.mark.parametrize("relevance", ["epsilon", "zpm", "alphabeta"])
def test_equals_contributions_split_by_sign(relevance: str) -> None:
    net, y = Awkward().double(), torch.arange(5)
    x = torch.randn(5, 4, 10, 10).double()
    twin, at = copy.deepcopy(net), x.clone().requires_grad_()
    twin.relevance = relevance
    logits = twin(at)
    logits.backward(logits.detach() * (F.one_hot(y, 5) - logits.detach().sigmoid()))

    kept = [x.clone(), *(p.clone() for p in net.parameters())]
    rule = credit.rule(f"lfp_{relevance}", net)
    rule.keep_input_signal = True
    step = rule.step(x, y)
    assert all(torch.equal(a, b) for a, b in zip(kept, [x, *net.parameters()], strict=True))
    for (name, p), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and other.grad is not None and other.grad.any(), name
        torch.testing.assert_close(p.grad, -other.grad / 5, rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(step.input_signal, at.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lfp_zpm", "lfp_0"])
def test_epsilon_is_refused_where_nothing_reads_it(name: str) -> None:
    with pytest.raises(
        UserError, match=r"rule.epsilon=0.5 would change nothing: rule.relevance=z\w+ divides by no sum"
    ):
        credit.rule(name, nets.mlp("relu"), epsilon=0.5)
    credit.rule(name, Awkward(), epsilon=0.5)  # its sums do


def test_replicas_return_the_signal_at_the_input() -> None:
    models = [nets.mlp("relu", seed=seed) for seed in (0, 1)]
    rules = [credit.rule("lfp_epsilon", model, seed=seed) for seed, model in enumerate(models)]
    rules[1].keep_input_signal = True
    with pytest.raises(UserError, match="rules 0 and 1 differ in their keep_input_signal"):
        Mapped(rules)
    rules[0].keep_input_signal = True
    x, y = nets.batch(models[0], (7,))
    alone = [rule.updates(x, y).input_signal for rule in rules]
    found = Mapped(rules).step(torch.stack([x, x]), torch.stack([y, y])).input_signal
    assert found is not None and alone[0] is not None and alone[1] is not None
    torch.testing.assert_close(found, torch.stack([alone[0], alone[1]]))
