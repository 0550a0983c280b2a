"""LFP through time against its recursion written out step by step, from paper 2's Eq. A.15 and A.16 and section 3.1."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.models.spiking.networks import LIF, SpikeCount
from tests.support.architectures import mlp

STEPS = 7


def _net(reset: Any, delay: bool, beta: float) -> nn.Sequential:
    def lif(constant: bool = False) -> LIF:
        return LIF(STEPS, beta, threshold=0.6, reset=reset, reset_delay=delay, constant=constant)

    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), lif(True), nn.Conv2d(3, 5, 3), nn.MaxPool2d(2), lif(),
        nn.Flatten(), nn.Linear(20, 4), lif(), SpikeCount(STEPS),
    ).double()  # fmt: skip


class Layer:
    """One layer of weights, its pool and its spiking units, step by step."""

    def __init__(self, weighted: Any, pool: bool, unit: Any) -> None:
        self.w, self.pool, self.unit = weighted, pool, unit
        self.update = {name: torch.zeros_like(p) for name, p in weighted.named_parameters()}

    def _map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.w, nn.Linear):
            return F.linear(x.flatten(1), weight, bias)
        return F.conv2d(x, weight, bias)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Remember every step's input, winners, membrane before the reset, and what the past brought to it."""
        theta, beta = self.unit.threshold, self.unit.beta
        self.inputs, self.drive, self.carried, self.winners, spikes = inputs, [], [], [], []
        left: Tensor | None = None
        taken: Tensor | None = None
        for x in inputs:
            z = self._map(x, self.w.weight, self.w.bias)
            z, at = F.max_pool2d(z, 2, return_indices=True) if self.pool else (z, None)
            self.winners.append(at)
            carried = torch.zeros_like(z) if left is None or taken is None else beta * left
            if self.unit.reset == "zero" and taken is not None:
                carried = carried * (1 - taken)
            drive = carried + z
            v = drive - theta * taken if taken is not None and self.unit.reset == "subtract" else drive
            spike = (v > theta).double()
            self.drive.append(drive)
            self.carried.append(carried)
            spikes.append(spike)
            if self.unit.reset_delay:
                left, taken = v, spike
            elif self.unit.reset == "zero":
                left, taken = v * (1 - spike), torch.zeros_like(spike)
            else:
                left = v - theta * (spike - (0 if taken is None else taken))
                taken = (left > theta).double()
        return spikes

    def backward(self, feedback: list[Tensor], relevance: str, peak: bool) -> list[Tensor]:
        """Share every step's feedback, from the last step to the first; return that of the inputs.

        ``peak``: what a step gets, its future's share included, is divided by its largest absolute value in the batch.
        """
        past: Tensor | float = 0.0
        sent = []
        for t in reversed(range(STEPS)):
            x, at = self.inputs[t], self.winners[t]
            weight, bias = self.w.weight.detach(), self.w.bias.detach()
            if relevance == "epsilon":
                over = self.drive[t].abs() + 1e-6
            else:
                size = self._map(x.abs(), weight.abs(), bias.abs())
                if at is not None:
                    size = size.flatten(2).gather(2, at.flatten(2)).view(at.shape)
                over = size + self.carried[t].abs()
            total = feedback[t].view(over.shape) + past
            top = total.abs().max() if peak else 1.0
            q = (total / top if top > 0 else total) / over
            past = self.carried[t] * q
            if at is not None:
                shape = self._map(x, weight, bias).shape[-2:]
                q = F.max_unpool2d(q, at, [2, 2], output_size=list(shape))
            with torch.enable_grad():
                leaves = [v.clone().requires_grad_() for v in (x, weight, bias)]
                given, w, b = torch.autograd.grad(self._map(*leaves), leaves, q)
            self.update["weight"] += weight.abs() * w
            self.update["bias"] += bias.abs() * b
            sent.append(x * given)
        return sent[::-1]


def _twin(net: nn.Sequential, x: Tensor, y: Tensor, relevance: str, peak: bool) -> tuple[dict[str, Tensor], Tensor]:
    layers = [Layer(net[0], True, net[2]), Layer(net[3], True, net[5]), Layer(net[7], False, net[8])]
    values = [x] * STEPS
    for layer in layers:
        values = layer.forward(values)
    out = torch.stack(values)
    fired, silent = out.sum(0), (out - 1).abs().sum(0)
    true = F.one_hot(y, 4).bool()
    feedback = [
        torch.where(true, 1 - torch.sigmoid(fired - STEPS // 2), -o * (1 - torch.sigmoid(silent - STEPS // 2)))
        for o in out
    ]
    for layer in reversed(layers):
        feedback = layer.backward(feedback, relevance, peak)
    named = {
        f"{at}.{name}": value / len(x)
        for at, layer in zip((0, 3, 7), layers, strict=True)
        for name, value in layer.update.items()
    }
    return named, torch.stack(feedback).sum(0)


@pytest.mark.parametrize("relevance", ["epsilon", "zpm"])
@pytest.mark.parametrize(
    ("reset", "delay", "beta"),
    [("subtract", True, 0.9), ("subtract", False, 0.5), ("zero", True, 0.8), ("zero", False, 1.0), ("none", True, 0.7)],
)
@pytest.mark.parametrize("normalizer", ["none", "max_abs"])
def test_equals_the_recursion(relevance: str, reset: Any, delay: bool, beta: float, normalizer: str) -> None:
    torch.manual_seed(3)
    net = _net(reset, delay, beta)
    x, y = 2 * torch.randn(6, 1, 14, 14).double(), torch.arange(6) % 4
    rule = credit.rule(f"lfp_{relevance}", net, precision="float64", normalizer=normalizer, clip_unit=None)
    rule.keep_input_signal = True
    step = rule.step(x, y)
    with torch.no_grad():
        updates, at_input = _twin(net, x, y, relevance, normalizer == "max_abs")
    assert step.logits.any(), "a net that never fires tests nothing"
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert updates[name].any(), name
        torch.testing.assert_close(p.grad, -updates[name], rtol=1e-9, atol=1e-14)
    assert step.input_signal is not None
    torch.testing.assert_close(step.input_signal, at_input, rtol=1e-9, atol=1e-14)


def test_max_abs_divides_each_step_with_its_futures_share() -> None:
    """One unit over two steps, whose numbers are worked out here; the second step's feedback reaches the first."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), LIF(2, 0.9, constant=True), SpikeCount(2)).double()
    (weight,) = net.parameters()
    with torch.no_grad():
        weight.fill_(2.0)
    credit.rule("lfp_epsilon", net, precision="float64", clip_unit=None, epsilon=1e-15).step(
        torch.ones(1, 1).double(), torch.zeros(1, dtype=torch.int64)
    )
    # Drives 2 and 1.8 + 2; the one feedback of each step becomes 1, so that q = 1 / 3.8 and 1 / 2, and the update |w| x (q + q).
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(-2 * (1 / 3.8 + 1 / 2), rel=1e-12)
    assert float(weight.grad) == pytest.approx(-1.526, abs=5e-4)


def test_max_abs_divides_each_step_of_layers_without_units_too() -> None:
    """A layer that reads spikes and feeds no units has no future; each time step has a largest value of its own."""
    torch.manual_seed(0)
    below = nn.Sequential(nn.Linear(5, 6), LIF(STEPS, 0.9, 0.4, constant=True))
    head = nn.Linear(6, 3)
    net = nn.Sequential(*below, head, SpikeCount(STEPS)).double()
    x, y = torch.randn(8, 5).double(), torch.arange(8) % 3
    rule = credit.rule("lfp_epsilon", net, precision="float64", clip_unit=None, feedback="sigmoid", epsilon=1e-12)
    rule.step(x, y)
    spikes = below(x).detach()
    assert len(spikes.unflatten(0, (STEPS, -1)).unique(dim=0)) > 3, "steps that are alike test nothing"
    parts = head(spikes).detach().unflatten(0, (STEPS, -1))
    logits = parts.sum(0)
    r = parts * (F.one_hot(y, 3) - torch.sigmoid(logits))  # o (y - sigmoid(o)), shared by each step's part of o
    q = r / r.abs().amax((1, 2), keepdim=True) / parts
    wanted = head.weight.detach().abs() * (q.flatten(0, 1).T @ spikes) / len(x)
    torch.testing.assert_close(head.weight.grad, -wanted, rtol=1e-9, atol=1e-12)


def test_other_feedback_is_shared_by_the_spikes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 3), LIF(STEPS, 0.9, constant=True), SpikeCount(STEPS)).double()
    x, y = 3 * torch.randn(8, 5).double(), torch.arange(8) % 3
    rule = credit.rule("lfp_0", net, precision="float64", feedback="sigmoid", normalizer="none")
    logits = rule.step(x, y).logits
    assert logits.any()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("after", [False, True])
def test_the_spiking_feedback_is_for_counts_of_spikes(after: bool) -> None:
    """Where a layer without spikes stands before or after the count, it is not chosen, and refused where it is asked for."""
    torch.manual_seed(0)
    last = [SpikeCount(STEPS), nn.Linear(6, 3)] if after else [nn.Linear(6, 3), SpikeCount(STEPS)]
    net = nn.Sequential(nn.Linear(5, 6), LIF(STEPS, 0.9, constant=True), *last).double()
    with pytest.raises(
        UserError, match="but there are no counts of spikes at the output of Sequential. Write rule.feedback=sigmoid"
    ):
        credit.rule("lfp_epsilon", net, feedback="spiking")
    x, y = 3 * torch.randn(8, 5).double(), torch.arange(8) % 3
    rule = credit.rule("lfp_epsilon", net, precision="float64", normalizer="none", clip_unit=None, epsilon=1e-12)
    step = rule.step(x, y)
    # The last layer is an ordinary one under LFP-epsilon: |w| times the gradient of the logits' cross-entropies.
    head: Any = net[3] if after else net[2]
    spikes = net[:2](x).detach()
    logits = head(spikes.unflatten(0, (STEPS, -1)).sum(0)) if after else head(spikes).unflatten(0, (STEPS, -1)).sum(0)
    torch.testing.assert_close(step.logits, logits.detach())
    loss = F.binary_cross_entropy_with_logits(logits, F.one_hot(y, 3).double(), reduction="sum") / len(x)
    (gradient,) = torch.autograd.grad(loss, head.weight)
    torch.testing.assert_close(head.weight.grad, head.weight.detach().abs() * gradient, rtol=1e-6, atol=1e-12)


def test_a_surrogate_that_feedback_does_not_use_is_noted() -> None:
    for surrogate in ("fast_sigmoid", "atan"):
        unit: Any = LIF(STEPS, 0.9, constant=True, surrogate=surrogate)
        rule = credit.rule("lfp_epsilon", nn.Sequential(nn.Linear(5, 3), unit, SpikeCount(STEPS)))
        noted = [note for note in rule.notes if "surrogate derivative atan, which LFP does not use" in note]
        assert len(noted) == (surrogate == "atan")


@pytest.mark.parametrize("relevance", ["alphabeta", "gamma"])
def test_refuses_rules_without_a_form_for_membranes(relevance: str) -> None:
    with pytest.raises(UserError, match=r"feeds spiking neurons .* LFP-epsilon and LFP-z\+z- \(and LFP-0\) only"):
        credit.rule(f"lfp_{relevance}", _net("subtract", True, 0.9))


@pytest.mark.parametrize(
    ("name", "activation", "limited"),
    [
        ("lfp_epsilon", "relu", False),
        ("lfp_epsilon", "step", True),
        ("lfp_0", "sigmoid", True),
        ("lfp_zpm", "step", False),
    ],
)
def test_limits_units_where_feedback_is_divided_by_nearly_nothing(name: str, activation: str, limited: bool) -> None:
    def grads(**options: Any) -> list[Tensor]:
        torch.manual_seed(1)
        net = mlp((6,), 3, widths=[8], activation=activation)
        credit.rule(name, net, **options).step(torch.randn(9, 6), torch.arange(9) % 3)
        return [p.grad for p in net.parameters() if p.grad is not None]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))

    assert same(grads(), grads(clip_unit=0.06 if limited else None))
    assert not limited or not same(grads(), grads(clip_unit=None))


@pytest.mark.parametrize("below", [False, True])
def test_reshaping_may_stand_between_a_layer_and_its_units(below: bool) -> None:
    """Also above other units, from where on an image's channels lie side by side in memory."""
    x, y = 3 * torch.randn(6, 1, 6, 6).double(), torch.arange(6) % 3
    grads = []
    for flat_first in (True, False):
        torch.manual_seed(2)
        unit = LIF(STEPS, 0.9, constant=not below)
        under = [nn.Conv2d(1, 3, 3), LIF(STEPS, 0.9, constant=True)] if below else [nn.AvgPool2d(2)]
        conv = nn.Conv2d(3 if below else 1, 2, 3 if below else 2)
        middle = [nn.Flatten(), unit] if flat_first else [unit, nn.Flatten()]
        net = nn.Sequential(*under, conv, *middle, nn.Linear(8, 3), LIF(STEPS, 0.9), SpikeCount(STEPS)).double()
        credit.rule("lfp_zpm", net, precision="float64").step(x, y)
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert grads[0][0].any()
    torch.testing.assert_close(grads[0], grads[1])
