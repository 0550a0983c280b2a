"""The inverse mode of propagation, LISP Appendix G."""

import numpy as np
import pytest
import torch
from torch import nn

import credit
from tests.support import nets, twins
from tests.support.recipes import assert_equal, dense_twin, image_twin


@pytest.mark.parametrize("scale", [1.0, 0.1, 5.0])
@pytest.mark.parametrize("name", ["lisp_margin", "lisp_ce", "lisp_raw"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu", "hardtanh"])
def test_inverse_equals_its_definition(activation: str, name: str, scale: float) -> None:
    model = nets.mlp(activation, spread=4.0)  # many units beyond the clamp
    x, y = nets.batch(model, (7,), n=9)
    signal = {"lisp_margin": twins.worst_violation(), "lisp_ce": twins.cross_entropy, "lisp_raw": twins.violations()}
    recipe = (signal[name], twins.inverse(scale, 0.01), name != "lisp_raw")
    credit.rule(name, model, gate="inverse", inverse_scale=scale, inverse_clamp=0.01, clip=None).step(x, y)
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, recipe))


@pytest.mark.parametrize("norm", [False, True])
def test_inverse_equals_its_definition_on_images(norm: bool) -> None:
    model = nets.Residual("tanh", norm)
    x, y = nets.batch(model, (2, 5, 7))
    credit.rule("lisp_ce", model, gate="inverse").step(x, y)
    recipe = (twins.cross_entropy, twins.inverse(), True)
    assert_equal(nets.gradients(model), image_twin(model, "tanh", x, y, recipe))


@pytest.mark.parametrize("name", ["lisp", "lisp_margin", "lisp_ce", "lisp_raw"])
@pytest.mark.parametrize("norm", [False, True])
def test_for_relu_inverse_is_responsive_bit_for_bit(name: str, norm: bool) -> None:
    model = nets.Residual("relu", norm)
    x, y = nets.batch(model, (2, 5, 7))
    credit.rule(name, model).step(x, y)
    responsive = nets.gradients(model)
    credit.rule(name, model, gate="inverse").step(x, y)
    for key, update in nets.gradients(model).items():
        np.testing.assert_array_equal(update, responsive[key], err_msg=key)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu", "softplus", "leaky_relu"])
def test_small_changes_tend_to_division_by_the_derivative(activation: str) -> None:
    """dz = dh / f'(z) in the limit: the opposite of backprop's product."""
    module = {
        "elu": nn.ELU,
        "softplus": nn.Softplus,
        "leaky_relu": nn.LeakyReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
    }
    model = nn.Sequential(nn.Linear(7, 11), module[activation](), nn.Linear(11, 5)).double()
    x, y = nets.batch(model, (7,), n=1)
    credit.rule("bp", model).step(x, y)
    product = nets.gradients(model)["0.bias"]
    z = model[0](x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model[1](z).sum(), z)
    rule = credit.rule("lisp_raw", model, loss="ce", gate="inverse", inverse_scale=1e-6, inverse_clamp=1e-9)
    rule.step(x, y)
    np.testing.assert_allclose(nets.gradients(model)["0.bias"], product / slope[0].numpy() ** 2, rtol=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("z", [-40.0, -9.0, -3.0, 0.0, 3.0, 9.0, 40.0])
def test_the_direction_survives_saturation(activation: str, z: float) -> None:
    """A change in the wanted direction or none (Proposition 5), finite, and nothing where nothing is wanted."""
    model = nets.mlp(activation, (2, 3, 2))
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
        model.get_parameter("0.bias").fill_(z)
        model.get_parameter("2.weight").copy_(torch.tensor([[1.0, 1e-12, 0.0], [-1.0, -1e-12, 0.0]]))
        model.get_parameter("2.bias").copy_(torch.tensor([-3.0, 3.0]))
    x = torch.ones(1, 2, dtype=torch.float64)
    for label, want in ((0, 1.0), (1, -1.0)):
        credit.rule("lisp_raw", model, gate="inverse", margin=20.0).step(x, torch.tensor([label]))
        change = -nets.gradients(model)["0.bias"]
        assert np.isfinite(change).all()
        assert (change[:2] * want >= 0).all() and change[2] == 0
        if z * want < 0 or abs(z) <= 3:
            assert change[0] * want > 0


def test_updates_do_not_depend_on_the_batch_that_a_sample_comes_in() -> None:
    """The mode is not linear, so the 1 / batch that signals carry must be taken out for it."""
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=5)
    rule = credit.rule("lisp_raw", model, gate="inverse", margin=3.0)
    rule.step(x, y)
    together, alone = nets.gradients(model), []
    for i in range(len(x)):
        rule.step(x[i : i + 1], y[i : i + 1])
        alone.append(nets.gradients(model))
    for key, update in together.items():
        np.testing.assert_allclose(update, np.mean([one[key] for one in alone], 0), rtol=1e-9, atol=1e-13)
