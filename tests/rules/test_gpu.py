"""Steps of every rule on fake CUDA tensors: nothing is on another device, and nothing waits for the device."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException

import credit
from credit.core import registry
from credit.core.errors import UserError
from credit.core.options import of_class
from credit.models import build
from credit.rules import api
from credit.rules.base import Rule
from credit.rules.replicas import Mapped
from credit.testing.battery import Case
from tests.support.fake_gpu import FakeGpu, WaitedError, on_gpu

KINDS = {name: str(api.read(name)["kind"]) for name in api.names()}
FEW = {"equilibrium": {"free_steps": 3, "nudged_steps": 2}}
STEADY = {"lfp": "folded", "dual": "frozen", "equilibrium": "frozen"}
"""What rules of these kinds do with BatchNorm; the others train it."""


def _cases() -> Iterator[Any]:
    """Yield every rule on both networks; slow are settings that occurred before, and a kind's convolutions after its first rule."""
    seen: list[Any] = []
    for name, kind in KINDS.items():
        settings = {key: value for key, value in api.read(name).items() if key != "name"}
        options: dict[str, Any] = dict(FEW.get(kind, {}))
        slow = [pytest.mark.slow]
        yield pytest.param(Case(name, "mlp", options), id=f"{name}-mlp", marks=slow if settings in seen else [])
        options = options | ({"batchnorm": STEADY[kind]} if kind in STEADY else {})
        yield pytest.param(Case(name, "conv+bn", options), id=f"{name}-conv", marks=slow if kind in seen else [])
        seen += [settings, kind]


def steps_on_the_device(real: Rule, x: torch.Tensor, y: torch.Tensor) -> None:
    """Assert that a step on the fake GPU does not wait, and that its results are there."""
    gpu = FakeGpu()
    real.step(x, y)  # the first one compares the plan with the model, which waits
    rule, (x, y) = gpu.moved(real), gpu.moved((x, y))
    with gpu.computing():
        step = rule.step(x, y)
    assert on_gpu(step.logits, step.loss, *step.signals.values(), *(p.grad for p in rule.model.parameters()))


@pytest.mark.parametrize("case", list(_cases()))
def test_a_step_stays_on_the_device_and_does_not_wait(case: Case) -> None:
    steps_on_the_device(case.rule(case.model()), *case.batch())


@pytest.mark.parametrize("arch", ["spiking_mlp", pytest.param("spiking_lenet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["bp", "lfp_epsilon", "lfp_zpm"])
def test_spiking_networks_stay_on_the_device(name: str, arch: str) -> None:
    model = build({"kind": arch, "steps": 3}, (1, 16, 16), 4, seed=0)
    steps_on_the_device(credit.rule(name, model), torch.rand(6, 1, 16, 16), torch.arange(6) % 4)


@pytest.mark.parametrize(
    "arch", [{"kind": "gpt", "layers": 1, "heads": 2, "width": 8}, {"kind": "rnn", "width": 8}], ids=str
)
@pytest.mark.parametrize(
    "name", ["bp", pytest.param("fa", marks=pytest.mark.slow), pytest.param("lfp_epsilon", marks=pytest.mark.slow)]
)
def test_networks_of_tokens_stay_on_the_device(name: str, arch: dict[str, Any]) -> None:
    model = build(arch, (6,), 5, seed=0)
    tokens = torch.arange(4 * 7).view(4, 7) % 5
    steps_on_the_device(
        credit.rule(name, model, task="tokens"), tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    )


def dropping() -> nn.Module:
    layers = [nn.Linear(12, 10), nn.ReLU(), nn.Dropout(0.3), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 4)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"clip": 0.1}, {"reproject": 1.0}, {"clip_unit": 0.1},
                                     {"clip_norm": 1.0}, {"signal_dropout": 0.2}], ids=str)  # fmt: skip
def test_limits_draws_and_bfloat16_stay_on_the_device(options: dict[str, Any]) -> None:
    rule = credit.rule("bp", dropping(), **options)
    rule.watch = True
    steps_on_the_device(rule, torch.randn(6, 12), torch.arange(6) % 4)


def _choices(kind: str) -> Iterator[tuple[str, Any]]:
    """Yield every component and every word of a kind's options."""
    for name, option in of_class(registry.find("rule", kind).load().Options).items():
        if option.meta.family and name != "composite":
            yield from ((name, word) for word in registry.names(option.meta.family))
        if option.hint is bool or get_origin(option.hint) is Literal:
            yield from ((name, word) for word in get_args(option.hint) or (True, False))


def _component_cases() -> Iterator[Any]:
    for name in ("bp", "lfp", "dp_adjoint", "eqprop", "dtp", "lra"):
        for option, word in _choices(KINDS[name]):
            if (option, word) != ("sparse", True):  # which waits
                yield pytest.param(name, {**FEW.get(KINDS[name], {}), option: word}, id=f"{name}-{option}-{word}")


REFUSED = {
    "bp-clip_output-False", "bp-loss-ce_rate", "lfp-clip_output-False", "lfp-feedback-spiking", "dp_adjoint-clip_output-False",
    "dp_adjoint-local_autograd-True", "dp_adjoint-variant-lpom", "dp_adjoint-schedule-fw", "dp_adjoint-nudge-prox",
    "dp_adjoint-damped-True", "dp_adjoint-damping-half_excess", "dp_adjoint-feedback_weights-direct", "dp_adjoint-switches-plus",
    "eqprop-clip_output-False", "eqprop-local_autograd-True", "eqprop-feedback_weights-direct", "dtp-clip_output-False",
    "dtp-synapses-conv", "lra-clip_output-False", "lra-synapses-conv",
}  # fmt: skip
"""Options that a rule refuses by themselves, or on this network."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), list(_component_cases()))
def test_every_component_stays_on_the_device(
    name: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.id in REFUSED:
        with pytest.raises(UserError):
            credit.rule(name, dropping(), example=torch.randn(2, 12), **options)
        return
    rule = credit.rule(name, dropping(), example=torch.randn(2, 12), **options)
    steps_on_the_device(rule, torch.randn(6, 12), torch.arange(6) % 4)


@pytest.mark.parametrize("name", ["lisp_margin", pytest.param("dtp", marks=pytest.mark.slow)])
def test_replicas_in_one_pass_stay_on_the_device(name: str) -> None:
    case, gpu = Case(name, "mlp"), FakeGpu()
    rules = [case.rule(case.model(seed), seed=seed) for seed in (0, 1)]
    together: Mapped = gpu.moved(Mapped(rules), *rules)
    x, y = gpu.moved([torch.stack([one, one]) for one in case.batch()])
    with gpu.computing():
        step = together.step(x, y)
    assert on_gpu(step.logits, *(p.grad for p in together.parameters()))


def test_leaving_samples_out_waits_where_it_is_asked_for() -> None:
    """``sparse=auto`` leaves samples out on the CPU alone, as their number decides the shapes of what follows."""
    for sparse in ("auto", True):
        case, gpu = Case("lisp_margin", "mlp", {"sparse": sparse}), FakeGpu()
        rule, (x, y) = gpu.moved(case.rule(case.model())), gpu.moved(case.batch())
        with gpu.computing():
            if sparse == "auto":
                rule.step(x, y)
            else:
                with pytest.raises((WaitedError, DynamicOutputShapeException)):
                    rule.step(x, y)


def test_both_faults_are_found() -> None:
    gpu = FakeGpu()
    x = gpu.moved(torch.ones(3))
    with gpu.computing():
        waits = [lambda: float(x.sum()), x.cpu, x.tolist, lambda: torch.tensor([1, 2], device="cuda"), x.nonzero]
        for wait in waits:
            with pytest.raises(WaitedError):
                wait()
        with pytest.raises(DynamicOutputShapeException):
            x[x > 0]
        with pytest.raises(RuntimeError, match="found at least two devices"):
            x + torch.ones(3)
    with gpu.computing(waits=True) as waiting:
        assert (float(x.sum()), x.cpu().tolist()) == (1.0, [1.0, 1.0, 1.0]) and len(waiting.places) == 2
