"""Pi of every activation: 1 where the function is locally strictly increasing, 0 elsewhere (LISP section 2)."""

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.ops.activations import ACTIVATIONS
from credit.models.activations import Sign, Step
from tests.support import nets

# Every activation of the engine's table, as a module, with the places where Pi or the formula changes.
MODULES: dict[str, tuple[nn.Module, list[float]]] = {
    "relu": (nn.ReLU(), [0]),
    "leaky_relu": (nn.LeakyReLU(0.2), [0]),
    "relu6": (nn.ReLU6(), [0, 6]),
    "hardtanh": (nn.Hardtanh(-0.5, 2.0), [-0.5, 2.0]),
    "hardsigmoid": (nn.Hardsigmoid(), [-3, 3]),
    "elu": (nn.ELU(0.7), [0]),
    "selu": (nn.SELU(), [0]),
    "celu": (nn.CELU(0.7), [0]),
    "sigmoid": (nn.Sigmoid(), []),
    "tanh": (nn.Tanh(), []),
    "softplus": (nn.Softplus(), []),
    "identity": (nn.Identity(), []),
    "gelu": (nn.GELU(), [-0.7518]),
    "silu": (nn.SiLU(), [-1.2785]),
    "mish": (nn.Mish(), [-1.1924]),
    "hardswish": (nn.Hardswish(), [-3, -1.5]),
    "step": (Step(), [0]),
    "sign": (Sign(), [0]),
}
MONOTONE = [name for name in MODULES if name not in ("gelu", "silu", "mish", "hardswish")]


def points(kinks: list[float]) -> Tensor:
    """Random points in [-8, 8], none within 1e-3 of a kink."""
    z = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 16 - 8
    for kink in kinks:
        z = z[(z - kink).abs() > 1e-3]
    return z


def rises_numerically(f: nn.Module, z: Tensor) -> Tensor:
    """Whether f(z - e) < f(z) < f(z + e) for small e."""
    with torch.no_grad():
        return (f(z - 1e-4) < f(z)) & (f(z) < f(z + 1e-4))


def falls_somewhere(f: nn.Module, z: Tensor) -> bool:
    with torch.no_grad():
        return bool((f(z - 1e-4) > f(z)).any())


class Elementwise(nn.Module):
    """One weight per point, the activation, and a fixed readout: the signal at z is known."""

    def __init__(self, activation: nn.Module, n: int) -> None:
        super().__init__()
        self.before, self.activation, self.after = nn.Linear(1, n), activation, nn.Linear(n, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.activation(self.before(x)))


def test_every_activation_of_the_engine_is_here() -> None:
    assert MODULES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", MONOTONE)
def test_pi_is_where_the_function_rises(name: str) -> None:
    """What arrives below the activation is the signal times Pi: read off the biases of the layer below."""
    f, kinks = MODULES[name]
    z = points(kinks)
    expected = rises_numerically(f, z).double()
    assert not falls_somewhere(f, z)
    model = Elementwise(f, len(z))
    with torch.no_grad():
        model.before.weight.zero_()
        model.before.bias.copy_(z)
        model.after.weight.copy_(torch.stack([torch.ones(len(z)), -torch.ones(len(z))]))
        model.after.bias.copy_(-model.after.weight @ f(z))  # logits 0, so the signal at the output is (-1/2, 1/2)
    for override in (True, False):
        credit.rule("lisp_raw", model, loss="ce", override=override).step(
            torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
        )
        pi = torch.ones(len(z), dtype=torch.float64) if override and name in ("step", "sign") else expected
        assert model.before.bias.grad is not None
        torch.testing.assert_close(model.before.bias.grad, -pi, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", sorted(MODULES.keys() - set(MONOTONE)))
def test_what_falls_somewhere_is_refused_with_a_way_out(name: str) -> None:
    f, kinks = MODULES[name]
    assert falls_somewhere(f, points(kinks))
    model = nn.Sequential(nn.Linear(3, 4), f, nn.Linear(4, 2))
    with pytest.raises(UserError) as refusal:
        credit.rule("lisp_margin", model)
    for words in (f"rule.gate=responsive cannot take {name} at '1' in Sequential", "not monotone", "non-decreasing",
                  "relu, elu, softplus", "rule.gate=derivative", "Write rule.gate=derivative, straight_through"):  # fmt: skip
        assert words in str(refusal.value)


@pytest.mark.parametrize("gate", ["responsive", "inverse"])
@pytest.mark.parametrize(
    "f", [nn.LeakyReLU(-0.1), nn.LeakyReLU(0.0), nn.ELU(-0.5), nn.ELU(0.0)], ids=["leaky-", "leaky0", "elu-", "elu0"]
)
def test_constants_that_flatten_or_turn_an_activation_are_refused(f: nn.Module, gate: str) -> None:
    """Neither rises below zero, so Pi could not be 1 everywhere and there is no inverse."""
    below = points([0]).clamp(max=-1e-3)
    assert not rises_numerically(f, below).any()
    model = nn.Sequential(nn.Linear(3, 4), f, nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"'1' in Sequential: its constant .* makes it flat or falling below zero"):
        credit.rule("lisp_margin", model, gate=gate)
    credit.rule("bp", model)


@pytest.mark.parametrize("name", ["step", "sign"])
@pytest.mark.parametrize("rule", ["bp", "bp_hinge", "bp_normhinge", "fa", "dfa", "usf", "frsf", "brsf"])
def test_the_derivative_of_a_step_is_refused(rule: str, name: str) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule(rule, nets.mlp(name))
    for words in (f"rule.gate=derivative cannot take {name} at '1'", "its derivative is zero everywhere",
                  "rule.gate=straight_through (rule=ste)", "Write rule.gate=responsive, straight_through"):  # fmt: skip
        assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["step", "sign", "gelu", "silu", "mish", "hardswish"])
def test_what_has_no_inverse_is_refused_by_the_inverse_gate(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), MODULES[name][0], nn.Linear(4, 2))
    with pytest.raises(UserError) as refusal:
        credit.rule("lisp_ce", model, gate="inverse")
    assert f"rule.gate=inverse cannot take {name} at '1'" in str(refusal.value)
    assert "has no inverse" in str(refusal.value)
