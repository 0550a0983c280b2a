"""A network's updates under each untied gate equal an independent twin's, in float64.

The twin is autograd with a Function of its own at every activation: f forwards, the signal times g(z) backwards.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.models import build
from credit.models.activations import activation
from tests.support import nets
from tests.support.factors import ACTIVATIONS, GATES, Factor, noise

# ---------------------------------------------------------------- whole networks


class Untied(torch.autograd.Function):
    """f forwards, times a factor backwards."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, f: Callable[[Tensor], Tensor], factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return f(z)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return signals[0] * factor, None, None


class Twin(nn.Module):
    """An activation whose backward pass is the gate's."""

    def __init__(self, inner: nn.Module, factor: Factor, rule: Any, name: str) -> None:
        super().__init__()
        self.inner, self.factor, self.rule, self.name, self.calls = inner, factor, rule, name, 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        name = self.name if self.calls == 1 else f"{self.name}#{self.calls}"
        with torch.no_grad():
            factor = self.factor(z, noise(self.rule, tuple(z.shape), name))
        return Untied.apply(z, self.inner, factor)


def twin_gradients(model: nn.Module, rule: Any, factor: Factor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    twin = copy.deepcopy(model)
    kinds = tuple(type(activation(name)) for name in ACTIVATIONS)
    for name, module in list(twin.named_modules()):
        if isinstance(module, kinds):
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, Twin(module, factor, rule, name))
    F.cross_entropy(twin(x), y).backward()
    return {name.replace(".inner", ""): p.grad for name, p in twin.named_parameters() if p.grad is not None}


NETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "lenet5 sigmoid": ({"kind": "lenet5", "variant": "untied", "activation": "sigmoid"}, (1, 28, 28)),
    "lenet5 relu": ({"kind": "lenet5", "variant": "untied", "activation": "relu"}, (1, 28, 28)),
    "lenet5 step": ({"kind": "lenet5", "variant": "untied", "activation": "step"}, (1, 28, 28)),
    "lenet5 identity": ({"kind": "lenet5", "variant": "untied", "activation": "identity"}, (1, 28, 28)),
    "conv+bn": ({"kind": "plain_conv_bn", "widths": [4, 4, 6, 6, 8, 8], "hidden": 8}, (3, 32, 32)),
    "cifar_resnet": ({"kind": "cifar_resnet", "depth": 8, "width": 4}, (3, 32, 32)),
}


FEW = ("rectangle", "triangle", "full 0.2-0.6", "rectangle jam")
CASES = [
    (key, net) for net in NETS for key in (GATES if net in ("lenet5 relu", "lenet5 sigmoid", "lenet5 step") else FEW)
]


@pytest.mark.parametrize(("key", "net"), CASES)
def test_a_networks_updates_equal_those_of_an_autograd_function(key: str, net: str) -> None:
    name, options, factor = GATES[key]
    spec, shape = NETS[net]
    model = build(spec, shape, 10, seed=0).double()
    source = torch.Generator().manual_seed(5)
    x = torch.randn(4, *shape, dtype=torch.float64, generator=source)
    y = torch.tensor([3, 1, 7, 3])
    rule = credit.rule(name, model, seed=2, **options)
    expected = twin_gradients(model, rule, factor, x, y)
    step = rule.step(x, y)
    assert step.logits.shape == (4, 10)
    assert expected.keys() == {n for n, _ in model.named_parameters()}
    largest = max(float(g.abs().max()) for g in expected.values())
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[n], rtol=1e-9, atol=1e-12 * largest)
    assert bool(next(iter(expected.values())).any()), "the first layer learns nothing: a test of nothing"


@pytest.mark.parametrize("key", ["rectangle", "triangle", "logistic", "full 0.2-0.6", "positive", "rectangle jam 0.7"])
@pytest.mark.parametrize("transport", ["fixed_random", "sign"])
def test_with_other_transports_signals_and_normalizers(key: str, transport: str) -> None:
    """One gate between the layers: its factor stands between what arrives and what updates the layer below."""
    name, options, factor = GATES[key]
    model = nets.mlp("sigmoid", (7, 11, 5))
    x, y = nets.batch(model, (7,), n=1)
    x = x / 5
    rule = credit.rule(
        name, model, feedback_weights=transport, normalizer="rms", loss="violations", margin=9.0, **options
    )
    rule.step(x, y)
    top, below = (model.get_parameter(f"{layer}.bias").grad for layer in (2, 0))
    assert top is not None and below is not None
    weight = model.get_parameter("2.weight").detach()
    crossed = rule.buffers["feedback.2.weight"] if transport == "fixed_random" else weight.sign()
    z = F.linear(x, model.get_parameter("0.weight"), model.get_parameter("0.bias")).detach()
    wanted = (top @ crossed) * factor(z, noise(rule, (1, 11), "1")).squeeze(0)
    torch.testing.assert_close(below, wanted / wanted.square().mean().sqrt(), rtol=1e-9, atol=1e-12)
