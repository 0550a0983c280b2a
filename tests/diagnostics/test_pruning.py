"""Magnitude pruning: which weights go, that the network stays, the summary, and the run's end."""

import copy

import pytest
import torch
from torch import nn

import credit
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, load
from credit.diagnostics.networks import accuracy
from credit.diagnostics.pruning import SHARES, prunable, pruning
from credit.models import build
from credit.runs import read_metrics, run_folder
from credit.training import train
from tests.support.small_runs import small_config


@pytest.fixture(scope="module")
def data() -> Data:
    options = DataConfig(kind="digits", limit_train=300, limit_test=100, batch_size=50)
    return load(options, NoiseConfig(), seed=0, device="cpu")


def hand_pruned(model: nn.Module, share: float, by_layer: bool) -> nn.Module:
    """Zero the smallest weights one by one, in plain Python."""
    pruned = copy.deepcopy(model)
    entries = [(float(v.abs()), k, i) for k, p in pruned.named_parameters() if p.dim() > 1
               for i, v in enumerate(p.detach().flatten())]  # fmt: skip
    groups = (
        [[e for e in entries if e[1] == name] for name in sorted({e[1] for e in entries})] if by_layer else [entries]
    )
    held = dict(pruned.named_parameters())
    with torch.no_grad():
        for group in groups:
            for _, name, place in sorted(group)[: round(share * len(group))]:
                held[name].view(-1)[place] = 0.0
    return pruned


@pytest.mark.parametrize("by_layer", [False, True])
def test_the_smallest_weights_go_and_the_network_stays_as_it_is(data: Data, by_layer: bool) -> None:
    model = build({"kind": "mlp", "widths": [12]}, (1, 8, 8), 10, seed=0)
    with torch.no_grad():
        rule = credit.rule("bp", model)
        for _ in range(30):
            rule.step(data.prepare(data.train.x), data.train.y)
            for p in model.parameters():
                p.copy_(p - 0.5 * p.grad if p.grad is not None else p)
    before = copy.deepcopy(model.state_dict())
    shares = (0.0, 0.25, 0.5, 0.9, 1.0)
    found = pruning(model, data, 40, shares=shares, by_layer=by_layer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and model.training
    expected = [accuracy(hand_pruned(model, share, by_layer), data, "test", 40) for share in shares]
    assert list(found["accuracy"].values()) == expected and list(found["accuracy"]) == [
        "p0",
        "p25",
        "p50",
        "p90",
        "p100",
    ]
    assert found["weights"] == 64 * 12 + 12 * 10 and len(set(expected)) > 2


def test_the_summary_is_the_last_share_before_the_first_fall(monkeypatch: pytest.MonkeyPatch, data: Data) -> None:
    heights = iter([0.8, 0.79, 0.72, 0.71, 0.8])
    monkeypatch.setattr("credit.diagnostics.pruning.accuracy", lambda *_: next(heights))
    found = pruning(
        build({"kind": "mlp", "widths": [4]}, (1, 8, 8), 10, seed=0), data, shares=(0.0, 0.1, 0.2, 0.3, 0.4)
    )
    assert (found["prunable"], found["prunable_within_1"]) == (0.2, 0.1)


def test_tied_weights_are_pruned_once_and_normalisations_never() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.second = nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

    model = Tied()
    [weight] = prunable(model)
    assert weight is model.first.weight


def test_what_cannot_be_pruned_is_refused(data: Data) -> None:
    model = build({"kind": "mlp", "widths": [4]}, (1, 8, 8), 10, seed=0)
    with pytest.raises(UserError, match="this network has no linear or convolution layer"):
        pruning(nn.Flatten(), data)
    for shares in ((), (0.5, 0.1), (-0.1, 0.5), (0.0, 1.1)):
        with pytest.raises(UserError, match=r"must be shares of the weights in \[0, 1\], ascending"):
            pruning(model, data, shares=shares)
    with pytest.raises(UserError, match="no such part of a data set"):
        pruning(model, data, split="validation")


def test_a_run_is_pruned_at_its_end_alone_and_trains_as_without() -> None:
    trainer = {"epochs": 3, "measure": ["pruning", "pruning_by_layer", "signs"], "ema": 0.9}
    plain = train(small_config("bp", trainer={"epochs": 3, "ema": 0.9}), console=False)
    cfg = small_config("bp", trainer=trainer)
    watched = train(cfg, console=False)
    assert watched["weights_sha256"] == plain["weights_sha256"]
    rows = read_metrics(run_folder(cfg))
    assert ["pruning" in row for row in rows] == ["pruning_by_layer" in row for row in rows] == [False, False, True]
    assert all("signs" in row for row in rows)
    for name in ("pruning", "pruning_by_layer"):
        found = rows[-1][name]
        assert found["accuracy"]["p0"] == rows[-1]["test_top1"]  # of the averaged weights, as the evaluation
        assert list(found["accuracy"]) == [f"p{100 * share:g}" for share in SHARES] and found["accuracy"]["p99"] < 0.5
    assert rows[-1]["pruning"]["accuracy"] != rows[-1]["pruning_by_layer"]["accuracy"]
