"""Facts about plans: what gets signals, what is kept, what is freed, and that overwriting changes nothing."""

import copy
import gc
import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.backward import BackwardPass
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.engine.ops.shapes import Value
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Capabilities, Cuts, Plan
from tests.support.harness import Scribble, assert_close, assert_equal, by_autograd, by_plan, case, draws


class Block(nn.Module):
    """Residual, with in-place activations, a skip that is padded, and a concatenation."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.act1, self.act2, self.act3 = act(), act(), act()
        self.fc = nn.Linear(8 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.stem(x)))
        low = self.act2(self.bn2(self.conv1(x)))
        high = nn.functional.pad(self.bn3(self.conv2(low)), (1, 1, 1, 1))
        out = self.act3(high + low + x * 0.5) - low
        return self.fc(torch.cat([out, low], 1).flatten(1))


def block(act: type[nn.Module] = nn.ReLU) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Block(act).double(), torch.randn(3, 3, 6, 6, dtype=torch.float64)


class Pass(BackwardPass):
    """A rule whose gate hands the arriving signal on untouched."""

    spoil = False

    def keeps(self, op: Activate) -> set[str]:
        return set()

    def gate(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        return signal

    def arrive(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        if not self.spoil or not op.exclusive:
            return signal
        arrived = signal.clone()
        signal.fill_(torch.nan)
        return arrived


class PassAndSpoil(Pass):
    spoil = True


def test_overwriting_signals_and_activations_changes_no_bit() -> None:
    model, x = block()
    _, tricks, _, g = by_plan(model, x, backward=Scribble())
    plan = Plan(model)
    assert any(op.overwrite for op in plan.ops) and any(op.exclusive for op in plan.ops)
    for op in plan.ops:
        op.overwrite = op.exclusive = False
    plan._backward = [(op, [(*target[:3], False) for target in targets]) for op, targets in plan._backward]
    run = plan.run(dict(model.named_parameters()), {n: b.clone() for n, b in model.named_buffers()}, draws(x))
    with torch.no_grad():
        plan.forward(run, x)
        plain = plan.backward(run, g, BackwardPass())
    assert plain.keys() == tricks.keys()
    assert all(torch.equal(plain[name], tricks[name]) for name in plain)


def test_a_gate_that_hands_its_signal_on_never_lets_two_holders_overwrite_it() -> None:
    model, x = case(nn.Sequential(nn.Tanh(), nn.Sigmoid()), 3, 4)("added")
    _, calm, _, g = by_plan(model, x, backward=Pass())
    _, spoiled, _, _ = by_plan(model, x, g, PassAndSpoil())
    assert all(torch.equal(calm[name], spoiled[name]) for name in calm)


def test_gradients_of_two_parameters_never_share_memory() -> None:
    class Shifts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x + (self.a + self.b)

    _, updates, _, g = by_plan(Shifts(), torch.randn(2, 3))
    updates["a"].mul_(0)
    assert torch.equal(updates["b"], g)


def test_no_signal_goes_to_the_input_or_below_the_first_trainable_op() -> None:
    model, x = block()
    for name in ("stem", "bn1", "conv1"):
        model.get_submodule(name).requires_grad_(False)
    plan = Plan(model)
    by_name = {op.name: op for op in plan.ops}
    assert by_name["stem"].wants == by_name["bn1"].wants == by_name["conv1"].wants == by_name["bn2"].wants == (False,)
    assert {op.name for op in plan.back}.isdisjoint({"stem", "bn1", "act1", "conv1"})
    assert by_name["bn2"] in plan.back
    assert all(op.wants == (False,) for op in Plan(nn.Sequential(nn.Linear(2, 2))).ops)
    assert_equal(model, x)


def test_ops_that_receive_no_signal_keep_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[:4].requires_grad_(False)
    plan = Plan(model)
    run = plan.run(dict(model.named_parameters()), {}, None)
    with torch.no_grad():
        plan.forward(run, torch.randn(3, 4))
    assert [saved is not None for saved in run.saved] == [False, False, False, False, True]


@pytest.mark.parametrize("frozen", ["bias", "weight"])
def test_half_frozen_layers(frozen: str) -> None:
    model, x = block()
    for name, parameter in model.named_parameters():
        if name.endswith(frozen):
            parameter.requires_grad_(False)
    assert_equal(model, x)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor([0.7]))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x)) * self.scale
        return self.out(self.first(torch.tanh(self.second(h))) * self.scale)


def test_shared_parameters_get_the_sum_of_their_uses() -> None:
    torch.manual_seed(0)
    model = Tied().double()
    x = torch.randn(5, 4, dtype=torch.float64)
    _, updates, _, _ = by_plan(model, x)
    assert set(updates) == {name for name, _ in model.named_parameters()}
    assert_equal(model, x)


def test_tracing_leaves_the_model_as_it_was() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.drop = nn.Linear(3, 3), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(self.fc(x)) * torch.tensor([1.0, 2.0, 3.0])

    model = Written().eval()
    model.fc.train()
    held = set(vars(model))
    plan = Plan(model)
    assert set(vars(model)) == held
    assert (model.training, model.fc.training, model.drop.training) == (False, True, False)
    assert any(isinstance(op, Value) for op in plan.ops)


def test_optional_arguments_stand_at_their_defaults() -> None:
    class Flags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None, features: bool = False, **rest: int) -> Tensor:
            out: Tensor = self.fc(x if mask is None else x * mask)
            return (out, x) if features else out  # type: ignore[return-value]  # as users write it

    assert_equal(Flags().double(), torch.randn(4, 3, dtype=torch.float64))


def test_a_step_keeps_nothing_alive() -> None:
    model, x = block()
    y = torch.tensor([0, 1, 2])
    rule = credit.rule("bp", model, precision="float64")
    rule.step(x, y)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(held), Tensor) for held in gc.get_objects())

    before = alive()
    tracemalloc.start()
    for _ in range(3):
        rule.step(x, y)
    held = tracemalloc.take_snapshot()
    tracemalloc.stop()
    assert alive() <= before
    assert sum(line.size for line in held.statistics("filename")) < 2e5


def test_a_step_is_autograds_and_overwrites_gradients() -> None:
    model, x = block()
    y = torch.tensor([4, 1, 2])
    twin = copy.deepcopy(model).train()
    nn.functional.cross_entropy(twin(x), y).backward()
    rule = credit.rule("bp", model, precision="float64")
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    for _ in range(2):
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        rule.step(x, y)
    for (name, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        assert_close(mine.grad, other.grad, name)
    assert all(torch.equal(value, dict(twin.named_buffers())[name]) for name, value in model.named_buffers())


def test_autograd_reference_differs_when_the_plan_is_wrong() -> None:
    """The comparison itself notices a wrong adjoint."""
    model, x = block()
    _, updates, _, g = by_plan(model, x, backward=Pass())
    _, grads, _ = by_autograd(model, x, g)
    grad = grads["stem.weight"]
    assert grad is not None and not torch.allclose(updates["stem.weight"], grad)


def test_a_signal_repeated_over_positions_may_be_overwritten_downstream() -> None:
    """Direct feedback by channels broadcasts; what a layer below normalises in place must be a tensor of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    rule = credit.rule("dfa", model, dfa_map="channels", normalizer="rms")
    rule.step(torch.randn(2, 3, 8, 8), torch.tensor([0, 2]))
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


class Pooled(nn.Module):
    """A max pool after an activation, a batch norm, and dropout below the first trainable layer."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.conv, self.norm = nn.Dropout(0.2), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.act, self.pool, self.fc = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.act(self.norm(self.conv(self.drop(x))))).flatten(1))
        return out


@pytest.mark.parametrize(
    "changes",
    [
        {"to_input": True},
        {"frozen_norms": True},
        {"pool_first": True},
        {"repeatable": True},
        {"cuts": Cuts(("act",), inside=True, received=("act",))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_adapting_makes_another_plan_and_leaves_the_first(changes: dict[str, Any]) -> None:
    """Each capability changes what a plan does, and what the plan that it came from does stays bit for bit."""
    torch.manual_seed(0)
    model, x = Pooled().double(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    signal = torch.randn(4, 3, dtype=torch.float64)

    def done(plan: Plan) -> tuple[Any, ...]:
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        run = plan.run(dict(model.named_parameters()), buffers, draws(x))
        with torch.no_grad():
            out = plan.forward(run, x)
            kept = {op.name for op, saved in zip(plan.ops, run.saved, strict=True) if saved is not None}
            updates = plan.backward(run, signal.clone(), BackwardPass())
        order = [(op.name, op.index, op.wants, op.exclusive, op.overwrite, str(op.args)) for op in plan.ops]
        return order, kept, run.entry is None, out.tolist(), {name: value.tolist() for name, value in updates.items()}

    plan = Plan(model)
    before = done(plan)
    other = plan.adapted(**changes)
    changed = done(other)
    assert changed != before and done(plan) == before
    assert done(Plan(model, other.capabilities)) == changed


def test_local_autograd_traces_anew() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Softshrink(), nn.Linear(2, 2))
    plan = Plan(model, Capabilities(local_autograd=True))
    assert plan.adapted(to_input=True).localised == plan.localised == ["1 (Softshrink)"]
    with pytest.raises(UserError, match="no rule has a row"):
        plan.adapted(local_autograd=False)
