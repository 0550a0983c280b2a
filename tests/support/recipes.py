"""What the papers say each rule is, in the twins' words, and how its name and options are given to credit."""

from typing import Any

import numpy as np
import torch

from tests.support import nets, twins
from tests.support.twin_images import residual_updates
from tests.support.twins import Array, Gate, Signal

Recipe = tuple[Signal, Gate, bool]  # output signal, gate, whether D1 acts

CE: Recipe = (twins.cross_entropy, twins.derivative, False)


def recipes(margin: float) -> dict[str, Recipe]:
    """Recipe by name; `lisp_raw/ce` is lisp_raw with loss=ce."""
    ce, every, worst = twins.cross_entropy, twins.violations(margin), twins.worst_violation(margin)
    return {
        "bp": CE,
        "bp_hinge": (worst, twins.derivative, False),
        "bp_normhinge": (worst, twins.derivative, True),
        "lisp": (every, twins.responsive, True),
        "lisp_margin": (worst, twins.responsive, True),
        "lisp_ce": (ce, twins.responsive, True),
        "lisp_raw": (every, twins.responsive, False),
        "lisp_raw/ce": (ce, twins.responsive, False),
        "ste": (ce, twins.straight_through, False),
    }


NAMES = list(recipes(1.0))


def options_for(name: str, margin: float) -> dict[str, Any]:
    if name == "lisp_raw/ce":
        return {"loss": "ce"}
    unclipped = {"clip": None}  # which some rules' files choose; the papers' equations are without it
    return unclipped if name in ("bp", "lisp_ce", "ste") else {**unclipped, "margin": margin}


def assert_equal(found: dict[str, Array], updates: dict[str, Array]) -> None:
    """`p.grad` is minus the papers' update, to 1e-10."""
    assert found.keys() == updates.keys()
    for name, update in updates.items():
        np.testing.assert_allclose(-found[name], update, rtol=1e-10, atol=1e-13, err_msg=name)


def dense_twin(
    model: torch.nn.Sequential, activation: str, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, **back: Any
) -> dict[str, Array]:
    signal, gate, rms = recipe
    p = nets.parameters(model)
    layers = [name.removesuffix(".weight") for name in p if name.endswith("weight")]
    dW, db = twins.dense_updates(
        [p[f"{layer}.weight"] for layer in layers], [p[f"{layer}.bias"] for layer in layers], activation, x.numpy(),
        y.tolist(), signal=signal, gate=gate, normalize=twins.unit_rms if rms else twins.as_it_is, **back,
    )  # fmt: skip
    return {f"{layer}.{role}": value for at, layer in enumerate(layers)
            for role, value in (("weight", dW[at]), ("bias", db[at]))}  # fmt: skip


SMOOTH = ["relu", "tanh", "sigmoid", "leaky_relu", "hardtanh"]


def image_twin(
    model: nets.Residual, activation: str, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, **back: Any
) -> dict[str, Array]:
    signal, gate, rms = recipe
    normalize = twins.unit_rms if rms else twins.as_it_is
    return residual_updates(
        nets.parameters(model), activation, x.numpy(), y.tolist(), signal=signal, gate=gate, normalize=normalize, **back
    )
