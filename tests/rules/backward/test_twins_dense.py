"""Every sweep rule on dense networks against its twin, in float64."""

import numpy as np
import pytest
import torch

import credit
from tests.support import nets, twins
from tests.support.recipes import CE, NAMES, assert_equal, dense_twin, options_for, recipes

SMOOTH = ["relu", "tanh", "sigmoid", "leaky_relu", "hardtanh"]
# The derivative of step and sign is refused: test_refusals.py.
PAIRS = [(name, act) for name in NAMES for act in (SMOOTH if name.startswith("bp") else [*SMOOTH, "step", "sign"])]


@pytest.mark.parametrize(("name", "activation"), PAIRS)
def test_rule_equals_its_twin(name: str, activation: str) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,), n=9)
    margin = nets.margin_between(model, x, y)
    rule = credit.rule(name.split("/")[0], model, **options_for(name, margin))
    step = rule.step(x, y)
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, recipes(margin)[name]))
    if options_for(name, margin).get("margin"):  # the batch holds satisfied and violated samples
        assert 0.1 < float(step.signals["output.active"]) < 0.9


@pytest.mark.parametrize("margin", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("name", ["bp_hinge", "lisp", "lisp_margin", "lisp_raw"])
def test_margin_is_the_margin_of_the_constraints(name: str, margin: float) -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,), n=9)
    credit.rule(name, model, margin=margin, clip=None).step(x, y)
    assert_equal(nets.gradients(model), dense_twin(model, "relu", x, y, recipes(margin)[name]))


@pytest.mark.parametrize("activation", SMOOTH)
def test_feedback_alignment_uses_the_matrices_it_holds(activation: str) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("fa", model)
    assert {name: tuple(b.shape) for name, b in rule.buffers.items()} == {
        "feedback.2.weight": (9, 11),
        "feedback.4.weight": (5, 9),
    }
    feedback = [np.zeros((11, 7)), *(rule.buffers[f"feedback.{at}.weight"].numpy() for at in (2, 4))]
    rule.step(x, y)
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, CE, feedback=feedback))
    mine = torch.linspace(-1, 1, 45, dtype=torch.float64).view(5, 9)
    rule.buffers["feedback.4.weight"] = mine
    rule.step(x, y)
    feedback[2] = mine.numpy()
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, CE, feedback=feedback))


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("given", [False, True])
def test_direct_feedback_alignment_brings_the_output_error_to_every_layer(activation: str, given: bool) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("dfa", model)
    if given:
        rule.buffers["feedback.2"] = torch.linspace(-2, 1, 55, dtype=torch.float64).view(5, 11)
    rule.step(x, y)
    first, second = rule.buffers["feedback.2"].numpy(), rule.buffers["feedback.4"].numpy()
    assert (first.shape, second.shape) == ((5, 11), (5, 9))
    if given:
        assert first[0, 0] == -2
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, CE, direct=[first.T, second.T]))


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("scale", ["matched", "xavier"])
@pytest.mark.parametrize("name", ["usf", "frsf"])
def test_sign_concordant_feedback(name: str, scale: str, activation: str) -> None:
    model = nets.mlp(activation)
    x, y = nets.batch(model, (7,))
    rule = credit.rule(name, model, feedback_scale=scale)
    rule.step(x, y)
    p, feedback = nets.parameters(model), []
    for at in (0, 2, 4):
        W = p[f"{at}.weight"]
        if name == "usf":
            matched = np.sqrt(np.mean(W**2))
            size = np.full_like(W, matched if scale == "matched" else np.sqrt(2 / (W.shape[0] + W.shape[1])))
        else:
            size = np.abs(rule.buffers[f"feedback.{at}.weight"].numpy()) if at else np.zeros_like(W)
        feedback.append(np.sign(W) * size)
    assert_equal(nets.gradients(model), dense_twin(model, activation, x, y, CE, feedback=feedback))


@pytest.mark.parametrize("scale", ["matched", "xavier"])
def test_brsf_draws_new_magnitudes_under_the_weights_signs_each_step(scale: str) -> None:
    """The matrix of a step is found from what it does: on a linear network one sample's bias updates are its signals."""
    model = nets.mlp("identity", (7, 6, 3, 5))
    x, y = nets.batch(model, (7,), n=8)
    rule = credit.rule("brsf", model, feedback_scale=scale)
    xavier = (6 / (6 + 3)) ** 0.5
    bound = (
        xavier if scale == "xavier" else float(model.get_parameter("2.weight").detach().square().mean().mul(3).sqrt())
    )
    found = []
    for position in (0, 1):
        above, below = [], []
        for i in range(len(x)):
            rule.position = position
            rule.step(x[i : i + 1], y[i : i + 1])
            grads = nets.gradients(model)
            above.append(grads["2.bias"])
            below.append(grads["0.bias"])
        B, misfit, rank, _ = np.linalg.lstsq(np.stack(above), np.stack(below), rcond=None)
        assert rank == 3
        np.testing.assert_allclose(misfit, 0, atol=1e-20)  # one matrix a step, the same for every sample
        assert (np.sign(B) == np.sign(model.get_parameter("2.weight").detach().numpy())).all()
        assert (np.abs(B) < bound).all()
        rule.position = position
        rule.step(x, y)
        grads = nets.gradients(model)
        np.testing.assert_allclose(grads["0.bias"], np.mean(below, 0), rtol=1e-10, atol=1e-13)
        found.append(B)
    assert np.abs(np.abs(found[0]) - np.abs(found[1])).min() > 1e-6


def test_choices_of_several_papers_combine() -> None:
    """What no paper names: violations, responsiveness, D1 and random feedback together."""
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("lisp", model, feedback_weights="fixed_random", margin=2.0, clip=None)
    rule.step(x, y)
    feedback = [np.zeros((11, 7)), *(rule.buffers[f"feedback.{at}.weight"].numpy() for at in (2, 4))]
    recipe = (twins.violations(2.0), twins.responsive, True)
    assert_equal(nets.gradients(model), dense_twin(model, "tanh", x, y, recipe, feedback=feedback))


def test_of_equal_worst_violations_one_is_taken() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4)).double()
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
        model.get_parameter("0.bias").copy_(torch.tensor([0.0, 2.0, 2.0, 2.0]))
    x, y = torch.ones(2, 3, dtype=torch.float64), torch.tensor([0, 2])
    credit.rule("bp_hinge", model).step(x, y)
    # v = 3 for each of the three above class 0; v = 1 for each of the two that equal class 2
    expected = np.mean([[3, -3, 0, 0], [0, -1, 1, 0]], 0)
    assert_equal(nets.gradients(model), {"0.bias": expected, "0.weight": np.outer(expected, np.ones(3))})
