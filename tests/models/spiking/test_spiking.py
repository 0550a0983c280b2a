"""LIF units over time: against a plain loop over numbers, and against snnTorch's ``Leaky``."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.draws import Draws
from credit.engine.ops.spiking import Lif
from credit.engine.ops.surrogates import divisor
from credit.engine.plan import Plan
from credit.models.spiking.networks import LIF, SpikeCount

STEPS, BATCH, UNITS = 9, 3, 5
WRONG: Any = LIF
"""`LIF` for arguments that its types would not let pass."""
OPTIONS: list[Any] = [
    *itertools.product(("subtract", "zero"), (True, False), (0.3, 0.9, 1.0), (0.5, 1.0)),
    *itertools.product(("none",), (True,), (0.3, 0.9), (0.5, 1.0)),
]
SURROGATES = {"fast_sigmoid": "fast_sigmoid", "sigmoid": "sigmoid", "atan": "atan",
              "straight_through": "straight_through_estimator"}  # fmt: skip


def currents(seed: int = 0) -> Tensor:
    """Return currents (T, B, units) that make most units fire at some steps, often several in a row."""
    return torch.randn(STEPS, BATCH, UNITS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.6


def numbers(given: Tensor, reset: str, delay: bool, beta: float, theta: float) -> dict[str, Tensor]:
    """The recursion of the docstring, one number at a time: V, S, U, and what the past leaves and what drives a unit."""
    names = ("v", "s", "u", "carried", "drive")
    told = {name: torch.zeros_like(given) for name in names}
    for b, n in itertools.product(range(given.shape[1]), range(given.shape[2])):
        u = 0.0
        for t in range(given.shape[0]):
            r = 1.0 if u > theta else 0.0
            carried = beta * (1 - r) * u if reset == "zero" else beta * u
            drive = carried + float(given[t, b, n])
            v = drive - (theta * r if reset == "subtract" else 0.0)
            s = 1.0 if v > theta else 0.0
            if delay:
                u = v
            elif reset == "zero":
                u = v * (1 - (s - r))
            else:
                u = v - theta * (s - r)
            for name, value in zip(names, (v, s, u, carried, drive), strict=True):
                told[name][t, b, n] = value
    return told


class Own(nn.Module):
    """A weight for a plan to train, and with ``constant`` false units that begin the time of those behind it."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.scale = nn.Linear(UNITS, UNITS).double()
        self.first = nn.Identity() if constant else LIF(STEPS, 1.0, constant=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.first(self.scale(x))
        return out


class Counted(nn.Module):
    """Units behind a weight of 1, so that a plan has something to train, and their count."""

    def __init__(self, units: LIF) -> None:
        super().__init__()
        self.first = LIF(STEPS, 1.0, constant=True)
        self.scale = nn.Linear(UNITS, UNITS, bias=False).double()
        with torch.no_grad():
            self.scale.weight.copy_(torch.eye(UNITS))
        self.units, self.count = units, SpikeCount(STEPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.count(self.units(self.scale(self.first(x))))
        return out


def by_engine(units: LIF, given: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (V, S, drive, carried) of the engine's op, given currents (T, B, units)."""
    plan = Plan(Counted(units))
    op = next(op for op in plan.ops if op.name == "units")
    assert isinstance(op, Lif)
    run = plan.run({}, {}, Draws(0, 0, given.device))
    op.forward(run, given.flatten(0, 1).clone())
    return run.saved[op.index].clone(), op.spikes(run), *op.history(run)


@pytest.mark.parametrize(("reset", "delay", "beta", "theta"), OPTIONS)
def test_module_and_op_follow_the_recursion(reset: Any, delay: bool, beta: float, theta: float) -> None:
    given = currents()
    wanted = numbers(given, reset, delay, beta, theta)
    units = LIF(STEPS, beta, theta, reset, delay)
    spikes, potentials = units(given.flatten(0, 1)), units.potentials(given.flatten(0, 1))
    assert 0.1 < float(spikes.mean()) < 0.9
    assert torch.equal(spikes, wanted["s"].flatten(0, 1))
    torch.testing.assert_close(potentials, wanted["v"], rtol=0, atol=1e-12)
    v, s, drive, carried = by_engine(units, given)
    assert torch.equal(v, potentials) and torch.equal(s, wanted["s"])
    torch.testing.assert_close(carried, wanted["carried"], rtol=0, atol=1e-12)
    torch.testing.assert_close(drive, wanted["drive"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("reset", "delay", "beta", "theta"), OPTIONS)
def test_traces_are_those_of_snntorch(reset: Any, delay: bool, beta: float, theta: float) -> None:
    snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed (it is in the extra 'dev')")
    given = currents(1)
    double = (torch.tensor(value, dtype=torch.float64) for value in (beta, theta))
    leaky = snntorch.Leaky(*double, reset_mechanism=reset, reset_delay=delay)
    u, spikes, left = torch.zeros_like(given[0]), [], []
    for now in given:
        spike, u = leaky(now, u)
        spikes.append(spike.double())
        left.append(u)
    units = LIF(STEPS, beta, theta, reset, delay)
    assert torch.equal(units(given.flatten(0, 1)), torch.cat(spikes))
    if delay:
        torch.testing.assert_close(units.potentials(given.flatten(0, 1)), torch.stack(left), rtol=0, atol=1e-12)
    _, s, _, carried = by_engine(units, given)
    assert torch.equal(s, torch.stack(spikes))
    # What a step leaves to the next; a delayed reset to zero comes only there.
    after = torch.stack(left) * (1 - s if reset == "zero" else 1)
    torch.testing.assert_close(carried[1:], beta * after[:-1], rtol=0, atol=1e-12)
    assert not carried[0].any()


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("slope", [None, 4.0])
def test_surrogates_are_those_of_snntorch(surrogate: Any, slope: float | None) -> None:
    """At its own slope and at another; far from the threshold snnTorch's sigmoid has no numbers any more, and ours is 0."""
    if surrogate == "straight_through" and slope is not None:
        return  # refused
    snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed (it is in the extra 'dev')")
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    given = [] if slope is None else [slope]
    getattr(snntorch.surrogate, SURROGATES[surrogate])(*given)(x).sum().backward()
    unit = LIF(1, 1.0, surrogate=surrogate, surrogate_slope=slope)
    inverse = divisor(surrogate, x.detach().clone(), unit.surrogate_slope)
    assert x.grad is not None
    torch.testing.assert_close(1 / inverse, x.grad, rtol=1e-6, atol=1e-12)
    far = divisor(surrogate, torch.tensor([-1e3, 1e3]), unit.surrogate_slope)
    assert bool((1 / far).isfinite().all())


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_engine_sends_back_what_autograd_does(surrogate: Any) -> None:
    """In place, mapped and with the same current at every step alike."""
    resets: list[Any] = ["subtract", "zero", "none"]
    for reset, constant in itertools.product(resets, (True, False)):
        units = LIF(STEPS, 0.8, 0.5, reset, constant=constant, surrogate=surrogate)
        x = (currents(3)[0] if constant else currents(3).flatten(0, 1)).requires_grad_()
        sent = torch.randn(STEPS * BATCH, UNITS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        units(x).backward(sent)
        plan = Plan(nn.Sequential(Own(constant), units, SpikeCount(STEPS)))
        op = next(op for op in plan.ops if isinstance(op, Lif) and op.name == "1")
        for overwrite in (True, False):
            run = plan.run({}, {}, Draws(0, 0, x.device))
            run.overwrite = overwrite
            op.forward(run, x.detach().clone())
            (found,) = op.adjoint(run, sent.clone())
            assert found is not None and x.grad is not None
            torch.testing.assert_close(found, x.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_are_those_of_snntorch(reset: Any, constant: bool) -> None:
    snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed (it is in the extra 'dev')")
    losses = pytest.importorskip("snntorch.functional")
    given = currents(2)[0] if constant else currents(2)
    labels = torch.tensor([0, 3, 4])
    grads = []
    for theirs in (True, False):
        x = given.clone().requires_grad_()
        if theirs:
            surrogate = snntorch.surrogate.fast_sigmoid(slope=4)
            double = (torch.tensor(value, dtype=torch.float64) for value in (0.8, 0.5))
            leaky = snntorch.Leaky(*double, reset_mechanism=reset, spike_grad=surrogate)
            u, spikes = torch.zeros_like(x if constant else x[0]), []
            for t in range(STEPS):
                spike, u = leaky(x if constant else x[t], u)
                spikes.append(spike.double())
            loss = losses.ce_count_loss()(torch.stack(spikes), labels)
        else:
            units = LIF(STEPS, 0.8, 0.5, reset, constant=constant, surrogate_slope=4)
            counts = SpikeCount(STEPS)(units(x if constant else x.flatten(0, 1)))
            loss = F.cross_entropy(counts, labels)
        loss.backward()
        assert x.grad is not None
        grads.append(x.grad)
    assert float(grads[0].abs().max()) > 0.01
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-6, atol=1e-8)  # snnTorch's spikes are float32


def test_a_spike_needs_more_than_the_threshold() -> None:
    units = LIF(3, 0.5, 1.0, constant=True)
    assert units(torch.tensor([[1.0], [1.001]])).view(3, 2).tolist() == [[0, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LIF(0, 0.9), ("steps=0 is outside [1, inf)",)),
        (lambda: WRONG(2.5, 0.9), ("steps=2.5 of LIF", "must be a whole number")),
        (lambda: LIF(5, 0.0), ("beta=0 is outside (0, 1]",)),
        (lambda: LIF(5, 1.5), ("beta=1.5", "(0, 1]")),
        (lambda: LIF(5, float("nan")), ("beta=nan", "(0, 1]")),
        (lambda: LIF(5, 0.9, threshold=-1), ("threshold=-1 is outside (0, inf)",)),
        (lambda: WRONG(5, 0.9, reset="hard"), ("reset=hard", "none, subtract, zero")),
        (
            lambda: LIF(5, 0.9, reset="none", reset_delay=False),
            ("reset_delay=false would change nothing", "reset=none"),
        ),
        (
            lambda: LIF(5, 0.9, surrogate="straight_through", surrogate_slope=1),
            ("surrogate_slope=1 would change nothing",),
        ),
        (lambda: SpikeCount(-2), ("steps=-2 is outside [1, inf)",)),
        (lambda: LIF(5, 0.9)(torch.zeros(7, 2)), ("LIF of 5 steps", "7 rows", "constant=True")),
        (lambda: SpikeCount(5)(torch.zeros(7, 2)), ("SpikeCount of 5 steps", "7 rows", "time-major")),
    ],
)
def test_bad_options_and_rows_are_refused(make: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value
