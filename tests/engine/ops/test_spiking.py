"""Whole spiking networks: the plan against autograd, its other ways of running, and what it refuses."""

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.draws import Draws
from credit.engine.ops.spiking import Lif
from credit.engine.plan import Plan
from credit.models import build
from credit.models.spiking.networks import LIF, SpikeCount
from credit.rules.backward.gates import Derivative
from tests.support.harness import assert_equal

RESETS: list[Any] = [*itertools.product(("subtract", "zero"), (True, False)), ("none", True)]
SHAPES = {"spiking_lenet": (2, 16, 17), "spiking_mlp": (7,)}


def network(arch: str, reset: str = "subtract", delay: bool = True, seed: int = 1, **options: Any) -> nn.Module:
    """Return a small network of a kind, its weights large enough that most units fire."""
    own = {"widths": [6, 5]} if arch == "spiking_mlp" else {}
    spec = {"kind": arch, "steps": 5, "beta": 0.8, "surrogate_slope": 3.0, "reset": reset, "reset_delay": delay}
    model = build(spec | own | options, SHAPES[arch], 4, seed=seed).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def batch(arch: str, size: int = 3) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(7)
    return torch.randn(size, *SHAPES[arch], dtype=torch.float64, generator=source), torch.arange(size) % 4


@pytest.mark.parametrize(("reset", "delay"), RESETS)
@pytest.mark.parametrize("arch", SHAPES)
def test_networks_equal_autograd_through_time(arch: str, reset: str, delay: bool) -> None:
    model, (x, _) = network(arch, reset, delay), batch(arch)
    assert 0.2 < float(model(x).detach().mean()) < 4.8
    assert_equal(model, x)


class Shared(nn.Module):
    """Two kinds of units read the same currents, so that neither may write over them; frozen layers below; values added in
    time and after the count."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.first = LIF(4, 0.9, 0.3, constant=True, surrogate_slope=2)
        self.one = LIF(4, 0.5, 0.2, "zero", surrogate_slope=2)
        self.two = LIF(4, 0.7, 0.1, reset_delay=False, surrogate_slope=2)
        self.count = SpikeCount(4)
        self.fc1.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc2(self.first(self.fc1(x)))
        spikes = self.one(h) + self.two(h)
        out: Tensor = self.fc3(self.count(spikes)) + x[:, :3]
        return out


def test_currents_that_are_read_twice() -> None:
    torch.manual_seed(0)
    model = Shared().double()
    assert_equal(model, torch.randn(5, 4, dtype=torch.float64))


@pytest.mark.parametrize(("reset", "delay"), RESETS)
@pytest.mark.parametrize("arch", SHAPES)
def test_evaluation_is_the_plans_forward_to_the_bit(arch: str, reset: str, delay: bool) -> None:
    model, (x, y) = network(arch, reset, delay, steps=7).float(), batch(arch)
    step = credit.rule("bp", model).step(x.float(), y)
    model.eval()
    with torch.inference_mode():
        assert torch.equal(model(x.float()), step.logits)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
@pytest.mark.parametrize(
    ("reset", "delay"),
    [pytest.param(*way, marks=[pytest.mark.slow] if way not in RESETS[::4] else []) for way in RESETS],
)
def test_compiled_is_eager(reset: str, delay: bool) -> None:
    model, (x, y) = network("spiking_lenet", reset, delay), batch("spiking_lenet")
    twin = copy.deepcopy(model)
    eager = credit.rule("bp", model, precision="float64").step(x, y)
    compiled = credit.rule("bp", twin, precision="float64", compile="eager").step(x, y)
    assert torch.equal(eager.logits, compiled.logits)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("reset", "delay", "surrogate", "name", "options"),
    [
        ("subtract", True, "fast_sigmoid", "bp", {}),
        ("subtract", False, "sigmoid", "bp", {}),
        ("zero", True, "atan", "bp", {"loss": "ce_rate"}),
        ("zero", False, "straight_through", "bp", {}),
        ("none", True, "atan", "lfp_epsilon", {}),
    ],
)
def test_mapped_over_seeds_is_one_step_a_seed(
    reset: str, delay: bool, surrogate: str, name: str, options: dict[str, Any]
) -> None:
    x, y = batch("spiking_lenet")
    own = {"surrogate": surrogate, "surrogate_slope": None}
    models = [network("spiking_lenet", reset, delay, seed, **own) for seed in (1, 2)]
    rules = [credit.rule(name, model, precision="float64", clip_unit=None, **options) for model in models]
    parts = [rule.functional(x, y) for rule in rules]

    def stack(at: int) -> dict[str, Tensor]:
        return {name: torch.stack([args[at][name] for _, args in parts]) for name in parts[0][1][at]}

    step = torch.func.vmap(parts[0][0], in_dims=(0, 0, None, None, 0))
    logits, _, updates, *_ = step(stack(0), stack(1), x, y, stack(4))
    for at, (rule, model) in enumerate(zip(rules, models, strict=True)):
        assert torch.equal(rule.step(x, y).logits, logits[at])
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(updates[key][at], parameter.grad, rtol=1e-9, atol=1e-12)


def test_bfloat16_keeps_membranes_in_float32() -> None:
    model, (x, y) = network("spiking_mlp").float(), batch("spiking_mlp", 40)
    twin = copy.deepcopy(model)
    exact = credit.rule("bp", model).step(x.float(), y)
    rough = credit.rule("bp", twin, precision="bf16").step(x.float(), y)
    assert float((exact.logits != rough.logits).double().mean()) < 0.2
    left, right = (torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, twin))
    assert float(torch.cosine_similarity(left, right, dim=0)) > 0.95


def test_backprop_learns_digits() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images).float() / 8 - 1, torch.tensor(labels)
    model = build({"kind": "spiking_mlp", "widths": [64], "steps": 8}, (64,), 10, seed=0)
    rule, optimizer = credit.rule("bp", model), torch.optim.Adam(model.parameters(), lr=3e-3)
    source = torch.Generator().manual_seed(0)
    for _ in range(150):
        at = torch.randint(1400, (64,), generator=source)
        rule.step(x[at], y[at])
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert float((model(x[1400:]).argmax(1) == y[1400:]).double().mean()) > 0.8


# ---------------------------------------------------------------- refusals

FC = [nn.Linear(4, 4), nn.Linear(4, 4)]


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.units, self.count = nn.Linear(4, 4), LIF(3, 0.9, constant=True), SpikeCount(3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        out: Tensor = self.count(self.units(h) + h)
        return out


def first(steps: int = 3) -> LIF:
    return LIF(steps, 0.9, constant=True)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(FC[0], first()), ("ends with 3 time steps", "lif '1'", "End with SpikeCount(3)")),
        (nn.Sequential(FC[0], first(), FC[1]), ("ends with 3 time steps", "lif '1'", "End with SpikeCount(3)")),
        (nn.Sequential(FC[0], SpikeCount(4)), ("spike_count '1'", "no LIF below it", "LIF(4, beta, constant=True)")),
        (nn.Sequential(FC[0], LIF(3, 0.9), SpikeCount(3)), ("lif '1' in Sequential", "once an image", "constant=True")),
        (
            nn.Sequential(FC[0], first(), FC[1], LIF(4, 0.9), SpikeCount(4)),
            ("lif '3' in Sequential runs over 4", "lif '1' below it over 3", "same steps"),
        ),
        (
            nn.Sequential(FC[0], first(), FC[1], first(), SpikeCount(3)),
            ("lif '3'", "constant=True", "3 time steps already, those of lif '1'", "constant=False"),
        ),
        (
            nn.Sequential(FC[0], first(), SpikeCount(2)),
            ("spike_count '2' in Sequential counts over 2", "lif '1' runs over 3", "SpikeCount(3)"),
        ),
        (nn.Sequential(FC[0], first(), SpikeCount(3), FC[1], SpikeCount(3)), ("spike_count '4'", "no LIF below it")),
        (Joined(), ("add 'add' in Joined", "lif 'units'", "after SpikeCount")),
    ],
)
def test_time_that_does_not_fit_is_refused_before_the_first_step(model: nn.Module, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        Plan(model)
    assert all(word in str(caught.value) for word in words), caught.value


def test_images_laid_out_over_time_by_hand_are_taken() -> None:
    class Encoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.units, self.count = nn.Linear(4, 4), LIF(3, 0.9, 0.2, surrogate_slope=2), SpikeCount(3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.count(self.units(self.fc(torch.cat([x, 2 * x, 3 * x]))))
            return out

    torch.manual_seed(0)
    assert_equal(Encoded().double(), torch.randn(5, 4, dtype=torch.float64))


def test_two_spiking_parts_in_a_row_are_taken() -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(4, 5), LIF(3, 0.9, 0.2, constant=True, surrogate_slope=2), SpikeCount(3)]
    parts += [
        nn.Linear(5, 6),
        nn.Tanh(),
        LIF(4, 0.7, 0.1, constant=True, surrogate_slope=2),
        SpikeCount(4),
        nn.Linear(6, 2),
    ]
    assert_equal(nn.Sequential(*parts).double(), torch.randn(5, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "lisp_ce",
            {},
            ("rule.gate=responsive", "lif 'lif1' in Sequential", "Write rule.gate=derivative, or use an LFP"),
        ),
        ("untied_constant", {}, ("rule.gate=untied_constant", "membrane's past")),
        (
            "dfa",
            {},
            (
                "rule.feedback_weights=direct",
                "5 rows an image",
                "Write rule.feedback_weights=transpose",
            ),
        ),
        ("bp", {"normalizer": "rms"}, ("rule.normalizer=rms", "lif 'lif1'", "rule.normalizer=none", "LFP rule")),
        (
            "bp",
            {"normalizer": "max_abs"},
            ("rule.normalizer=max_abs", "lif 'lif1'", "rule.normalizer=none", "LFP rule"),
        ),
        ("bp", {"sparse": True}, ("rule.sparse=true", "a row for every time step", "rule.sparse=auto")),
    ],
)
def test_rules_without_a_meaning_over_time_are_refused(name: str, options: dict[str, Any], words: Any) -> None:
    with pytest.raises(UserError) as caught:
        credit.rule(name, network("spiking_mlp"), precision="float64", **options)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.usefixtures("registry_as_it_was")
def test_a_gate_of_ones_own_over_time_is_refused_unless_it_declares_otherwise() -> None:
    class Leaky(Derivative):
        def __call__(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return super().__call__(op, run, signal)

    class Declared(Leaky):
        traits = credit.Traits()

    credit.register("gate", "leaky")(Leaky)
    credit.register("gate", "declared")(Declared)
    with pytest.raises(UserError, match="rule.gate=leaky multiplies an error signal at an activation, but lif 'lif1'"):
        credit.rule("bp", network("spiking_mlp"), precision="float64", gate="leaky")
    credit.rule("bp", network("spiking_mlp"), precision="float64", gate="declared")


@pytest.mark.parametrize("surrogate", ["sigmoid", "atan", "straight_through"])
def test_other_surrogates_equal_autograd_through_time(surrogate: str) -> None:
    model, (x, _) = network("spiking_lenet", surrogate=surrogate, surrogate_slope=None), batch("spiking_lenet")
    assert_equal(model, x)


@pytest.mark.parametrize("arch", SHAPES)
def test_the_cross_entropy_of_each_step_is_snntorchs(arch: str) -> None:
    losses = pytest.importorskip("snntorch.functional", reason="snntorch is not installed (it is in the extra 'dev')")
    model, (x, y) = network(arch), batch(arch)
    assert isinstance(model, nn.Sequential)
    twin = copy.deepcopy(model)
    spikes = twin[:-1](x).unflatten(0, (5, -1))
    wanted = losses.ce_rate_loss()(spikes, y)
    wanted.backward()
    rule = credit.rule("bp", model, loss="ce_rate", precision="float64")
    computed = rule.updates(x, y)
    step = rule.step(x, y)
    torch.testing.assert_close(step.loss, wanted.detach().squeeze(), rtol=1e-6, atol=0, check_dtype=False)
    by_step = torch.stack([F.cross_entropy(one, y) for one in spikes.detach()]).mean()
    torch.testing.assert_close(step.loss, by_step, rtol=1e-12, atol=0)
    sizes = (torch.softmax(spikes.detach(), 2) - F.one_hot(y, 4)).square().sum((0, 2)).sqrt() / 5
    torch.testing.assert_close(computed.sizes, sizes, rtol=1e-12, atol=0)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and p.grad.any()
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-9)
    other = copy.deepcopy(twin)
    credit.rule("bp", other, loss="ce", precision="float64").step(x, y)
    assert all(not torch.allclose(p.grad, q.grad) for p, q in zip(model.parameters(), other.parameters(), strict=True)
               if p.grad is not None and q.grad is not None)  # fmt: skip


def test_the_cross_entropy_of_each_step_needs_steps() -> None:
    plain = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    behind = nn.Sequential(nn.Linear(4, 5), LIF(3, 0.9, constant=True), SpikeCount(3), nn.Linear(5, 3))
    for model in (plain, behind):
        with pytest.raises(
            UserError,
            match="scores the output at each time step, but there is no sum over time steps at the output of Sequential",
        ):
            credit.rule("bp", model, loss="ce_rate")


@pytest.mark.parametrize("name", ["fa", "usf", "frsf", "brsf", "bp_hinge"])
def test_other_transports_and_signals_step(name: str) -> None:
    model, (x, y) = network("spiking_lenet"), batch("spiking_lenet")
    rule = credit.rule(name, model, precision="float64")
    rule.watch = True
    step = rule.step(x, y)
    assert bool(step.loss.isfinite()) and {"conv2", "head"} <= set(step.signals)
    assert all(p.grad is not None and bool(p.grad.any()) and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(("reset", "delay"), RESETS)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_feedback_is_attributed_from_the_last_step_to_the_first(reset: Any, delay: bool, overwrite: bool) -> None:
    """Against the formula on what ``history`` tells, which the traces' tests hold against numbers."""
    plan = Plan(network("spiking_mlp", reset, delay))
    run = plan.run(dict(plan.model.named_parameters()), {}, Draws(0, 0, torch.device("cpu")))
    run.overwrite = overwrite
    x, _ = batch("spiking_mlp")
    with torch.no_grad():
        plan.forward(run, x)
        op = next(op for op in plan.ops if op.name == "lif2")
        assert isinstance(op, Lif)
        drive, carried = op.history(run)
        r = torch.randn(drive.shape, dtype=drive.dtype, generator=torch.Generator().manual_seed(1))
        wanted = torch.zeros_like(drive)
        for t in reversed(range(len(drive))):
            past = carried[t + 1] * wanted[t + 1] if t + 1 < len(drive) else 0
            wanted[t] = (r[t] + past).tanh() / (drive[t].abs() + carried[t].abs() + t + 1)
        q = op.attribute(run, r.flatten(0, 1), torch.tanh, lambda t, d, c: d.abs() + c.abs() + t + 1)
    torch.testing.assert_close(q, wanted, rtol=1e-12, atol=1e-12)
