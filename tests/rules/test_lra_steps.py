"""Ways to run a step of local representation alignment: told or not, shared among threads, compiled, mapped, re-projected."""

from typing import Any

import pytest
import torch

import credit
from tests.rules.test_lfp_twins import close
from tests.rules.test_lra_twins import made, stacked


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
