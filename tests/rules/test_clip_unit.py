"""``rule.clip_unit``: a unit's updates are limited, each by itself, to a share of the norm of its weights and bias."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.transforms import clip_unit
from tests.support import nets


def limited(unit: list[Tensor], moves: list[Tensor], share: float) -> tuple[list[Tensor], set[bool]]:
    """One unit by itself: its parameters, their updates; the updates after, and for each whether it was too long."""
    size = sum(float(v.square().sum()) for v in unit) ** 0.5
    most = share * max(size, 1e-6)
    lengths = [float(v.square().sum()) ** 0.5 for v in moves]
    after = [v * most / length if length > most else v for v, length in zip(moves, lengths, strict=True)]
    return after, {length > most for length in lengths}


def by_hand(model: nn.Module, share: float, pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
    """The updates of a model's parameters as they should be; `pairs` name a weight and its bias, the others are alone."""
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    own = {name: p.detach() for name, p in model.named_parameters()}
    sides = set()
    for weight, bias in pairs:
        for row in range(len(own[weight])):
            moved = [name for name in (weight, bias) if name in expected]
            new, long = limited([own[weight][row], own[bias][row]], [expected[name][row] for name in moved], share)
            for name, value in zip(moved, new, strict=True):
                expected[name][row] = value
            sides |= long
    for name in set(expected) - {name for pair in pairs for name in pair}:
        rows: list[Any] = list(range(len(own[name]))) if own[name].dim() > 1 else [slice(None)]
        for at in rows:
            (expected[name][at],), long = limited([own[name][at]], [expected[name][at]], share)
            sides |= long
    assert sides == {True, False}, "both sides of the limit should be tried"
    return expected


def assert_gradients(model: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, p in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-13, atol=0, msg=name)


def test_a_units_weights_and_bias_are_limited_each_by_itself() -> None:
    """The authors' numbers: the limit 0.06 sqrt(3) pools the parameters, and the bias's own update is below it."""
    own = {"w": torch.ones(1, 2), "b": torch.ones(1)}
    moved = {name: torch.full_like(value, -0.0896) for name, value in own.items()}
    after = clip_unit(0.06, [("w", "b")])(own, moved)
    torch.testing.assert_close(after["w"], torch.tensor([[-0.0735, -0.0735]]), rtol=0, atol=5e-5)
    torch.testing.assert_close(after["b"], torch.tensor([-0.0896]))


@pytest.mark.parametrize("name", ["bp", "lisp_raw", "dfa"])
def test_a_units_updates_are_limited_by_the_norm_of_both(name: str) -> None:
    model = nets.Residual("relu", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    twin = copy.deepcopy(model)
    credit.rule(name, twin).step(x, y)
    pairs = [(f"{layer}.weight", f"{layer}.bias") for layer in ("norm1", "block", "norm2", "last", "head")]
    credit.rule(name, model, clip_unit=0.2).step(x, y)
    assert_gradients(model, by_hand(twin, 0.2, pairs))


def test_frozen_weights_count_and_a_unit_of_zeros_may_move_a_little() -> None:
    model = nets.mlp("tanh")
    with torch.no_grad():
        for p in (model.get_parameter("4.weight"), model.get_parameter("4.bias")):
            p[1:3] = 0
    model.get_parameter("0.weight").requires_grad_(False)
    x, y = nets.batch(model, (7,))
    twin = copy.deepcopy(model)
    credit.rule("bp", twin).step(x, y)
    credit.rule("bp", model, clip_unit=0.06).step(x, y)
    assert_gradients(model, by_hand(twin, 0.06, [(f"{i}.weight", f"{i}.bias") for i in (0, 2, 4)]))
    rows = [model.get_parameter(name).grad for name in ("4.weight", "4.bias")]
    assert all(row is not None for row in rows)
    for row in rows:
        assert row is not None and float(row[1].norm()) == pytest.approx(0.06e-6, rel=1e-9)


class Scaled(nn.Module):
    """A weight and a bias, used under names that do not tell they belong together, and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)
        self.scale = nn.Parameter(torch.linspace(0, 1, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x)) * self.scale)


def test_a_vector_alone_is_one_unit() -> None:
    model = Scaled().double()
    nets._randomize(model, 4)
    with torch.no_grad():
        model.scale[0] = 0
    x, y = nets.batch(model, (4,))
    twin = copy.deepcopy(model)
    credit.rule("bp", twin).step(x, y)
    assert twin.scale.grad is not None and twin.scale.grad[0] != 0
    credit.rule("bp", model, clip_unit=0.04).step(x, y)
    expected = by_hand(twin, 0.04, [("head.weight", "head.bias")])
    assert abs(float(expected["scale"][0])) > 1e-6  # of its own size alone it could not have moved
    assert_gradients(model, expected)


def test_it_comes_after_the_other_clippings_and_before_that_of_all() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    twin = copy.deepcopy(model)
    credit.rule("lisp", twin, clip=0.05, reproject=0.1).step(x, y)
    for name, value in by_hand(twin, 0.03, [(f"{i}.weight", f"{i}.bias") for i in (0, 2, 4)]).items():
        twin.get_parameter(name).grad = value
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.08)
    credit.rule("lisp", model, clip=0.05, reproject=0.1, clip_unit=0.03, clip_norm=0.08).step(x, y)
    for p, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-11, atol=0)


def test_replicas_are_limited_each_by_itself() -> None:
    stream = torch.Generator().manual_seed(5)
    shapes = {"w": (3, 4, 2, 2), "b": (3,), "scale": (5,), "one": (), "rows": (2, 6)}
    transform = clip_unit(0.1, [("w", "b"), ("scale",)])
    own, moves = (
        {name: torch.randn((4, *shape), generator=stream, dtype=torch.float64) for name, shape in shapes.items()}
        for _ in range(2)
    )
    moves["w"][2] *= 1e-3
    moves["b"][2] *= 1e-3
    loops = [
        transform({n: v[r] for n, v in own.items()}, {n: v[r].clone() for n, v in moves.items()}) for r in range(4)
    ]
    together = transform.together(own, {n: v.clone() for n, v in moves.items()})  # type: ignore[attr-defined]
    for name in shapes:
        torch.testing.assert_close(together[name], torch.stack([loop[name] for loop in loops]), rtol=1e-14, atol=0)
    assert torch.equal(together["w"][2], moves["w"][2]) and not torch.equal(together["w"][0], moves["w"][0])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "rule.clip_unit=0 is outside (0, inf): limit on the updates of each unit"),
        (-1.0, "null: off; auto: what the rule finds right for the network"),
        (float("nan"), "rule.clip_unit=nan: must be a finite number"),
        ("0.06", "must be a number or auto or null"),
    ],
)
def test_what_limits_nothing_is_refused(value: object, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule("bp", nets.mlp("relu"), clip_unit=value)
    assert words in str(refusal.value)
