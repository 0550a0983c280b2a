"""D1, the division of a sample's signal by its RMS at every layer, and the whole-batch form."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import credit
from tests.support import nets, twins

D1 = ["bp_normhinge", "lisp", "lisp_margin", "lisp_ce"]


@pytest.mark.parametrize("name", ["bp_normhinge", "lisp", "lisp_margin"])
def test_a_satisfied_sample_adds_nothing(name: str) -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,), n=8)
    margin = nets.margin_between(model, x, y)
    rule = credit.rule(name, model, margin=margin, clip=None)
    step = rule.step(x, y)
    whole = nets.gradients(model)
    others = step.logits.scatter(1, y.unsqueeze(1), -torch.inf).amax(1)
    violated = step.logits.gather(1, y.unsqueeze(1)).squeeze(1) - others < margin
    assert 0 < int(violated.sum()) < len(y)
    rule.step(x[violated], y[violated])
    for key, update in nets.gradients(model).items():
        np.testing.assert_allclose(whole[key], update * int(violated.sum()) / len(y), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["bp_hinge", "bp_normhinge", "lisp", "lisp_margin", "lisp_raw"])
@pytest.mark.parametrize("norm", [False, True])
def test_without_any_violation_every_update_is_zero(name: str, norm: bool) -> None:
    model = nets.Residual("relu", norm)
    x, y = nets.batch(model, (2, 5, 7))
    with torch.no_grad():
        y[:] = 3
        model.head.bias[3] += 1e3
    step = credit.rule(name, model, clip=None).step(x, y)
    assert float(step.loss) == 0 and float(step.signals["output.active"]) == 0
    for key, update in nets.gradients(model).items():
        assert (update == 0).all(), key


@pytest.mark.parametrize("name", ["lisp_margin", "lisp_ce"])
def test_arriving_signals_have_unit_rms_per_sample_over_channels_and_space(name: str) -> None:
    """A convolution's bias update for one sample is the sum over space of a signal whose mean square is 1."""
    model = nets.Residual("leaky_relu", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    options: dict[str, Any] = {"margin": 100.0} if name == "lisp_margin" else {}
    rule = credit.rule(name, model, **options)
    rule.watch = True
    signals = rule.step(x, y).signals
    for layer in ("stem", "block", "last", "head"):
        assert float(signals[layer]) == pytest.approx(1.0, abs=1e-12), layer


def test_a_margin_violator_counts_the_same_whatever_its_violation() -> None:
    """After D1 it gives +-sqrt(C/2) at two logits (NOTES 1.3)."""
    model = nn.Sequential(nn.Linear(3, 5)).double()
    x, y = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.tensor([2])
    for push in (0.5, 3.0, 1e6):
        with torch.no_grad():
            model.get_parameter("0.weight").zero_()
            model.get_parameter("0.bias").copy_(torch.tensor([0.0, push, 0.0, 0.0, 0.0]))
        credit.rule("lisp_margin", model, clip=None).step(x, y)
        np.testing.assert_allclose(nets.gradients(model)["0.bias"], [0, 2.5**0.5, -(2.5**0.5), 0, 0], rtol=1e-12)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e6])
def test_the_division_has_no_floor(size: float) -> None:
    """A nearly satisfied sample is blown up to unit RMS too: a large epsilon would be another method (NOTES 1.3)."""
    model = nn.Sequential(nn.Linear(3, 5)).double()
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
        model.get_parameter("0.bias").copy_(torch.tensor([0.0, size, 0.0, 0.0, 0.0]))
    x = torch.ones(1, 3, dtype=torch.float64)
    credit.rule("lisp_margin", model, margin=size, clip=None).step(x, torch.tensor([2]))
    np.testing.assert_allclose(nets.gradients(model)["0.bias"], [0, 2.5**0.5, -(2.5**0.5), 0, 0], rtol=1e-9)


@pytest.mark.parametrize("name", D1)
@pytest.mark.parametrize("dead", ["input", "hidden"])
def test_a_sample_whose_signal_dies_on_the_way_stays_finite(name: str, dead: str) -> None:
    """All units of a layer silent for some samples: their signal is exactly zero below, and no NaN."""
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,), n=6)
    with torch.no_grad():
        if dead == "hidden":
            model.get_parameter("2.bias").fill_(-1e6)
        else:
            model.get_parameter("0.bias").zero_()
            x[:3] = 0
    credit.rule(name, model, clip=None).step(x, y)
    for key, update in nets.gradients(model).items():
        assert np.isfinite(update).all(), key
    if dead == "hidden":
        assert (nets.gradients(model)["0.weight"] == 0).all()


def test_max_abs_divides_the_whole_batchs_signal() -> None:
    """normalizer=max_abs: the largest element of the whole batch's signal becomes 1 on arrival."""
    model = nets.mlp("tanh", (7, 5))
    x, y = nets.batch(model, (7,))
    credit.rule("bp", model, normalizer="max_abs").step(x, y)
    with torch.no_grad():
        z = model(x).numpy()
    d = np.stack([twins.cross_entropy(row, label) for row, label in zip(z, y.tolist(), strict=True)])
    d /= np.abs(d).max()
    np.testing.assert_allclose(-nets.gradients(model)["0.weight"], d.T @ x.numpy() / len(x), rtol=1e-10)


def test_normalising_needs_samples_in_the_first_dimension() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 4), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.outer(torch.relu(self.inner(x.reshape(-1, 3))).reshape(-1, 8))

    model = Mixed().double()
    x, y = torch.ones(4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    credit.rule("lisp_raw", model).step(x, y)
    with pytest.raises(ValueError, match="normalizer=rms needs each sample's signal, but at linear 'inner'"):
        credit.rule("lisp", model, clip=None).step(x, y)
