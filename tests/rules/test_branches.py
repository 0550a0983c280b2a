"""Networks with branches: a signal may only be overwritten where nobody else holds it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import credit
from tests.support import nets
from tests.support.covering import covering

RULES = ["bp", "bp_normhinge", "lisp", "lisp_margin", "lisp_ce", "lisp_raw", "ste", "fa", "dfa", "usf", "frsf", "brsf"]


class Branches(nn.Module):
    """Three linear layers of one width, joined as `join` says, and a head."""

    def __init__(self, join: Callable[["Branches", Tensor], Tensor], activation: str) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(7, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.act, self.act2 = nets.ACTIVATIONS[activation](), nets.ACTIVATIONS[activation]()
        self.join, self.head = join, nn.Linear(6, 5)
        self.double()
        nets._randomize(self, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(self, x))


def before_and_after(m: Branches, x: Tensor) -> Tensor:
    z = m.first(x)
    return m.second(m.act(z)) + z + m.third(z)


def twice(m: Branches, x: Tensor) -> Tensor:
    h = m.act(m.first(x))
    return m.act2(m.second(h) + m.third(h) + h) + h


def sum_of_paths(m: Branches, x: Tensor) -> Tensor:
    z = m.first(x)
    a, b = m.act(z), m.act2(z)
    return m.second(a) + m.third(b) + a + b


def identity_last(m: Branches, x: Tensor) -> Tensor:
    z = m.first(x)
    return z + m.act(m.second(z)) + m.act2(z + m.third(z))


def gated(m: Branches, x: Tensor) -> Tensor:
    z = m.first(x)
    return m.act(m.second(z)) * m.act2(m.third(z)) + z


def around_an_activation(m: Branches, x: Tensor) -> Tensor:
    z = m.first(x)
    z = m.act(m.second(z)) + z
    return m.third(z) + m.act2(z)


JOINS = [around_an_activation, before_and_after, twice, sum_of_paths, identity_last, gated]


@pytest.mark.parametrize(
    ("name", "activation", "join"),
    # Without an activation the straight-through rule is refused: it would be backprop.
    covering(2, RULES, ("tanh", "relu", "identity"), JOINS, where=lambda *case: case[:2] != ("ste", "identity")),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_writing_over_signals_changes_nothing(
    name: str, activation: str, join: Callable[[Branches, Tensor], Tensor]
) -> None:
    """The same step with every overwriting switched off gives the same updates."""
    model = Branches(join, activation)
    x, y = nets.batch(model, (7,))
    rule = credit.rule(name, model)
    rule.step(x, y)
    fast = nets.gradients(model)
    for op in rule.plan.ops:
        op.exclusive = op.overwrite = False
    rule.plan._backward = [
        (op, [(at, slot, first, False) for at, slot, first, _ in targets]) for op, targets in rule.plan._backward
    ]
    rule.position = 0
    rule.step(x, y)
    for key, update in nets.gradients(model).items():
        torch.testing.assert_close(torch.tensor(fast[key]), torch.tensor(update), rtol=1e-12, atol=1e-15, msg=key)


@pytest.mark.parametrize("join", JOINS, ids=lambda join: join.__name__)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_backprop_through_branches_is_autograds(join: Callable[[Branches, Tensor], Tensor], activation: str) -> None:
    model = Branches(join, activation)
    x, y = nets.batch(model, (7,))
    credit.rule("bp", model).step(x, y)
    mine = nets.gradients(model)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    for key, update in nets.gradients(model).items():
        torch.testing.assert_close(torch.tensor(mine[key]), torch.tensor(update), rtol=1e-11, atol=1e-15, msg=key)
