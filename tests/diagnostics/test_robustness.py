"""Lipschitz estimates, FGSM and the residuals of inference, against closed forms; that runs are left as they are."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.config import check
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, load
from credit.diagnostics.fgsm import fgsm
from credit.diagnostics.inference import Inference
from credit.diagnostics.lipschitz import accumulated, jacobian_norms, lipschitz
from credit.engine.plan import Plan
from credit.models import build
from credit.runs import read_metrics, run_folder
from credit.training import train
from tests.support.small_runs import small_config


@pytest.fixture(scope="module")
def data() -> Data:
    options = DataConfig(kind="digits", limit_train=300, limit_test=100, batch_size=50)
    return load(options, NoiseConfig(), seed=0, device="cpu")


def with_linear(activation: str, **options: Any) -> nn.Module:
    return build({"kind": "mlp", "widths": [12, 9], "activation": activation, **options}, (1, 8, 8), 10, seed=0)


# --- Lipschitz ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "elu", "identity"])
def test_of_a_perceptron_it_is_the_norm_of_the_accumulated_matrix(activation: str, data: Data) -> None:
    model = with_linear(activation, dropout=0.2)
    found = lipschitz(Plan(model), model, data)
    w1, w2, w3 = (p.detach().double() for p in model.parameters() if p.dim() == 2)
    whole = torch.stack([torch.stack([(w3[i] * (w2 * w1[:, j]).sum(1)).sum() for j in range(64)]) for i in range(10)])
    expected = float(torch.linalg.eigvalsh(whole @ whole.T).max().sqrt())
    assert found == {"estimate": pytest.approx(expected, rel=1e-9), "accumulated": True, "examples": 0}
    norms = [float(torch.linalg.matrix_norm(w, 2)) for w in (w1, w2, w3)]
    assert found["estimate"] < 0.9 * math.prod(norms)  # not the product of the norms


@pytest.mark.parametrize("activation", ["gelu", "silu", "hardswish"])
def test_an_activation_steeper_than_1_or_a_norm_between_asks_for_jacobians(activation: str, data: Data) -> None:
    for model in (with_linear(activation), with_linear("relu", norm="batch")):
        assert accumulated(Plan(model), model) is None
        found = lipschitz(Plan(model), model, data, examples=3)
        assert not found["accumulated"] and found["examples"] == 3


def test_a_jacobian_of_a_linear_network_is_its_matrix(data: Data) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.Flatten(), nn.Linear(27, 10)).double()
    basis = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    with torch.no_grad():
        matrix = (model(basis) - model(torch.zeros(1, 1, 8, 8, dtype=torch.float64))).T
    found = lipschitz(Plan(model), model, data, examples=5)
    assert found["estimate"] == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-2)
    assert found["estimate"] <= float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-9)  # a lower bound


def test_local_norms_are_those_of_each_examples_jacobian_and_the_largest_is_told(data: Data) -> None:
    model = build({"kind": "plain_conv_bn", "widths": [4] * 6, "hidden": 16}, (1, 8, 8), 10, seed=0).double()
    model(torch.randn(20, 1, 8, 8, dtype=torch.float64))  # statistics that are not 0 and 1
    before = copy.deepcopy(model.state_dict())
    at = torch.arange(6) * len(data.test) // 6
    x = data.prepare(data.test.x[at]).double()
    norms = jacobian_norms(model, x)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    for one, norm in zip(x, norms, strict=True):
        jacobian = torch.autograd.functional.jacobian(model, one[None]).reshape(10, 64)
        assert float(norm) == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-2)
    model.train()
    found = lipschitz(Plan(model), model, data, examples=6)
    assert found == {"estimate": float(norms.max()), "accumulated": False, "examples": 6} and norms.std() > 0


def test_networks_that_jump_and_sets_without_examples_are_refused(data: Data) -> None:
    for activation in ("step", "sign"):
        model = with_linear(activation)
        with pytest.raises(
            UserError, match=f"activation 'act1' is a {activation}, which jumps: .* arch.activation=relu"
        ):
            lipschitz(Plan(model), model, data)
    bare = copy.copy(data)
    bare.test = bare.val = type(data.test)(data.test.x[:0], data.test.y[:0])
    model = with_linear("gelu")
    with pytest.raises(UserError, match=r"needs examples, .* no test or validation part"):
        lipschitz(Plan(model), model, bare)


# --- FGSM ---------------------------------------------------------------------------------------------------------------


def test_of_a_linear_network_every_example_falls_where_its_margin_does(data: Data) -> None:
    """Of two classes z1 - z0 = w x + b: the attack takes epsilon |w|_1 off the margin, no less and no more."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    two = copy.copy(data)
    for split in ("val", "test"):
        part = getattr(data, split)
        setattr(two, split, type(part)(part.x, (part.y > 4).long()))
    with torch.no_grad():
        model.get_parameter("1.weight").mul_(0.1)
    w = (model.get_parameter("1.weight")[1] - model.get_parameter("1.weight")[0]).detach()
    epsilons = [0.01, 0.1, 0.5, 20.0]
    found = fgsm(model, two, epsilons, batch_size=33)
    assert model.training and all(p.grad is None for p in model.parameters()) and list(found) == ["val", "test"]
    for split in ("val", "test"):
        part = two.split(split)
        with torch.no_grad():
            z = model(data.prepare(part.x).double())
        margin = (z[:, 1] - z[:, 0]) * (2 * part.y - 1)
        expected = [float((margin > epsilon * w.abs().sum()).double().mean()) for epsilon in (0.0, *epsilons)]
        assert list(found[split]) == ["clean", "e0_01", "e0_1", "e0_5", "e20"]
        assert list(found[split].values()) == pytest.approx(expected) and len(set(expected)) > 2
        assert found[split]["e20"] == 0


def test_batch_norm_answers_with_its_running_statistics_and_keeps_them(data: Data) -> None:
    model = build({"kind": "plain_conv_bn", "widths": [4] * 6, "hidden": 16}, (1, 8, 8), 10, seed=0)
    before = copy.deepcopy(model.state_dict())
    found = fgsm(model, data, [0.3], batch_size=40)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training
    assert found == fgsm(model, data, [0.3], batch_size=7)


REFUSED = [
    ("fgsm", "ste", {"activation": "step"}, "the attack follows is 0 below activation 'act1', a step"),
    ("lipschitz", "ste", {"activation": "sign"}, "a sign, which jumps"),
    ("inference", "lisp", {}, "rule 'lisp' infers no states"),
    (
        "fgsm",
        "eqprop",
        {},
        "rule 'eqprop' is evaluated where its states settle.* no gradient that the attack could follow",
    ),
    (
        "pruning",
        "chl",
        {},
        r"measure=\[pruning\]: rule 'chl' is evaluated where its states settle.* such as rule=dp_adjoint",
    ),
    (
        "pruning_by_layer",
        "eqprop",
        {},
        r"measure=\[pruning_by_layer\]: rule 'eqprop' is evaluated where its states settle",
    ),
]


@pytest.mark.parametrize(("name", "rule", "arch", "words"), REFUSED)
def test_what_can_never_be_measured_is_refused_before_a_folder_is_made(
    name: str, rule: str, arch: dict[str, Any], words: str
) -> None:
    cfg = small_config(rule, arch=arch, trainer={"measure": [name]})
    with pytest.raises(UserError, match=words):
        train(cfg, console=False)
    assert not run_folder(cfg).exists()


def test_what_nothing_reads_is_refused() -> None:
    least = {"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}}
    with pytest.raises(
        UserError,
        match=r"trainer.fgsm_epsilon=\[0.1\] would change nothing: it is read with trainer.measure=fgsm alone",
    ):
        check({**least, "trainer": {"epochs": 1, "fgsm_epsilon": [0.1]}})
    with pytest.raises(UserError, match=r"trainer.fgsm_epsilon=0 is outside \(0, inf\)"):
        check({**least, "trainer": {"epochs": 1, "measure": ["fgsm"], "fgsm_epsilon": [0.0]}})
    with pytest.raises(UserError, match=r"trainer.fgsm_epsilon=\[\] moves no example: .*trainer.fgsm_epsilon=\[0.01\]"):
        check({**least, "trainer": {"epochs": 1, "measure": ["fgsm"], "fgsm_epsilon": []}})
    with pytest.raises(
        UserError,
        match="trainer.measure_first=3 would change nothing: it is read with trainer.measure that names something",
    ):
        check({**least, "trainer": {"epochs": 1, "measure_first": 3}})


# --- in runs ------------------------------------------------------------------------------------------------------------


def test_a_run_measures_them_and_trains_as_without() -> None:
    plain = train(small_config("bp", trainer={"epochs": 2, "ema": 0.9}), console=False)
    words = {"measure": ["lipschitz", "fgsm"], "fgsm_epsilon": [0.05, 0.2]}
    cfg = small_config("bp", trainer={"epochs": 2, "ema": 0.9, **words})
    assert train(cfg, console=False)["weights_sha256"] == plain["weights_sha256"]
    rows = read_metrics(run_folder(cfg))
    assert [set(row) & {"lipschitz", "fgsm"} for row in rows] == [{"lipschitz"}, {"lipschitz", "fgsm"}]
    assert rows[0]["lipschitz"]["estimate"] != rows[1]["lipschitz"]["estimate"]
    found = rows[-1]["fgsm"]
    for split in ("val", "test"):
        assert found[split]["clean"] == rows[-1][f"{split}_top1"]  # of the averaged weights, as the evaluation
        assert 1 >= found[split]["clean"] >= found[split]["e0_05"] > found[split]["e0_2"]


class Watched:
    """What a diagnostic sees of a run, by hand."""

    def __init__(self, rule: credit.Rule) -> None:
        self.rule, self.model, self.step = rule, rule.model, 0
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(rule.model.parameters())


def test_residuals_are_told_by_pass_and_rules_without_states_are_refused() -> None:
    rule = credit.rule("bp", with_linear("relu"))
    x, y = torch.randn(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(UserError, match=r"rule 'bp' infers no states. Write rule=dp_adjoint"):
        Inference(Watched(rule))
    given: list[Any] = [[0.5, 0.25, 0.125], ArithmeticError("it runs away")]

    def residuals(x: Tensor, y: Tensor) -> list[float]:
        one = given.pop(0)
        if isinstance(one, Exception):
            raise one
        found: list[float] = one
        return found

    rule.residuals = residuals  # type: ignore[attr-defined]  # what rules of dual propagation have
    diagnostic = Inference(Watched(rule))
    outcome = rule.step(x, y)
    diagnostic.before(x, y)
    assert diagnostic.after(x, y, outcome) == {"passes": 3, "last": 0.125, "p1": 0.5, "p2": 0.25, "p3": 0.125}
    diagnostic.before(x, y)
    assert diagnostic.after(x, y, outcome) == {"passes": 0}
