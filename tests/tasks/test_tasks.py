"""Tasks by themselves: output errors against autograd, measures against scikit-learn, and refusals."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import nn

from credit.core.errors import UserError
from credit.rules.backward.losses import CrossEntropy, HalfSquaredError, SquaredError, Usual
from credit.tasks.base import fitting, of
from credit.tasks.primary import ACCURACY, Primary, primary_of
from credit.tasks.regression import Regression


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


NAMES = ("classification", "binary", "regression", "tokens", "reconstruction")


def outputs_and_targets(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    random = source(0)
    if name == "binary":
        return torch.rand(6, 1, generator=random, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    if name == "tokens":
        return torch.randn(4, 5, 7, generator=random, dtype=torch.float64), torch.randint(7, (4, 5), generator=random)
    if name == "classification":
        return torch.randn(6, 4, generator=random, dtype=torch.float64), torch.randint(4, (6,), generator=random)
    shape = (6, 3) if name == "regression" else (6, 1, 4, 4)
    out, y = (torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(2))
    return out, y


CASES = [
    ("classification", Usual(), lambda o, y: F.cross_entropy(o, y)),
    ("classification", SquaredError(), lambda o, y: F.mse_loss(o, F.one_hot(y, 4).double())),
    ("binary", CrossEntropy(), lambda o, y: F.binary_cross_entropy(o[:, 0], y.double())),
    ("regression", Usual(), F.mse_loss),
    ("regression", HalfSquaredError(), lambda o, y: 0.5 * (o - y).square().sum() / len(o)),
    ("tokens", Usual(), lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten())),
    ("tokens", SquaredError(), lambda o, y: F.mse_loss(o, F.one_hot(y, 7).double())),
    ("reconstruction", Usual(), F.mse_loss),
]


@pytest.mark.parametrize(("name", "loss", "function"), CASES)
def test_the_output_error_is_the_gradient_of_the_loss(name, loss, function):
    out, y = outputs_and_targets(name)
    out.requires_grad_()
    expected = function(out, y)
    (gradient,) = torch.autograd.grad(expected, out)
    with torch.no_grad():
        error, value = of(name).score(loss, out, y)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(error, gradient)


def means(task, out, y):
    return {key: value.double() / len(y) for key, value in task.sums(out, y).items()}


def test_measures_of_a_regression_are_scikit_learns_in_the_units_of_the_targets():
    out, y = outputs_and_targets("regression")
    shift, scale = torch.tensor([5.0, -3.0, 100.0]).double(), torch.tensor([2.0, 0.1, 30.0]).double()
    task = Regression(shift, scale)
    got = task.measures(means(task, out, y))
    truth, predicted = y * scale + shift, task.predict(out)
    assert got["r2"] == pytest.approx(r2_score(truth, predicted))
    assert got["rmse"] == pytest.approx(root_mean_squared_error(truth, predicted))
    assert got["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert got["loss"] == pytest.approx(F.mse_loss(out, y).item())


@pytest.mark.parametrize("exact", [True, False])
def test_r2_of_a_constant_target_is_scikit_learns(exact):
    y = torch.full((5, 1), 0.3, dtype=torch.float64)
    out = y.clone() if exact else y + torch.arange(5)[:, None]
    assert Regression().measures(means(Regression(), out, y))["r2"] == r2_score(y, out) == float(exact)


def test_measures_of_tokens_are_means_over_positions():
    out, y = outputs_and_targets("tokens")
    got = of("tokens").measures(means(of("tokens"), out, y))
    flat = F.cross_entropy(out.flatten(0, 1), y.flatten()).item()
    assert got["loss"] == pytest.approx(flat) and got["bits"] == pytest.approx(flat / torch.log(torch.tensor(2.0)))
    assert got["top1"] == pytest.approx((out.argmax(2) == y).double().mean().item())


def test_a_reconstruction_is_measured_by_the_share_of_variance():
    x, _ = outputs_and_targets("reconstruction")
    task = of("reconstruction")
    mean = x.mean(0, keepdim=True).expand_as(x)
    assert task.measures(means(task, mean, x))["r2"] == pytest.approx(0.0, abs=1e-9)
    assert task.measures(means(task, x.flatten(1), x)) == {"loss": 0.0, "r2": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_batch_is_one_of_the_task(name):
    task = of(name)
    x, y = task.example((6,), 6 if name != "binary" else 2, 8, source(1))
    assert task.wanted(x, y) is None and len(x) == 8


@pytest.mark.parametrize(
    ("name", "y", "words"),
    [
        ("classification", torch.zeros(3), "one int64 label a sample, shape (3,)"),
        ("regression", torch.zeros(3, dtype=torch.int64), "floating-point targets of shape (3, targets)"),
        ("tokens", torch.zeros(3, 4, dtype=torch.int64), "the token that follows each one, int64 of shape (3, 5)"),
        ("reconstruction", torch.zeros(3, 4), "the inputs, of shape (3, 5): step(x, x)"),
    ],
)
def test_targets_of_another_kind_are_described(name, y, words):
    assert of(name).wanted(torch.zeros(3, 5), y) == words


@pytest.mark.parametrize(
    ("name", "out", "y", "words"),
    [
        ("regression", (3, 2), torch.zeros(3, 1), "returns (3, 2) for targets (3, 1); a regression needs one number a target"),
        ("tokens", (3, 7), torch.zeros(3, 5).long(), "returns (3, 7) for tokens (3, 5)"),
        ("tokens", (3, 5, 7), torch.full((3, 5), 7), "token 7 is outside [0, 7), the tokens of the model's logits"),
        ("reconstruction", (3, 4), torch.zeros(3, 5), "a reconstruction has as many numbers"),
        ("classification", (3, 4), torch.full((3,), -1), "label -1 is outside [0, 4)"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_explained(name, out, y, words):
    assert words in str(of(name).problem(nn.Linear(1, 1), torch.zeros(out), y))


def test_a_task_without_a_name_of_its_own_is_refused():
    with pytest.raises(UserError, match="task='regresion': there is no task of this name; did you mean 'regression'"):
        of("regresion")


def test_a_probability_is_binary_and_nothing_else():
    class One(nn.Linear):
        output_kind = "probability"

    assert fitting("classification", One(2, 1)).name == "binary"
    with pytest.raises(UserError, match=r"One gives one number.*the outputs of regression are numbers \(B, targets\)"):
        fitting("regression", One(2, 1))


def test_the_primary_measure_is_read_from_a_result():
    loss = Primary("loss", "loss", higher=False, share=False)
    assert primary_of({}) == ACCURACY and primary_of(loss.entry()) == loss and ACCURACY.entry() == {}
    assert loss.better(1.0, 2.0) and ACCURACY.better(2.0, 1.0) and not loss.better(1.0, 1.0)
    assert (ACCURACY.text(0.9), loss.text(1.5), loss.on_test({"test_loss": 1.25})) == ("90.00%", "loss 1.5", "1.25")
