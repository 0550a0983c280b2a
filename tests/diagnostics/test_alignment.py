"""Alignment with backprop: cosines and norm ratios against their definitions."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import credit
from credit.diagnostics.alignment import alignment, compare
from credit.models import build
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Computed


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.randn(32, 3, 16, 16, generator=source), torch.randint(0, 10, (32,), generator=source)


def network() -> nn.Module:
    return build({"kind": "cifar_resnet", "depth": 8, "width": 8}, (3, 16, 16), 10, seed=0)


def test_backprop_is_aligned_with_itself(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    for layer, found in alignment(credit.rule("bp", model), *batch).items():
        size = found.pop("norm")
        assert size > 0 and found == {
            "cosine": pytest.approx(1, abs=1e-6), "norm_ratio": pytest.approx(1, abs=1e-6), "angle": pytest.approx(0, abs=1e-9),
            "reference_norm": pytest.approx(size, rel=1e-9), "difference_norm": pytest.approx(0, abs=1e-9),
        }, layer  # fmt: skip


def test_equals_the_definition_and_changes_nothing(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    rule = credit.rule("fa", model, seed=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = alignment(rule, *batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and rule.position == 0
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    backprop = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.load_state_dict(before)
    rule.step(*batch)
    weights = [name for name, p in model.named_parameters() if p.dim() > 1]
    assert {f"{layer}.weight" for layer in found} == set(weights)
    for name in weights:
        ours, theirs = model.get_parameter(name).grad, backprop[name]
        assert ours is not None
        expected = nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
        layer = found[name.removesuffix(".weight")]
        assert layer["cosine"] == pytest.approx(float(expected), abs=1e-5)
        assert layer["norm_ratio"] == pytest.approx(float(ours.norm() / theirs.norm()), rel=1e-4)
        assert layer["angle"] == pytest.approx(math.degrees(math.acos(min(1.0, float(expected)))), abs=0.1)
        assert layer["norm"] == pytest.approx(float(ours.norm()), rel=1e-4)
        assert layer["reference_norm"] == pytest.approx(float(theirs.norm()), rel=1e-4)
        assert layer["difference_norm"] == pytest.approx(float((ours - theirs).norm()), rel=1e-3, abs=1e-5)
    assert found["head"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert found[next(iter(found))]["cosine"] < 0.9


class Turned(BackwardRule):
    """Backprop whose updates have another length and direction: by hand."""

    turn = {"0.weight": [[3.0, 0.0]], "2.weight": [[0.0]]}

    def compute(self, *given: Any) -> Computed:
        made = super().compute(*given)
        return dataclasses.replace(made, updates=made.updates | {k: torch.tensor(v) for k, v in self.turn.items()})


def test_angles_and_lengths_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    theirs = Turned(model, {"loss": "half_sse"})
    theirs.turn = {"0.weight": [[0.0, -4.0]], "2.weight": [[2.0]]}
    x, y = torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)
    ours = Turned(model, {"loss": "half_sse"})
    found = compare(ours, theirs, x, y)
    assert found["0"] == {
        "cosine": 0, "angle": pytest.approx(90), "norm": 3, "reference_norm": 4, "norm_ratio": 0.75, "difference_norm": 5,
    }  # fmt: skip
    assert found["2"] == {
        "cosine": 0,
        "angle": 90,
        "norm": 0,
        "reference_norm": 2,
        "norm_ratio": 0,
        "difference_norm": 2,
    }
    ours.turn = {"0.weight": [[1e-9, -1.0]], "2.weight": [[-1.0]]}
    found = compare(ours, theirs, x, y)
    assert found["0"]["angle"] == pytest.approx(math.degrees(1e-9), rel=1e-6) and found["2"]["angle"] == pytest.approx(
        180
    )
    theirs.turn = {"2.weight": [[0.0]]}
    assert compare(ours, theirs, x, y)["2"]["norm_ratio"] == math.inf


def test_layers_come_in_the_order_of_the_forward_pass(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    used: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda *_, name=name: used.append(name))
    model(batch[0])
    called, used[:] = list(used), []
    assert list(alignment(credit.rule("fa", network()), *batch)) == called


def test_a_step_network_is_compared_with_the_straight_through_reference() -> None:
    model = build({"kind": "mlp", "widths": [16], "activation": "step"}, (6,), 3, seed=0)
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 6, generator=source), torch.arange(8) % 3
    found = alignment(credit.rule("ste", model), x, y)
    assert all(layer["cosine"] == pytest.approx(1, abs=1e-6) for layer in found.values())


def test_a_rules_own_loss_is_the_references_too() -> None:
    class Least(BackwardRule):
        reference = {"loss": "half_sse"}

    model = build({"kind": "mlp", "widths": [16]}, (6,), 3, seed=0)
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    rule = Least(model, {"loss": "half_sse"})
    assert all(layer["norm_ratio"] == pytest.approx(1, abs=1e-6) for layer in alignment(rule, x, y).values())
    other = credit.rule("bp", model, loss="half_sse")
    assert next(iter(alignment(other, x, y).values()))["norm_ratio"] != pytest.approx(1, abs=0.1)  # of cross-entropy
