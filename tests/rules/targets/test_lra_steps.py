"""Ways to run a step of local representation alignment: told or not, shared among threads, compiled, mapped, on to the input."""

from typing import Any

import pytest
import torch

import credit
from credit.rules import Mapped
from credit.training import train
from tests.rules.lfp.test_lfp_twins import close
from tests.rules.targets.test_lra_twins import made, stacked
from tests.support import nets
from tests.support.lra_nets import Stacked
from tests.support.small_runs import small_config


@pytest.mark.parametrize("more", [{}, {"p": 1.0, "q": 2.0, "kappa": 0.5}, {"error_update": "paper"}])
@pytest.mark.parametrize("order", ["dense", "later", "residual"])
def test_telling_errors_and_sharing_work_change_no_update(order: str, more: dict[str, Any]) -> None:
    model, _, x, y = stacked("tanh", 2) if order == "dense" else made(order)
    found = []
    for keep, workers in ((False, 1), (True, 1), (False, 2), (True, 3)):
        rule: Any = credit.rule("rec_lra", model, precision="float64", workers=workers, **more)
        rule.keep_errors = keep
        done = rule.updates(x, y)
        assert (done.errors is not None) == (done.targets is not None) == keep
        found.append(done.updates)
    for name, update in found[0].items():
        assert all(bool(torch.equal(update, other[name])) for other in found[1:]), name


@pytest.mark.parametrize("radius", [1e-3, 0.05, 10.0])
def test_reprojection(radius: float) -> None:
    """The paper's appendix: c D / |D| where |D| >= c, of every matrix by itself, E too."""
    model, _, x, y = stacked("tanh", 2)
    free = credit.rule("rec_lra", model, precision="float64", beta=0.7).updates(x, y).updates
    rule = credit.rule("rec_lra", model, precision="float64", beta=0.7, reproject=radius)
    rule.step(x, y)
    gradients: Any = {name: p.grad for name, p in [*model.named_parameters(), *rule.named_parameters()]}
    assert set(gradients) == set(free)
    for name, update in free.items():
        size = float(update.norm())
        expected = update * (radius / size if size >= radius else 1.0)
        close(gradients[name], expected, name)


WAYS: list[dict[str, Any]] = [
    {"p": 1.0, "q": 2.0, "kappa": [0.5, 1.0, 2.0, 0.3, 1.7]},
    {"p": 3.0, "q": 1.0, "loss": "half_sse"},
    {"error_connectivity": {"act1": ["act4", "output"], "act3": None}},
    {"error_update": "paper"},
    {"error_update": "paper_alg1", "gamma": 0.5},
    {"error_update": "fixed"},
    {"inner": "backprop"},
    {"depth": 1, "skip_gap": 3},
]


FEW = [way if at in (0, 2, 3, 6) else pytest.param(way, marks=pytest.mark.slow) for at, way in enumerate(WAYS)]


@pytest.mark.parametrize("told", FEW)
def test_replicas_learn_as_by_their_own_steps(told: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(3, 10, 6, generator=draw, dtype=torch.float64)
    y = torch.randint(0, 5, (3, 10), generator=draw)

    def rules() -> list[Any]:
        models = [Stacked("tanh", (6, 7, 7, 7, 7, 5), 2, seed) for seed in range(3)]
        return [
            credit.rule("rec_lra", model, seed=at, precision="float64", example=x[0], **told)
            for at, model in enumerate(models)
        ]

    alone, mapped = rules(), Mapped(rules())
    mapped.step(x, y)
    for at, rule in enumerate(alone):
        rule.step(x[at], y[at])
        for name, p in [*rule.model.named_parameters(), *rule.named_parameters()]:
            together = (mapped.weights | mapped.own)[name].grad
            assert together is not None
            close(together[at], p.grad, f"{name} of replica {at}")


@pytest.mark.slow
@pytest.mark.parametrize("told", [WAYS[at] for at in (0, 2, 4)])
def test_a_compiled_step_gives_the_same_updates(told: dict[str, Any]) -> None:
    model, _, x, y = stacked("tanh", 2)
    rules = [
        credit.rule("rec_lra", model, precision="float64", compile=backend, **told) for backend in (False, "aot_eager")
    ]
    plain, compiled = (rule.updates(x, y).updates for rule in rules)
    assert set(plain) == set(compiled)
    for name, update in plain.items():
        close(compiled[name], update, name)


@pytest.mark.parametrize("residual", [0, 1])
def test_the_signal_on_to_the_input(residual: int) -> None:
    """What the errors of the nodes right above it send there: W_1^T e_1, and e_1 itself where the input is added to h_1."""
    model = Stacked("tanh", (6, 6, 6, 5), residual)
    x, y = nets.batch(model, (6,), 4)
    rule: Any = credit.rule("rec_lra", model, precision="float64", beta=0.5)
    plain = rule.updates(x, y).updates
    rule.keep_input_signal = rule.keep_errors = True
    done = rule.updates(x, y)
    e = done.errors["act1"]
    close(done.input_signal, e @ model.get_parameter("fc1.weight") + (e if residual else 0), "input")
    assert all(bool(torch.equal(update, done.updates[name])) for name, update in plain.items())


def test_a_run_whose_synapses_explode_ends_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"error_update": "paper", "error_lr": 5.0}
    cfg = small_config("lra_e", rule=told, arch={"widths": [32, 32, 32], "activation": "tanh"}, trainer={"epochs": 60})
    result = train(cfg)
    assert result["status"] == "diverged" and result["last"]["epoch"] > 0
    assert result["diverged"]["where"].startswith("error synapses 'error.act")
    assert "rule.error_update=paper, as printed" in result["diverged"]["why"]
    assert "first in error synapses 'error.act" in capsys.readouterr().out
