"""What dual and equilibrium propagation refuse, by the words: numbers, nudges, schedules, networks."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from tests.support import dual_nets, nets
from tests.support.architectures import suc


def mlp() -> nn.Module:
    return nets.mlp("relu")


def acting(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 6), layer(), nn.Linear(6, 3))


def normed() -> nn.Module:
    return nets.Residual("relu", norm=True)


def single() -> nn.Module:
    return suc((4,), 2)


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.embed(x)).unsqueeze(1)
        out: Tensor = self.head(self.attention(h, h, h, need_weights=False)[0].squeeze(1))
        return out


class Gated(nn.Module):
    """A product of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.one(x) * self.two(x)))
        return out


def refusal(make: Callable[[], nn.Module], name: str, options: dict[str, Any]) -> str:
    with pytest.raises(UserError) as found:
        credit.rule(name, make(), **options)
    return str(found.value)


NUMBERS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("dp", {"alpha": 1.5}, ("rule.alpha=1.5 is outside [0, 1]", "weight of s+")),
    ("dp", {"alpha": -0.1}, ("rule.alpha=-0.1 is outside [0, 1]",)),
    ("dp_adjoint", {"alpha": [0.5, 2.0, 0.5]}, ("rule.alpha=2 is outside [0, 1]",)),
    ("dp", {"alpha": float("nan")}, ("rule.alpha=nan",)),
    ("dp", {"beta": 0.0}, ("rule.beta=0 is outside (0, inf)", "the paper: 0.01 to 1")),
    ("dp", {"beta": -0.5}, ("rule.beta=-0.5 is outside (0, inf)",)),
    ("dp", {"beta": float("inf")}, ("rule.beta=inf",)),
    ("dp_adjoint", {"beta": [0.1, 0.1, 0.0]}, ("rule.beta=0 is outside (0, inf)",)),
    ("dp", {"alpha": [0.5, 0.5]}, ("rule.alpha has 2 values, but Sequential has 3 layers with states", "give 3 values")),
    ("dp", {"beta": [0.1] * 4}, ("rule.beta has 4 values, but Sequential has 3 layers",)),
    ("dp", {"alpha": []}, ("rule.alpha has 0 values",)),
    ("dp", {"passes": 0}, ("rule.passes=0 is outside [1, inf)", "without a pass no state is nudged")),
    ("dp", {"passes": -1}, ("rule.passes=-1",)),
    ("dp_damped", {"power_iterations": 0}, ("rule.power_iterations=0 is outside [1, inf)", "the paper: 5")),
    ("lpom", {"alpha": 0.5}, ("rule.alpha=0.5 is not lpom", "rule.alpha=1, or rule=dp")),
    ("dp", {"variant": "adjont"}, ("rule.variant=adjont", "did you mean 'adjoint'")),
    ("dp", {"damping": "half_excess"}, ("rule.damping=half_excess would change nothing", "rule.damped=true")),
    ("dp_damped", {"damping": "jax"}, ("rule.damping=jax", "half_excess, norm")),
    ("dp", {"loss": "hinge"}, ("rule.loss=hinge", "ce, half_sse")),
    ("dp", {"schedule": "bwfw"}, ("rule.schedule=bwfw",)),
    ("dp", {"nudge": "exact"}, ("rule.nudge=exact",)),
    ("dp", {"bta": 0.1}, ("rule.bta=0.1: rule 'dp' has no such option", "did you mean 'beta'")),
    ("dp", {"signal": "ce"}, ("rule.signal=ce: rule 'dp' has no such option",)),
    ("eqprop", {"beta": 0.0}, ("rule.beta=0 is outside (0, inf)",)),
    ("eqprop", {"phases": 4}, ("rule.phases=4 is outside [2, 3]", "nudged away")),
    ("eqprop", {"free_steps": 0}, ("rule.free_steps=0 is outside [1, inf)",)),
    ("eqprop", {"nudged_steps": 0}, ("rule.nudged_steps=0",)),
    ("chl", {"gamma": 0.0}, ("rule.gamma=0 is outside (0, 1]",)),
    ("chl", {"gamma": 1.5}, ("rule.gamma=1.5 is outside (0, 1]",)),
    ("chl", {"phases": 3}, ("rule.phases=3 with rule.clamp_output=true", "cannot be pushed away from its target")),
    ("chl", {"beta": 0.1}, ("rule.beta=0.1 would change nothing",)),
    ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": []}, ("rule.alpha has 0 values",)),
    # nudges
    ("dp", {"nudge": "prox", "loss": "ce"}, ("rule.nudge=prox is the exact minimiser of least squares", "rule.loss=half_sse")),
    ("dp_adjoint", {"nudge": "prox", "loss": "half_sse"}, ("rule.nudge=prox belongs to the original dual propagation", "rule=dp")),
    ("fenchel_bp", {"nudge": "prox", "loss": "half_sse"}, ("rule.nudge=prox belongs to the original",)),
    ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": 0.0, "beta": 1.0},
     ("rule.nudge=prox with alpha=0 and beta=1 diverges", "s- is pushed away from the target", "(1 - alpha) beta = 1 ",
      "lower rule.beta or raise rule.alpha")),
    ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": 0.5, "beta": 2.0}, ("(1 - alpha) beta = 1 ",)),
    ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": [1.0, 1.0, 0.2], "beta": [0.1, 0.1, 3.0]},
     ("alpha=0.2 and beta=3 diverges", "(1 - alpha) beta = 2.4 ")),
    # transports
    ("dp", {"feedback_weights": "direct"}, ("rule.feedback_weights=direct", "settles states layer by layer", "fixed_random")),
    ("eqprop", {"feedback_weights": "direct"}, ("rule.feedback_weights=direct", "rule 'eqprop' settles states layer by layer")),
    ("dp", {"feedback_weights": "transposed"}, ("there are no feedback weights of this name", "'transpose'")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "words"), NUMBERS)
def test_numbers_and_words(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    told = refusal(mlp, name, options)
    for word in words:
        assert word in told, told


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": 0.0, "beta": 0.99}),
        ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": 1.0, "beta": 50.0}),
        ("dp", {"nudge": "prox", "loss": "half_sse", "alpha": [0.0, 0.0, 1.0], "beta": [5.0, 5.0, 5.0]}),
        ("lpom", {"nudge": "prox", "loss": "half_sse", "beta": 5.0}),
        ("dp_adjoint", {"alpha": 0.0, "beta": 5.0, "loss": "half_sse"}),
    ],
)
def test_what_is_close_to_it_is_taken(name: str, options: dict[str, Any]) -> None:
    model = mlp()
    x, y = nets.batch(model, (7,))
    credit.rule(name, model, **options).step(x, y)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[str, ...]]] = [
    (acting(nn.GELU), ("gives every activation a state", "gelu", "Sequential", "falls somewhere", "arch.activation=relu")),
    (acting(nn.SiLU), ("silu", "falls somewhere", "relu, leaky_relu")),
    (acting(nn.Hardswish), ("hardswish", "falls somewhere")),
    (normed, ("batch_norm 'norm", "in Residual", "the batch's own statistics", "arch.norm=none", "arch.norm=frozen",
              "rule.batchnorm=frozen")),
    (acting(lambda: nn.Softmax(1)), ("softmax", "is not linear", "rule=bp")),
    (acting(lambda: Called(torch.exp)), ("exp 'exp'", "is not linear", "rule=bp")),
    (acting(lambda: Called(lambda x: x * (x > 0))), ("'gt' in Sequential compares values", "nn.ReLU", "rule=bp")),
    (acting(lambda: nn.LayerNorm(6)), ("layer_norm '1'", "in Sequential", "normalises each sample by its own statistics")),
    (Gated, ("mul", "in Gated", "is not linear")),
    (single, ("SingleUnit gives one number, the probability of class 1", "rule=bp")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), NETWORKS)
@pytest.mark.parametrize("name", ["dp", "dp_adjoint", "dp_damped", "lpom", "fenchel_bp", "eqprop", "chl"])
def test_networks(name: str, make: Callable[[], nn.Module], words: tuple[str, ...]) -> None:
    told = refusal(make, name, {})
    assert f"rule '{name}'" in told
    for word in words:
        assert word in told, told


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "attention"), ({"local_autograd": True}, "rule.local_autograd=true would change nothing")],
)
def test_attention_between_states(options: dict[str, Any], words: str) -> None:
    assert words in refusal(Attentive, "dp", options)


def test_batchnorm_that_is_frozen_is_taken() -> None:
    model = nets.Residual("tanh", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    before = {name: value.clone() for name, value in model.named_buffers()}
    credit.rule("dp", model, precision="float64", batchnorm="frozen").step(x, y)
    credit.rule("eqprop", model, precision="float64", batchnorm="frozen").step(x, y)
    for norm in (model.norm1, model.norm2):
        norm.eval()
    credit.rule("dp", model, precision="float64").step(x, y)
    assert all(bool(torch.equal(value, before[name])) for name, value in model.named_buffers())


# --- schedules that do not reach the first layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "needed"),
    [
        (mlp, {}, 3),
        (mlp, {"input_robustness": True}, 3),
        (lambda: dual_nets.conv("later"), {"pool_first": False}, 4),
        (lambda: nets.mlp("relu", (7, 11, 5)), {}, 2),
        (lambda: nets.mlp("tanh", (7, 6, 6, 6, 6, 6, 5)), {}, 6),
    ],
)
@pytest.mark.parametrize("name", ["dp", "dp_adjoint"])
def test_forward_passes_that_are_too_few(
    name: str, make: Callable[[], nn.Module], options: dict[str, Any], needed: int
) -> None:
    for passes in range(1, needed):
        told = refusal(make, name, {"schedule": "fw", "passes": passes, **options})
        assert f"rule.schedule=fw with rule.passes={passes} never reaches" in told
        assert (
            "'0'" in told and f"needs rule.passes={needed};" in told and "rule.schedule=fwbw, which needs one" in told
        )
    model = make().double()
    x, y = nets.batch(model, (7,) if needed != 4 else dual_nets.IMAGE)
    credit.rule(name, model, precision="float64", schedule="fw", passes=needed, **options).step(x, y)
    assert all(
        p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters() if name.endswith("weight")
    )


def test_a_skip_shortens_the_way() -> None:
    """The signal takes the shortest way down: in a residual net it needs fewer passes than there are states."""
    model = dual_nets.Residual()
    told = refusal(dual_nets.Residual, "dp", {"schedule": "fw", "passes": 1})
    needed = int(re.findall(r"needs rule.passes=(\d+)", told)[0])
    x, y = nets.batch(model, dual_nets.RESIDUAL_IMAGE)
    credit.rule("dp", model, precision="float64", schedule="fw", passes=needed).step(x, y)
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    assert needed <= 6


# --- what a compiled or a mapped step cannot do -----------------------------------------------------------------------------------


def test_random_orders_are_neither_compiled_nor_mapped() -> None:
    told: dict[str, Any] = {"schedule": "random", "passes": 3}
    with pytest.raises(
        UserError, match=r"draws another order at every step \(rule.schedule=random\), which a compiled step cannot"
    ):
        credit.rule("dp", mlp(), compile="eager", **told)
    model = mlp()
    function, arguments = credit.rule("dp", model, **told).functional(*nets.batch(model, (7,)))
    with pytest.raises(UserError, match="a step that is mapped over seeds cannot: write rule.schedule=fwbw"):
        function(*arguments)


def test_a_compiled_step_does_not_tell_its_states() -> None:
    rule: Any = credit.rule("dp", mlp(), compile="eager")
    with pytest.raises(UserError, match="a compiled step does not return its states; make it without compile=True"):
        rule.keep_states = True
