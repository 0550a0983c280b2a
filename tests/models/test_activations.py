"""Activations by name, and step and sign, whose autograd gradient is zero."""

import pytest
import torch
from torch import fx, nn

from credit.core.errors import UserError
from credit.models.activations import Sign, Step, activation, names
from credit.models.options import ACTIVATIONS


def test_the_names_of_the_option_are_there() -> None:
    assert names() == list(ACTIVATIONS)


@pytest.mark.parametrize("name", names())
def test_activations_are_elementwise_finite_and_not_in_place(name: str) -> None:
    z = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(2, 3, 4)
    kept = z.clone()
    module = activation(name)
    a = module(z)
    assert a.shape == z.shape and a.dtype == z.dtype and a.isfinite().all()
    assert torch.equal(z, kept)
    assert torch.equal(module(z.flatten()), a.flatten())


@pytest.mark.parametrize(
    ("module", "expected"), [(Step(), [0.0, 0.0, 0.0, 1.0, 1.0]), (Sign(), [-1.0, 0.0, 0.0, 1.0, 1.0])]
)
def test_step_and_sign_are_zero_at_zero_and_have_gradient_zero(module: nn.Module, expected: list[float]) -> None:
    z = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 5.0], requires_grad=True)
    a = fx.symbolic_trace(nn.Sequential(module))(z)
    assert a.tolist() == expected
    a.sum().backward()
    assert z.grad is not None and z.grad.tolist() == [0.0] * 5


def test_unknown_activation_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"arch.activation='rellu'.*did you mean 'relu'\?"):
        activation("rellu")
