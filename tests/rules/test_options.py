"""Options of the sweep and of all rules: signal dropout, clipping, re-projection, windows, the override of Pi."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import credit
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Computed
from tests.support import nets, twins
from tests.support.recipes import assert_equal, dense_twin, image_twin, recipes


@pytest.mark.parametrize("activation", ["step", "sign", "relu", "hardtanh"])
def test_without_the_override_steps_block_the_signal(activation: str) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,))
    credit.rule("lisp_ce", model, override=False).step(x, y)
    recipe = (twins.cross_entropy, twins.responsive_without_override, True)
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, recipe))
    assert (nets.gradients(model)["2.weight"] == 0).all() == (activation in ("step", "sign"))


@pytest.mark.parametrize("activation", ["step", "sign", "tanh"])
def test_the_clipped_window_of_the_straight_through_estimator(activation: str) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,), n=9)
    credit.rule("ste", model, ste_window="clipped").step(x, y)
    clipped = nets.gradients(model)
    recipe = (twins.cross_entropy, twins.straight_through_clipped, False)
    assert_equal(clipped, dense_twin(model, activation, x, y, recipe))
    credit.rule("ste", model).step(x, y)
    assert np.array_equal(clipped["0.weight"], nets.gradients(model)["0.weight"]) == (activation == "tanh")


def test_windows_and_steps_on_images() -> None:
    model = nets.Residual("sign", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    credit.rule("ste", model, ste_window="clipped").step(x, y)
    recipe = (twins.cross_entropy, twins.straight_through_clipped, False)
    assert_equal(nets.gradients(model), image_twin(model, "sign", x, y, recipe))


# --- constraint dropout (LISP Appendix B) -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("name", ["lisp_margin", "lisp_ce", "lisp_raw"])
def test_constraint_dropout_zeroes_elements_of_every_arriving_signal(name: str, share: float) -> None:
    """With one sample, bias updates are the arriving signals: each is the twin's next signal, or 0 (inverted dropout)."""
    model = nets.mlp("tanh", (7, 41, 37, 5))
    x, y = nets.batch(model, (7,), n=1)
    y = (y + 1) % 5
    rule = credit.rule(name, model, signal_dropout=share, clip=None)
    signal, gate, rms = recipes(1.0)[name]
    normalize = twins.unit_rms if rms else twins.as_it_is
    p, kept = nets.parameters(model), []
    h1 = np.tanh(p["0.weight"] @ x[0].numpy() + p["0.bias"])
    h2 = np.tanh(p["2.weight"] @ h1 + p["2.bias"])
    z = {"0": np.arctanh(h1), "2": np.arctanh(h2)}
    for _ in range(20):
        rule.step(x, y)
        arrived = {layer: -nets.gradients(model)[f"{layer}.bias"] for layer in ("0", "2", "4")}
        full = {"4": normalize(signal(p["4.weight"] @ h2 + p["4.bias"], int(y)))}
        for above, below in (("4", "2"), ("2", "0")):
            full[below] = normalize(gate("tanh", z[below], p[f"{above}.weight"].T @ arrived[above]))
        for layer, d in full.items():
            passed = arrived[layer] != 0
            np.testing.assert_allclose(arrived[layer][passed], d[passed] / (1 - share), rtol=1e-9)
            if layer != "4" and (d != 0).all():
                kept.append(passed.mean())
    if kept and (share < 0.9 or name == "lisp_ce"):
        spread = math.sqrt(share * (1 - share) / (len(kept) * 37))
        assert abs(np.mean(kept) - (1 - share)) < 4 * spread


def test_constraint_dropout_is_drawn_per_sample_per_step_and_by_the_seed() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=1)

    def update(seed: int, position: int, copies: int = 1) -> np.ndarray:
        rule = credit.rule("lisp_ce", model, signal_dropout=0.5, seed=seed)
        rule.position = position
        rule.step(x.expand(copies, -1), y.expand(copies))
        return nets.gradients(model)["0.weight"]

    np.testing.assert_array_equal(update(1, 4), update(1, 4))
    assert not np.array_equal(update(1, 4), update(1, 5))
    assert not np.array_equal(update(1, 4), update(2, 4))
    assert np.linalg.matrix_rank(update(1, 4, copies=1)) == 1
    assert not np.allclose(update(1, 4, copies=2), update(1, 4, copies=1))  # equal samples, masks of their own


def test_constraint_dropout_of_zero_is_none() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    credit.rule("lisp_ce", model).step(x, y)
    plain = nets.gradients(model)
    credit.rule("lisp_ce", model, signal_dropout=0).step(x, y)
    for name, update in nets.gradients(model).items():
        np.testing.assert_array_equal(update, plain[name])


# --- what any rule's update may suffer --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lisp_margin", "bp", "fa", "dfa"])
@pytest.mark.parametrize("share", [1e-3, 0.05, 1e3])
def test_clip_limits_each_update_to_a_share_of_its_parameter(name: str, share: float) -> None:
    """LISP section 2: ||dW||_F <= eps ||W||_F, the direction kept."""
    model = nets.Residual("relu", norm=True)
    x, y = nets.batch(model, (2, 5, 7))
    credit.rule(name, model, clip=None).step(x, y)
    free = nets.gradients(model)
    credit.rule(name, model, clip=share).step(x, y)
    for key, update in nets.gradients(model).items():
        size, limit = np.linalg.norm(free[key]), share * np.linalg.norm(nets.parameters(model)[key])
        np.testing.assert_allclose(
            update, free[key] * min(1.0, float(limit / size)), rtol=1e-12, atol=1e-16, err_msg=key
        )
        assert np.linalg.norm(update) <= limit * (1 + 1e-12)


def test_clip_leaves_a_parameter_that_is_zero_its_update() -> None:
    model = nets.mlp("relu")
    with torch.no_grad():
        model.get_parameter("2.bias").zero_()
    x, y = nets.batch(model, (7,))
    credit.rule("bp", model).step(x, y)
    free = nets.gradients(model)["2.bias"]
    credit.rule("bp", model, clip=1e-3).step(x, y)
    np.testing.assert_array_equal(nets.gradients(model)["2.bias"], free)


@pytest.mark.parametrize("name", ["lisp", "bp", "dfa"])
@pytest.mark.parametrize("radius", [1e-3, 1e3])
def test_reproject_rescales_updates_outside_the_ball(name: str, radius: float) -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    credit.rule(name, model).step(x, y)
    free = nets.gradients(model)
    credit.rule(name, model, reproject=radius).step(x, y)
    for key, update in nets.gradients(model).items():
        expected = free[key] * min(1.0, radius / float(np.linalg.norm(free[key])))
        np.testing.assert_allclose(update, expected, rtol=1e-12, err_msg=key)


def test_updates_that_are_zero_survive_both_transforms() -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    with torch.no_grad():
        y[:] = 3
        model.get_parameter("4.bias")[3] += 1e3
    credit.rule("lisp_margin", model, clip=0.1, reproject=0.1).step(x, y)
    for key, update in nets.gradients(model).items():
        assert (update == 0).all(), key


def test_transforms_of_ones_own_are_applied_in_order() -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("bp", model)
    rule.step(x, y)
    free = nets.gradients(model)
    seen: list[str] = []

    def shift(parameters: Mapping[str, torch.Tensor], updates: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.extend(updates)
        return {name: update + 1 for name, update in updates.items()}

    rule.transforms += [shift, lambda parameters, updates: {name: update * 2 for name, update in updates.items()}]
    rule.step(x, y)
    assert sorted(seen) == sorted(free)
    np.testing.assert_allclose(nets.gradients(model)["0.weight"], (free["0.weight"] + 1) * 2)


def test_frozen_parameters_receive_nothing_and_signals_pass_them() -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("lisp_ce", model)
    rule.step(x, y)
    whole = nets.gradients(model)
    frozen: nn.Module = nets.mlp("tanh")
    for name in ("2.weight", "4.bias"):
        frozen.get_parameter(name).requires_grad_(False)
    credit.rule("lisp_ce", frozen).step(x, y)
    for name, p in frozen.named_parameters():
        assert (p.grad is None) == (name in ("2.weight", "4.bias")), name
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), whole[name], rtol=1e-12, atol=1e-15)


def test_transforms_leave_a_rules_own_tensors_as_they_are() -> None:
    class Summed(BackwardRule):
        """Hands out what it keeps, and one tensor for two parameters."""

        def compute(self, params: Any, buffers: Any, x: torch.Tensor, y: torch.Tensor, draws: Any) -> Computed:
            made = super().compute(params, buffers, x, y, draws)
            self.kept = {name: torch.ones_like(update) for name, update in made.updates.items()}
            self.kept["4.bias"] = torch.ones(1, dtype=x.dtype).expand(5)
            return dataclasses.replace(made, updates=dict(self.kept))

    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    rule = Summed(model, {"reproject": 0.5})
    rule.step(x, y)
    for name, kept in rule.kept.items():
        assert (kept == 1).all(), name
        assert float(np.linalg.norm(nets.gradients(model)[name])) == pytest.approx(0.5), name


def test_a_frozen_output_layer_spares_no_other_from_clipping() -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    model.get_submodule("4").requires_grad_(False)
    credit.rule("lisp_raw", model, clip=1e-3, clip_output=False).step(x, y)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            size, whole = (float(torch.linalg.vector_norm(t.detach())) for t in (parameter.grad, parameter))
            assert size <= 1.001e-3 * whole, name
