"""What dual propagation sends down is not lost in the rounding of the states it is the difference of."""

import pytest
import torch

import credit
from credit.diagnostics.alignment import alignment
from credit.engine.ops.activations import ACTIVATIONS, MONOTONE
from tests.support import dual_nets

OPTIONS = {"leaky_relu": (0.2,), "hardtanh": (-1.0, 2.0), "elu": (1.0,), "celu": (2.0,), "softplus": (1.0, 20.0)}
CLOSED = [name for name in MONOTONE if ACTIVATIONS[name].gap is not None]


@pytest.mark.parametrize("name", CLOSED)
def test_a_gap_is_the_difference_of_two_values(name: str) -> None:
    """Far apart and near, on either side of every bend, in float64 where the plain difference is good as well."""
    function, options = ACTIVATIONS[name], OPTIONS.get(name, ())
    assert function.gap is not None
    source = torch.Generator().manual_seed(0)
    q = 8 * torch.rand(4000, generator=source, dtype=torch.float64) - 4
    for size in (1e-6, 0.1, 1.0, 9.0):
        t = size * torch.randn(4000, generator=source, dtype=torch.float64)
        p_value, q_value = function.value(q + t, *options), function.value(q, *options)
        torch.testing.assert_close(function.gap(t, p_value, q_value, *options), p_value - q_value, rtol=0, atol=1e-14)


@pytest.mark.parametrize("activation", ["relu", "hardtanh", "tanh"])
@pytest.mark.parametrize("variant", ["dp", "dp_adjoint", "dp_damped"])
def test_a_weak_nudge_is_not_lost_in_single_precision(variant: str, activation: str) -> None:
    """Subtracting s+ from s- in float32 left nothing of a nudge of 1e-6 in the first layer."""
    if variant == "dp_damped" and activation == "tanh":
        return  # refused
    model = dual_nets.mlp(activation)
    x, y = torch.randn(6, 7, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 4, 0])
    exact = credit.rule(variant, model, precision="float64", beta=1e-6).updates(x.double(), y).updates
    found = credit.rule(variant, model.float(), beta=1e-6).updates(x, y).updates
    for name, update in exact.items():
        torch.testing.assert_close(found[name].double(), update, rtol=2e-4, atol=1e-6 * float(update.abs().max()))


def test_within_one_linear_region_a_weak_nudge_is_backprop_in_single_precision() -> None:
    model = dual_nets.mlp("relu").float()
    x, y = torch.randn(6, 7, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 4, 0])
    assert max(layer["angle"] for layer in alignment(credit.rule("dp_adjoint", model, beta=1e-6), x, y).values()) < 1e-3
