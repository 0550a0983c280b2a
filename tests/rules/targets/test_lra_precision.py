"""What error synapses send down a deep network is not lost in the rounding of the activities it is the difference of."""

from typing import Any

import pytest
import torch

import credit
from tests.support.architectures import mlp
from tests.support.covering import covering

DEPTH = 8


def updates(activation: str, precision: str, name: str, **options: Any) -> dict[str, torch.Tensor]:
    """Updates of eight small layers, in float64; weights, synapses and batch are the same in every precision."""
    torch.manual_seed(0)
    model = mlp((64,), 10, widths=[64] * DEPTH, activation=activation, init="gaussian", init_std=0.1)
    draw = torch.Generator().manual_seed(1)
    x, y = torch.rand(16, 64, generator=draw), torch.randint(0, 10, (16,), generator=draw)
    drawn = dict(credit.rule(name, model, example=x, **options).named_parameters())
    if precision == "float64":
        model, x = model.double(), x.double()
    rule = credit.rule(name, model, precision=precision, example=x, **options)
    with torch.no_grad():
        for key, p in rule.named_parameters():
            p.copy_(drawn[key])
    return {key: update.double() for key, update in rule.updates(x, y).updates.items()}


@pytest.mark.parametrize(
    ("activation", "told"),
    covering(1, ("tanh", "sigmoid", "relu", "leaky_relu", "elu"),
             ({}, {"p": 1.5, "q": 2.0}, {"error_update": "paper_alg1"}, {"beta": 1e-2}), slow=2),
)  # fmt: skip
def test_single_precision_keeps_the_errors_of_the_lowest_of_eight_layers(activation: str, told: dict[str, Any]) -> None:
    """Each is beta times f' as large as the one above: subtracting targets from activities left nothing of those of logistic
    units, and noise that Adam made full steps of for others."""
    found, exact = (updates(activation, word, "lra_e", **told) for word in ("float32", "float64"))
    for name, update in exact.items():
        size = float(update.abs().max())
        if size > 1e-35:  # float32 has no smaller numbers
            torch.testing.assert_close(found[name], update, rtol=1e-3, atol=2e-4 * size)
    assert float(exact["fc1.weight"].norm()) < 1e-2 * float(exact[f"fc{DEPTH}.weight"].norm())


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("name", ["rec_lra", "lra_e"])
def test_half_precision_keeps_their_direction(name: str, activation: str) -> None:
    found, exact = (updates(activation, word, name) for word in ("bf16", "float64"))
    for key, update in exact.items():
        assert float((found[key] * update).sum() / found[key].norm() / update.norm()) > 0.95, key
