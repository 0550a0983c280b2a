"""Every sweep rule on a small residual network of convolutions, BatchNorm and max-pooling against its twin."""

import numpy as np
import pytest
import torch

import credit
from tests.support import nets
from tests.support.recipes import CE, NAMES, assert_equal, image_twin, options_for, recipes

SHAPE = (2, 5, 7)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batchnorm"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "step"])
@pytest.mark.parametrize("name", NAMES)
def test_rule_equals_its_twin(name: str, activation: str, norm: bool) -> None:
    if activation == "step" and name.startswith("bp"):
        activation = "hardtanh"  # the derivative of step is refused
    model = nets.Residual(activation, norm)
    x, y = nets.batch(model, SHAPE, n=8)
    margin = nets.margin_between(model, x, y)
    rule = credit.rule(name.split("/")[0], model, **options_for(name, margin))
    step = rule.step(x, y)
    assert_equal(nets.gradients(model), image_twin(model, activation, x, y, recipes(margin)[name]))
    if options_for(name, margin).get("margin"):  # the batch holds satisfied and violated samples
        assert 0.1 < float(step.signals["output.active"]) < 0.9


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batchnorm"])
@pytest.mark.parametrize("scale", ["matched", "xavier"])
@pytest.mark.parametrize("name", ["fa", "usf", "frsf"])
def test_feedback_that_is_not_the_weights(name: str, scale: str, norm: bool) -> None:
    model = nets.Residual("tanh", norm)
    x, y = nets.batch(model, SHAPE)
    rule = credit.rule(name, model, feedback_scale=scale)
    rule.step(x, y)
    feedback = {}
    for layer in ("block", "last", "head"):
        W = nets.parameters(model)[f"{layer}.weight"]
        fans = (W.shape[0] + W.shape[1]) * int(np.prod(W.shape[2:]))
        B = np.broadcast_to(rule.buffers[f"feedback.{layer}.weight"].numpy(), W.shape)
        if scale == "matched":
            np.testing.assert_allclose(np.sum(B**2), np.sum(W**2), rtol=1e-12)
        elif name == "usf":
            np.testing.assert_allclose(B, np.sqrt(2 / fans), rtol=1e-12)
        else:
            assert 0.5 * np.sqrt(6 / fans) < np.abs(B).max() <= np.sqrt(6 / fans)
        feedback[layer] = B if name == "fa" else np.sign(W) * np.abs(B)
    assert_equal(nets.gradients(model), image_twin(model, "tanh", x, y, CE, feedback=feedback))


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batchnorm"])
@pytest.mark.parametrize("dfa_map", ["dense", "channels"])
def test_direct_feedback_replaces_every_crossing_of_weights(dfa_map: str, norm: bool) -> None:
    """B maps e to the input of a layer: pools, norms and residual sums between are crossed as in backprop."""
    model = nets.Residual("tanh", norm)
    x, y = nets.batch(model, SHAPE)
    rule = credit.rule("dfa", model, dfa_map=dfa_map)
    rule.step(x, y)
    inputs = {"head": (8,), "last": (3, 2, 3), "block": (3, 5, 7)}
    direct = {}
    for layer, shape in inputs.items():
        B = rule.buffers[f"feedback.{layer}"].numpy()
        if dfa_map == "channels" and len(shape) == 3:
            assert B.shape == (nets.CLASSES, shape[0])
            B = B[:, :, None, None] * np.ones((1, 1, *shape[1:]))
        assert B.shape == (nets.CLASSES, *shape)
        direct[layer] = B
    assert_equal(nets.gradients(model), image_twin(model, "tanh", x, y, CE, direct=direct))


def test_brsf_draws_for_every_crossing_by_the_position() -> None:
    model = nets.Residual("identity", norm=False)
    x, y = nets.batch(model, SHAPE)
    rule = credit.rule("brsf", model)
    seen = []
    for position in (0, 0, 1):
        rule.position = position
        rule.step(x, y)
        seen.append(nets.gradients(model))
    for name in seen[0]:
        np.testing.assert_array_equal(seen[0][name], seen[1][name], err_msg=name)
        same = np.array_equal(seen[0][name], seen[2][name])
        assert same == name.startswith("head"), name  # nothing random has touched the top layer's update


def test_batchnorm_moves_its_running_statistics_as_torch_does() -> None:
    model, plain = nets.Residual("relu", norm=True), nets.Residual("relu", norm=True)
    x, y = nets.batch(model, SHAPE)
    rule = credit.rule("lisp_margin", model)
    for _ in range(3):
        rule.step(x, y)
        plain(x)
    for (name, mine), (_, torchs) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-14, msg=name)
