"""Theorem 4 (LISP section 3.2): every term of inequality (5) against autograd in float64, and the inequality itself."""

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.diagnostics.descent import Descent
from credit.models import build

CLIPPED: dict[str, Any] = {"clip": 0.01, "clip_output": False}


class Run:
    """A run's parts, and one watched step of it."""

    def __init__(self, model: nn.Module, rule: str, lr: float, *, optimizer: Any = None, **options: Any) -> None:
        self.model, self.step = model, 0
        precision = "float64" if next(model.parameters()).dtype == torch.float64 else "float32"
        self.rule = credit.rule(rule, model, precision=precision, **options)
        self.optimizer = optimizer or torch.optim.SGD(model.parameters(), lr)
        self.descent = Descent(self)

    def watched(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        self.descent.before(x, y)
        outcome = self.rule.step(x, y)
        self.optimizer.step()
        self.step += 1
        return self.descent.after(x, y, outcome)


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    return build({"kind": "mlp", "widths": [20, 16]}, (12,), 5, seed=0).to(dtype)


def batch(dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    y = torch.arange(40) % 5
    centres = torch.randn(5, 12, generator=torch.Generator().manual_seed(9))
    return (centres[y] + 0.5 * torch.randn(40, 12, generator=source)).to(dtype), y


class Twin(NamedTuple):
    S: float
    gradient: dict[str, Tensor]
    weights: dict[str, Tensor]


def by_autograd(model: nn.Module, x: Tensor, y: Tensor, margin: float) -> Twin:
    """S of Eq. 2, written out with one-hot labels, and its gradient."""
    plain = copy.deepcopy(model)
    plain.zero_grad()
    z = plain(x)
    mine = F.one_hot(y, z.shape[1]).to(z)
    violation = F.relu(margin - (z * mine).sum(1, keepdim=True) + z) * (1 - mine)
    S = (violation**2).sum() / (2 * len(y))
    S.backward()
    gradient = {name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}
    return Twin(float(S.detach()), gradient, {name: p.detach().clone() for name, p in plain.named_parameters()})


def flat(values: dict[str, Tensor], layer: str = "") -> Tensor:
    return torch.cat([value.flatten() for name, value in values.items() if name.startswith(layer)])


@pytest.mark.parametrize("rule", ["lisp_raw", "lisp", "lisp_margin", "bp", "dfa"])
@pytest.mark.parametrize("lr", [0.03, 3.0])
def test_every_term_is_autograds(rule: str, lr: float) -> None:
    model, (x, y) = network(), batch()
    margin = {} if rule in ("bp", "dfa") else {"margin": 1.5}
    run = Run(
        model, rule, lr, seed=7, **CLIPPED, **margin
    )  # of this seed's matrices, DFA's are aligned in one layer of two
    before = by_autograd(model, x, y, margin.get("margin", 1.0))
    found = run.watched(x, y)
    after = by_autograd(model, x, y, margin.get("margin", 1.0))
    step = {name: after.weights[name] - value for name, value in before.weights.items()}
    D, g = flat(step), flat(before.gradient)
    curvature = 2 * (after.S - before.S - D @ g) / (D @ D)
    change = (flat(after.gradient) - g).norm() / D.norm()
    L = max(curvature, change)
    hidden = ["fc1", "fc2"]
    ratios = [flat(step, layer).norm() / (lr * flat(before.weights, layer).norm()) for layer in hidden]
    inner = [flat(step, layer) @ flat(before.gradient, layer) for layer in hidden]
    cosines = [F.cosine_similarity(flat(step, layer), flat(before.gradient, layer), dim=0) for layer in hidden]
    output = flat(before.gradient, "head")
    bound = before.S - lr / 2 * output @ output
    bound = bound + L * lr**2 * 0.01**2 / 2 * sum(flat(before.weights, layer).norm() ** 2 for layer in hidden)
    expected = {
        "S": before.S, "S_after": after.S, "eta": lr, "epsilon": 0.01, "curvature": curvature, "gradient_change": change,
        "smoothness": L, "A1": max(ratios), "A2": lr * L, "A3_worst": max(cosines), "bound": bound,
        "A3": sum(float(value) <= 0 for value in inner) / 2, "holds": bound >= after.S, "descends": after.S <= before.S,
        "A1_holds": max(ratios) <= 0.01 * (1 + 1e-9), "A2_holds": lr * L <= 1, "A3_holds": max(inner) <= 0,
        "output_gap": (flat(step, "head") + lr * output).norm() / (lr * output.norm()),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-7, abs=1e-9), name
    for layer, ratio, cosine in zip(hidden, ratios, cosines, strict=True):
        assert found["layers"][layer] == {"ratio": pytest.approx(float(ratio)), "cosine": pytest.approx(float(cosine))}
    assert list(found["layers"]) == hidden
    assert found["output_holds"] == (rule == "lisp_raw")
    if lr == 0.03:
        assert found["A3"] == (0.5 if rule == "dfa" else 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_assumptions_hold_the_inequality_does_along_a_whole_training(dtype: torch.dtype) -> None:
    run = Run(network(dtype), "lisp_raw", 0.02, **CLIPPED)
    rows = [run.watched(*batch(dtype, seed)) for seed in range(200)]
    assert all(row["A1_holds"] and row["output_holds"] for row in rows)
    assert sum(row["applies"] for row in rows) > 150
    assert all(row["holds"] for row in rows if row["applies"])
    assert rows[-1]["S"] < 0.5 * rows[0]["S"]


@pytest.mark.parametrize(
    ("broken", "rule", "options", "lr", "momentum"),
    [
        ("A2_holds", "lisp_raw", CLIPPED, 50.0, 0.0),
        ("output_holds", "lisp_raw", {"clip": 0.01}, 0.02, 0.0),  # the output layer is clipped as well
        ("output_holds", "lisp_margin", CLIPPED, 0.02, 0.0),
        ("A1_holds", "lisp_raw", CLIPPED, 0.02, 0.9),
        ("A3_holds", "dfa", CLIPPED | {"seed": 7}, 0.02, 0.0),
    ],
)
def test_says_which_assumption_fails(broken: str, rule: str, options: Any, lr: float, momentum: float) -> None:
    model = network()
    run = Run(model, rule, lr, optimizer=torch.optim.SGD(model.parameters(), lr, momentum), **options)
    rows = [run.watched(*batch(seed=seed)) for seed in range(5)]
    assert not all(row[broken] for row in rows)
    assert not all(row["applies"] for row in rows)


def test_a_step_that_is_too_long_climbs_and_is_reported() -> None:
    found = Run(network(), "lisp_raw", 50.0).watched(*batch())
    assert (found["descends"], found["A2_holds"], found["applies"]) == (0, 0, 0) and found["S_after"] > found["S"]


def test_without_clipping_epsilon_is_the_smallest_that_fits() -> None:
    found = Run(network(), "lisp_raw", 0.01).watched(*batch())
    assert found["epsilon"] == found["A1"] == max(layer["ratio"] for layer in found["layers"].values())
    assert found["applies"] and found["holds"]


def test_the_clip_option_leaves_the_output_layer_alone() -> None:
    x, y = batch()
    updates = {}
    cases: dict[str, dict[str, Any]] = {
        "none": {},
        "all": {"clip": 1e-3},
        "hidden": {"clip": 1e-3, "clip_output": False},
    }
    for key, options in cases.items():
        model = network()
        credit.rule("lisp_raw", model, precision="float64", **options).step(x, y)
        updates[key] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for name in updates["none"]:
        same = "none" if name.startswith("head") else "all"
        assert torch.equal(updates["hidden"][name], updates[same][name]), name
        assert not torch.equal(updates["all"][name], updates["none"][name]), name
    with pytest.raises(UserError, match="rule.clip_output=false would change nothing.*rule.clip above 0"):
        credit.rule("lisp_raw", network(), clip_output=False)


def test_batch_norm_and_dropout_are_those_of_the_step_and_nothing_is_touched() -> None:
    model = nn.Sequential(
        nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5)
    )  # fmt: skip
    untouched = copy.deepcopy(model)
    x, y = batch(torch.float32)
    run = Run(model, "lisp_raw", 0.01, **CLIPPED)
    plain = credit.rule("lisp_raw", untouched, **CLIPPED)
    optimizer = torch.optim.SGD(untouched.parameters(), 0.01)
    stream = torch.get_rng_state()
    for _ in range(3):
        found = run.watched(x, y)
        outcome = plain.step(x, y)
        optimizer.step()
        # The raw signal's loss is S itself: the same masks, the same batch statistics.
        assert found["S"] == pytest.approx(float(outcome.loss), rel=1e-5) and found["output_holds"]
    assert list(found["layers"]) == ["0", "1", "4"]
    for name, value in untouched.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert torch.equal(stream, torch.get_rng_state())


def test_a_linear_classifier_has_no_hidden_layer() -> None:
    model = build({"kind": "mlp", "widths": []}, (12,), 5, seed=0).double()
    found = Run(model, "lisp_raw", 0.05).watched(*batch())
    assert found["layers"] == {} and found["A1"] == 0 and found["applies"] and found["holds"]


def test_a_satisfied_batch_moves_nothing() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
        model.get_parameter("head.bias").copy_(torch.tensor([9.0, 0, 0, 0, 0]))
    found = Run(model, "lisp_raw", 0.1, clip=0.01, clip_output=False).watched(
        batch()[0], torch.zeros(40, dtype=torch.int64)
    )
    assert found["S"] == found["S_after"] == found["bound"] == 0 and found["applies"] and found["holds"]


def test_a_network_without_derivative_is_refused_before_training() -> None:
    model = build({"kind": "mlp", "widths": [8], "activation": "step"}, (12,), 5, seed=0)
    with pytest.raises(UserError, match=r"trainer.measure=\[descent\] needs the gradient of S: .*derivative"):
        Run(model, "lisp_raw", 0.1)
