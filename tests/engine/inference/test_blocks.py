"""Plans cut at activations: what is a bottleneck, which parts are independent, and that each sweep is its block's own backprop."""

import pytest
import torch
from torch import Tensor, nn

from credit.engine.backward import BackwardPass
from credit.engine.draws import Draws
from credit.engine.inference.blocks import Blocks, bottlenecks, hidden, learning
from credit.engine.plan import Cuts, Plan
from credit.models import build
from credit.rules.targets.synapses import make


class Shortcut(nn.Module):
    """Two blocks, the first with a sum over an inner activation, and a pool between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a0 = nn.Conv2d(2, 4, 3, padding=1), nn.Tanh()
        self.conv1, self.a1 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.a2 = nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()
        self.pool, self.fc, self.a3 = nn.AvgPool2d(2), nn.Linear(36, 7), nn.Tanh()
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a0(self.stem(x))
        z = self.a2(self.conv2(self.a1(self.conv1(z))) + z)
        return self.head(self.a3(self.fc(self.pool(z).flatten(1))))


def _plan() -> tuple[Shortcut, Plan]:
    torch.manual_seed(0)
    model = Shortcut().double()
    return model, Plan(model)


def test_bottlenecks_lie_between_blocks() -> None:
    _, plan = _plan()
    assert [op.name for op in hidden(plan)] == ["a0", "a1", "a2", "a3"]
    assert [op.name for op in bottlenecks(plan)] == ["a0", "a2", "a3"]
    mlp = Plan(build({"kind": "mlp", "widths": [5, 5, 5, 5], "residual_gap": 2}, (5,), 3, seed=0))
    assert [op.name for op in bottlenecks(mlp)] == ["act2", "act4"]


def test_an_activation_with_nothing_to_learn_under_it_is_no_node() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    plan = Plan(model)
    assert [op.name for op in learning(plan, hidden(plan))] == ["1", "4"]


def test_parts_hold_what_signals_connect() -> None:
    _, plan = _plan()
    chosen = bottlenecks(plan)
    parts = Blocks(plan, chosen, BackwardPass(), inside=True).parts
    assert [{op.name for op, _ in part.portion if op.params} for part in parts] == [
        {"head"}, {"fc"}, {"conv2", "conv1"}, {"stem"},
    ]  # fmt: skip
    whole = Blocks(plan, [], BackwardPass(), inside=True).parts
    assert len(whole) == 1


def test_a_parameter_used_twice_ties_its_parts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.a, self.b, self.head = nn.Linear(3, 3), nn.Tanh(), nn.Tanh(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(self.fc(self.a(self.fc(x)))))

    plan = Plan(Twice())
    parts = Blocks(plan, hidden(plan), BackwardPass(), inside=False).parts
    assert [len(part.starts) for part in parts] == [1, 2]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("inside", [True, False])
def test_each_part_gets_its_own_gradient(inside: bool, workers: int) -> None:
    """Signals at the nodes, swept at once or on two threads: autograd of each block with what is below it held fixed."""
    model, plan = _plan()
    blocks = Blocks(plan, bottlenecks(plan), BackwardPass(), inside=inside)
    params = dict(model.named_parameters())
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        run = blocks.plan.run({name: p.detach() for name, p in params.items()}, {}, Draws(0, 0, x.device))
        blocks.plan.forward(run, x)
    shapes = {"a0": (4, 4, 6, 6), "a2": (4, 4, 6, 6), "a3": (4, 7), "out": (4, 3)}
    signals = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    starts = {blocks.start(op): signals[op.name].clone() for op in blocks.ops} | {plan.exit: signals["out"].clone()}
    with torch.no_grad():
        found = blocks.backward(run, starts, BackwardPass(), workers=workers)
    assert not starts or workers > 1

    m = model
    h0 = m.stem(x)
    z0 = torch.tanh(h0).detach()
    h2 = m.conv2(torch.relu(m.conv1(z0))) + z0
    z2 = torch.tanh(h2).detach()
    h3 = m.fc(m.pool(z2).flatten(1))
    out = m.head(torch.tanh(h3).detach())
    ends = {name: torch.tanh(h) if inside else h for name, h in (("a0", h0), ("a2", h2), ("a3", h3))} | {"out": out}
    total = sum((ends[name] * signals[name]).sum() for name in ends)
    assert isinstance(total, Tensor)
    expected = dict(zip(params, torch.autograd.grad(total, list(params.values())), strict=True))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_a_node_hears_what_arrives_from_above() -> None:
    model, plan = _plan()
    nodes = bottlenecks(plan)
    blocks = Blocks(plan, nodes, BackwardPass(), inside=True, received=nodes[-1:])
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    signal = torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        run = blocks.plan.run({name: p.detach() for name, p in model.named_parameters()}, {}, Draws(0, 0, x.device))
        blocks.plan.forward(run, x)
        updates = blocks.plan.backward_from(run, {plan.exit: signal.clone()}, BackwardPass(), blocks.parts[0].portion)
    assert set(updates) == {"head.weight", "head.bias"}
    torch.testing.assert_close(run.arrived[nodes[-1].out], signal @ model.head.weight)


def test_cutting_makes_another_plan_and_leaves_the_first() -> None:
    _, plan = _plan()
    before, wants = [op.name for op in plan.back], [op.wants for op in plan.ops]
    blocks = Blocks(plan, bottlenecks(plan), BackwardPass(), inside=False)
    assert [op.name for op in blocks.plan.back] != before
    assert [op.name for op in plan.back] == before and [op.wants for op in plan.ops] == wants
    assert [op.name for op in blocks.plan.adapted(cuts=Cuts()).back] == before


@pytest.mark.parametrize(
    ("target", "source"), [((3, 24, 24), (2, 8, 8)), ((3, 9, 7), (2, 3, 4)), ((2, 4, 4), (5, 1, 1))]
)
def test_convolutional_synapses_reach_every_position(target: tuple[int, ...], source: tuple[int, ...]) -> None:
    synapse = make("auto", target, source, "error.a.b", "rec_lra")
    sent = synapse.carry(torch.ones(synapse.shape), torch.ones(1, *source))
    assert sent.shape == (1, *target) and bool((sent > 0).all())
