"""Untied gates equal the paper's formulas at every z, edges included; their noise is fresh, uniform and reproducible."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.models.activations import activation
from tests.support import nets
from tests.support.covering import covering
from tests.support.factors import ACTIVATIONS, GATES, INF, noise

# ---------------------------------------------------------------- element by element


def edges(dtype: torch.dtype) -> Tensor:
    """0 with both signs, the ends of every gate's interval, the numbers next to these, and many between."""
    points = [0.0, 0.35, 0.5, 1.0, 4.0, 5.0]
    exact = torch.tensor(points + [-p for p in points], dtype=dtype)
    up, down = (torch.nextafter(exact, torch.tensor(to, dtype=dtype)) for to in (INF, -INF))
    return torch.cat([exact, up, down, torch.linspace(-7, 7, 41).to(dtype)])


def gated(
    name: str, options: dict[str, Any], act: str, z: Tensor, compile: bool | str = False
) -> tuple[Any, Tensor, Tensor]:
    """Return (rule, signal at the activation, signal behind it): identity weights make both a bias's update."""
    model = nn.Sequential(nn.Linear(len(z), len(z)), activation(act), nn.Linear(len(z), len(z))).to(z.dtype)
    with torch.no_grad():
        for layer in (0, 2):
            model.get_parameter(f"{layer}.weight").copy_(torch.eye(len(z)))
            model.get_parameter(f"{layer}.bias").zero_()
    rule = credit.rule(name, model, seed=4, compile=compile, **options)
    rule.step(z.unsqueeze(0), torch.tensor([1]))
    before, after = (model.get_parameter(f"{layer}.bias").grad for layer in (2, 0))
    assert before is not None and after is not None and bool((before != 0).all())
    return rule, before, after


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("key", GATES)
def test_factor_equals_the_formula_at_every_z(key: str, act: str) -> None:
    name, options, factor = GATES[key]
    z = edges(torch.float64)
    rule, before, after = gated(name, options, act, z)
    g = factor(z, noise(rule, (1, len(z)), "1").squeeze(0))
    torch.testing.assert_close(after, before * g, rtol=1e-12, atol=0)
    assert torch.equal(after.sign(), before.sign() * (g > 0))  # Propositions 1-3, as far as they hold


@pytest.mark.parametrize(
    ("key", "dtype", "compiled"),
    covering(1, ("rectangle", "rectangle 0..0.5", "triangle", "triangle freegrad", "positive", "rectangle jam"),
             (torch.float32, torch.bfloat16), (False, "aot_eager"), slow=2),
)  # fmt: skip
def test_ends_of_the_interval_in_short_types(key: str, dtype: torch.dtype, compiled: bool | str) -> None:
    name, options, factor = GATES[key]
    z = edges(dtype)
    z = z[(z == 0) | (z.abs() > 1e-37) | (dtype == torch.float32)]  # bfloat16 products drop the smallest numbers
    _, before, after = gated(name, options, "identity", z, compile=compiled)
    g = factor(z, torch.full_like(z, 0.5))
    assert torch.equal(after != 0, g != 0)


def test_the_sizes_that_a_shape_or_nothing_stands_for() -> None:
    z = edges(torch.float64)
    pairs: list[tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = [
        (("untied_constant", {}), ("untied_constant", {"height": 1})),
        (("untied_rectangle", {}), ("untied_rectangle", {"height": 1.0, "width": 1.0})),
        (("untied_rectangle", {"width": 3.0}), ("untied_rectangle", {"low": -1.5, "high": 1.5})),
        (("untied_triangle", {}), ("untied_triangle", {"shape": "paper"})),
        (("untied_triangle", {}), ("untied_triangle", {"height": 0.25, "width": 8.0})),
        (("untied_triangle", {"width": 2.0}), ("untied_triangle", {"height": 0.25, "width": 2.0})),
        (("untied_triangle", {"shape": "freegrad", "height": 3.0}), ("untied_triangle", {"height": 3.0, "width": 2.0})),
        (("jam_rectangle", {}), ("jam_rectangle", {"width": 10, "noise_low": 0.0, "noise_high": 1.0})),
    ]
    for one, other in pairs:
        assert torch.equal(gated(*one, "relu", z)[2], gated(*other, "relu", z)[2]), (one, other)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("name", ["jam_full", "jam_positive", "jam_rectangle"])
def test_noise_is_fresh_for_every_step_sample_and_unit_and_reproducible(name: str) -> None:
    z = torch.full((64,), 0.3)
    rule, before, after = gated(name, {}, "identity", z)
    factors = [after / before]
    for position in (1, 0):
        rule.position = position
        rule.step(z.unsqueeze(0), torch.tensor([1]))
        factors.append(rule.model.get_parameter("0.bias").grad / before)
    assert len(factors[0].unique()) > 60  # one for each unit
    assert not torch.isclose(factors[0], factors[1], atol=1e-4).all()  # another for the next step
    assert torch.equal(factors[0], factors[2])
    torch.manual_seed(0)  # weights under which some units are above 0
    model, twin = (nn.Sequential(nn.Linear(3, 3), activation("relu"), nn.Linear(3, 3)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    x = torch.ones(1, 3)
    one = credit.rule(name, model, seed=1).updates(x, torch.tensor([0])).updates["0.weight"]
    two = credit.rule(name, twin, seed=1).updates(x.expand(2, 3), torch.tensor([0, 0])).updates["0.weight"]
    other = credit.rule(name, twin, seed=2).updates(x, torch.tensor([0])).updates["0.weight"]
    assert one.any() and not torch.allclose(one, two)  # the second sample has noise of its own
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", ["jam_full", "jam_positive", "jam_rectangle"])
@pytest.mark.parametrize("act", ["relu", "sigmoid", "gelu"])
def test_matched_noise_has_the_mean_of_the_derivative(name: str, act: str) -> None:
    z = torch.linspace(-3, 8, 200, dtype=torch.float64)
    rule, before, after = gated(name, {"match_mean": True, "noise_low": 0.25}, act, z)
    leaf = z.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(activation(act)(leaf).sum(), leaf)
    g = after / before
    assert float(g.mean()) == pytest.approx(float(derivative.mean()), rel=1e-9)
    u = noise(rule, (1, len(z)), "1").squeeze(0) * 0.75 + 0.25
    on = g != 0
    torch.testing.assert_close(g[on] / u[on], (g[on] / u[on])[:1].expand(int(on.sum())), rtol=1e-9, atol=0)
    assert torch.equal(on, {"jam_full": z == z, "jam_positive": z >= 0, "jam_rectangle": z.abs() <= 5}[name])


def test_matched_noise_on_units_that_are_all_off_is_no_nan() -> None:
    _, _, after = gated("jam_positive", {"match_mean": True}, "relu", torch.full((5,), -1.0, dtype=torch.float64))
    assert torch.equal(after, torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("key", GATES)
def test_leaving_satisfied_samples_out_changes_nothing(key: str) -> None:
    name, options, _ = GATES[key]
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=16)
    margin = nets.margin_between(model, x, y)
    found = []
    for sparse in (True, False):
        rule = credit.rule(name, model, loss="worst_violation", margin=margin, sparse=sparse, **options)
        share = float(rule.step(x, y).signals["output.active"])
        assert 0 < share < 0.9
        found.append(nets.gradients(model))
    for parameter, dense in found[1].items():
        torch.testing.assert_close(
            torch.from_numpy(found[0][parameter]), torch.from_numpy(dense), rtol=1e-9, atol=1e-13
        )


ONE_OF_EACH = {name: key for key, (name, _, _) in GATES.items()}.values()
COMPILED = [
    (key, act) if (key, act) in (("full", "identity"), ("triangle 3 x 0.7", "step"))
    else pytest.param(key, act, marks=pytest.mark.slow)
    for key, act in [*((key, "step") for key in ONE_OF_EACH), ("full", "identity"), ("logistic", "sigmoid")]
]  # fmt: skip
"""In `make test` one gate that draws and one that does not; the battery maps every rule."""


@pytest.mark.parametrize(("key", "act"), COMPILED)
def test_compiled_and_mapped_steps_equal_the_eager_one(key: str, act: str) -> None:
    name, options, _ = GATES[key]
    model = nets.mlp("relu")
    model[1], model[3] = activation(act), activation(act)
    x, y = nets.batch(model, (7,))
    eager = credit.rule(name, model, seed=3, **options)
    plain = eager.updates(x, y).updates
    compiled = credit.rule(name, copy.deepcopy(model), seed=3, compile="aot_eager", **options).updates(x, y).updates
    function, arguments = eager.functional(x, y)
    stacked = torch.utils._pytree.tree_map(lambda part: torch.stack([part, part]), arguments)
    with torch.no_grad():
        mapped = torch.func.vmap(function)(*stacked)[2]
    for parameter, update in plain.items():
        torch.testing.assert_close(compiled[parameter], update, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(mapped[parameter][1], update, rtol=1e-9, atol=1e-13)
