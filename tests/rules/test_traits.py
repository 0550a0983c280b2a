"""Traits of rules and components: what a class inherits, what it has to declare again, and what follows for networks."""

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.models.dense.suc import SingleUnit
from credit.models.spiking.networks import LIF, SpikeCount
from credit.rules.backward.feedback_weights import FixedRandom
from credit.rules.backward.gates import Derivative
from credit.rules.lfp.feedbacks import Sigmoid, feedback
from credit.rules.traits import of_component
from tests.support import nets

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def spiking(*, frozen: bool = False) -> nn.Module:
    """Two layers over four time steps, above one that takes the images."""
    model = nn.Sequential(
        nn.Linear(6, 20), LIF(4, 0.9, constant=True), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 3), SpikeCount(4)
    )
    model[0].requires_grad_(not frozen)
    return model


def test_methods_of_every_kind_have_to_be_declared_again() -> None:
    class Same(Derivative):
        """Nothing of its own."""

    class ByClass(Derivative):
        @classmethod
        def factor(cls) -> float:
            return 0.5

    class Once(Derivative):
        @functools.cached_property
        def factor(self) -> float:
            return 0.5

    class Declared(ByClass):
        traits = credit.Traits(per_sample=True)

    found = {cls: of_component(cls(), "gate") for cls in (Derivative, Same, ByClass, Once, Declared)}
    assert [one.per_sample for one in found.values()] == [True, True, False, False, True]
    assert ["time_steps" in one.refuses for one in found.values()] == [False, False, True, True, False]


@pytest.mark.parametrize("frozen", [False, True])
def test_time_steps_are_refused_where_nothing_is_declared(frozen: bool) -> None:
    class MyWeights(FixedRandom):
        def backproject(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return super().backproject(op, run, signal) / len(signal)

    class MyRule(credit.BackwardRule):
        name = "mine"

        def gate(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return signal

    credit.register("feedback_weights", "my_weights")(MyWeights)
    mine: dict[str, Any] = {"feedback_weights": "my_weights"}
    for name, options in (("dfa", {}), ("lisp_raw", {}), ("bp", mine)):
        with pytest.raises(UserError, match="lif '1' in Sequential is a unit over time"):
            credit.rule(name, spiking(frozen=frozen), **options)
    with pytest.raises(UserError, match="rule 'mine' multiplies an error signal at an activation, but lif '1'"):
        MyRule(spiking(frozen=frozen))
    credit.rule("bp", spiking(frozen=frozen))


def test_a_loss_without_of_probability_scores_logits_alone() -> None:
    class MyLoss:
        traits = credit.Traits()

        def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return z / len(z), z.square().mean()

    credit.register("loss", "my_loss")(MyLoss)
    with pytest.raises(UserError, match=r"rule.loss=my_loss compares the logits.*Write rule.loss=ce, mse or half_sse"):
        credit.rule("bp", SingleUnit(nn.Linear(5, 1), nn.Sigmoid()), loss="my_loss")


def test_a_gate_without_refusals_takes_every_activation() -> None:
    class MyGate:
        def keeps(self, op: Any) -> set[str]:
            return set()

        def __call__(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return signal

    credit.register("gate", "my_gate")(MyGate)
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
    assert credit.rule("bp", model, gate="my_gate").step(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64)).loss > 0
    with pytest.raises(UserError, match="cannot take gelu at '1'.* my_gate"):
        credit.rule("lisp", model)


def test_a_rule_with_its_own_visit_keeps_all_samples() -> None:
    class MyRule(credit.BackwardRule):
        def visit(self, op: Any, run: Any, signal: Tensor, add: Any) -> Any:
            return super().visit(op, run, signal - signal.mean(0), add)

    assert not MyRule(nets.mlp("relu"), {"loss": "worst_violation"}).sparse
    rule: Any = credit.rule("lisp_margin", nets.mlp("relu"))
    assert rule.sparse


def test_feedback_of_ones_own_reaches_outputs_of_zero() -> None:
    def told(logits: Tensor, y: Tensor) -> Tensor:
        return F.one_hot(y, logits.shape[1]).to(logits.dtype) - 0.2

    class Told(Sigmoid):
        def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return told(o, y), o.mean()

    feedback("function")(told)
    credit.register("feedback", "class")(Told)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU())
    x, y = torch.randn(12, 4), torch.arange(12) % 5
    found = []
    for name in ("function", "class"):
        credit.rule("lfp_epsilon", model, feedback=name).step(x, y)
        found.append({key: p.grad for key, p in model.named_parameters()})
    assert bool((model(x) == 0).any())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_refused_input_signal_leaves_the_rule_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.GELU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    rule = credit.rule("lisp_raw", model)
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    rule.step(x, y)
    before = [p.grad for p in model.parameters()]
    with pytest.raises(UserError, match="cannot take gelu at '0'"):
        rule.keep_input_signal = True
    assert not rule.keep_input_signal
    rule.step(x, y)
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), before, strict=True))  # type: ignore[arg-type]
