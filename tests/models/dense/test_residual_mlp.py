"""Residual sums of the perceptron: written out by hand, off they leave the network as it was, and rules learn with them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import credit
from credit.engine.ops.activations import Activate
from credit.engine.ops.arithmetic import Add
from credit.engine.plan import Plan
from credit.models import build


def mlp(shape: tuple[int, ...] = (4,), **options: Any) -> nn.Module:
    return build({"kind": "mlp", **options}, shape, 3, seed=0).double()


def by_hand(model: nn.Module, x: Tensor, depth: int, sources: dict[int, int]) -> Tensor:
    """tanh layers; ``sources`` says whose output a layer adds."""
    z = [x.flatten(1)]
    for layer in range(1, depth + 1):
        fc = model.get_submodule(f"fc{layer}")
        h = F.linear(z[-1], fc.get_parameter("weight"), fc.get_parameter("bias"))
        z.append(torch.tanh(h + z[sources[layer]] if layer in sources else h))
    return F.linear(z[-1], model.get_parameter("head.weight"), model.get_parameter("head.bias"))


CASES: list[tuple[list[int], int, dict[int, int]]] = [
    ([4, 4], 1, {1: 0, 2: 1}),  # the first layer is as wide as the input
    ([6, 4, 5, 4], 2, {2: 0, 4: 2}),
    ([6, 6, 6, 6, 6], 2, {4: 2}),  # layer 2 would add the input, of another width
    ([6, 5, 6, 6, 5, 6, 6, 6], 3, {6: 3}),
    ([5, 4, 4], 3, {3: 0}),
]


@pytest.mark.parametrize(("widths", "gap", "sources"), CASES, ids=lambda value: str(value).replace(" ", ""))
def test_sums_stand_where_the_gap_says_and_widths_match(widths: list[int], gap: int, sources: dict[int, int]) -> None:
    model = mlp((2, 2), widths=widths, activation="tanh", residual_gap=gap)
    x = torch.randn(5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = by_hand(model, x, len(widths), sources)
    torch.testing.assert_close(model(x), expected, rtol=1e-13, atol=1e-14)
    assert not torch.allclose(expected, by_hand(model, x, len(widths), {}), rtol=1e-2)


@pytest.mark.parametrize(
    "options", [{}, {"norm": "batch", "dropout": 0.3}, {"init": "gaussian", "init_std": 0.1}], ids=str
)
def test_names_and_first_weights_are_those_of_the_plain_network(options: dict[str, Any]) -> None:
    plain, residual = (mlp(widths=[6, 6, 6], residual_gap=gap, **options) for gap in (0, 1))
    assert type(plain) is nn.Sequential and not isinstance(residual, nn.Sequential)
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in residual.named_modules()]
    ours, theirs = plain.state_dict(), residual.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_plan_has_a_node_each_activation_and_a_sum_below_it() -> None:
    plan = Plan(mlp(widths=[6, 6, 5, 6], residual_gap=2, activation="sign"))
    nodes = {op.name: op for op in plan.ops if isinstance(op, Activate)}
    assert list(nodes) == ["act1", "act2", "act3", "act4"]
    (total,) = (op for op in plan.ops if isinstance(op, Add))
    assert nodes["act2"].out in total.inputs and nodes["act4"].inputs == (total.out,)


def test_backprop_of_the_plan_is_autograds() -> None:
    model = mlp(widths=[6, 4, 6, 4, 6, 4], activation="tanh", norm="batch", residual_gap=2)
    source = torch.Generator().manual_seed(2)
    x, y = torch.randn(7, 4, dtype=torch.float64, generator=source), torch.arange(7) % 3
    F.cross_entropy(model(x), y).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    credit.rule("bp", model).step(x, y)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-10, atol=1e-13)


def test_a_deep_network_passes_on_its_input_only_with_sums() -> None:
    """With weights this small 30 tanh layers forget their input; the sums of every second layer carry it to the head."""
    x = torch.randn(16, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    small = {"activation": "tanh", "init": "gaussian", "init_std": 0.05}
    without, with_sums = (
        mlp((20,), widths=[20] * 30, residual_gap=gap, **small)(x).std(dim=0).mean().item() for gap in (0, 2)
    )
    assert without < 1e-6 and with_sums > 1e-2
