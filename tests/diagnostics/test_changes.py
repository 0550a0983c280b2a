"""Sign changes, drift and magnitudes: their numbers, periods over kills and resumes, runs in one pass."""

import os
import signal
from dataclasses import replace
from typing import Any

import pytest
import torch

from credit.data.batches import Batches
from credit.diagnostics.drift import mean_squared_change
from credit.diagnostics.magnitudes import quantile
from credit.diagnostics.signs import sign_changes
from credit.runs import read_metrics, run_folder
from credit.training import train, train_together
from credit.training.state import checkpoint
from tests.support.small_runs import small_config

KEPT = ["signs", "drift", "magnitudes"]


def test_a_sign_changes_where_it_passes_zero_and_not_where_it_meets_it() -> None:
    then = {"a": torch.tensor([1.0, -1.0, 0.0, -0.0, 2.0, 1e-30]), "b": torch.tensor([[-3.0]])}
    now = {"a": torch.tensor([-1e-30, 1.0, 1.0, -1.0, 0.0, 3.0]), "b": torch.tensor([[2.0]])}
    found = sign_changes(then, now, {"first": ["a"], "last": ["b"]})
    assert found == {"count": 3, "of": 7, "share": 3 / 7, "layers": {"first": 2 / 6, "last": 1.0}}


def test_the_drift_is_the_mean_over_all_parameters_together() -> None:
    then = {"a": torch.zeros(3), "b": torch.ones(1, 1)}
    now = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.full((1, 1), -1.0)}
    found = mean_squared_change(then, now, {"first": ["a"], "last": ["b"]})
    assert found == {"mse": 18 / 4, "layers": {"first": 14 / 3, "last": 4.0}}


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.75, 1.0])
def test_quantiles_are_torchs(count: int, share: float) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    assert quantile(values, share) == pytest.approx(float(values.quantile(share)), rel=1e-6)


def test_an_epochs_numbers_compare_its_ends() -> None:
    cfg = small_config("bp", trainer={"epochs": 2, "measure": KEPT}, optimizer={"lr": 0.5})
    train(cfg, console=False)
    folder = run_folder(cfg)
    ends = [checkpoint.read(checkpoint.path_of(folder, step))["model"] for step in (5, 10)]
    first, second = read_metrics(folder)
    flips = sum(int((ends[0][name] * p < 0).sum()) for name, p in ends[1].items())
    size = sum(p.numel() for p in ends[1].values())
    assert (second["signs"]["count"], second["signs"]["of"]) == (flips, size) and flips > 0
    assert second["signs"]["share"] == flips / size
    moved = sum(float((ends[0][name].double() - p).square().sum()) for name, p in ends[1].items()) / size
    assert second["drift"]["mse"] == pytest.approx(moved, rel=1e-12)
    sizes = torch.cat([p.abs().flatten() for p in ends[1].values()])
    found = second["magnitudes"]
    assert found["median"] == pytest.approx(float(sizes.quantile(0.5)), rel=1e-6)
    assert found["ratio"] == pytest.approx(float(sizes.quantile(0.5) / sizes.quantile(0.75)), rel=1e-6)
    assert found["layers"]["fc1"] == {
        key: pytest.approx(float(ends[1][f"fc1.{key}"].abs().mean()), rel=1e-6) for key in ("weight", "bias")
    }
    assert list(found["layers"]) == list(second["drift"]["layers"]) == ["fc1", "head"]
    assert (
        first["magnitudes"]["start"] == found["start"] == pytest.approx(2 / 3, abs=0.03)
    )  # uniform, by torch's default
    assert first["signs"]["count"] > 0 and first["signs"]["steps"] == second["signs"]["steps"] == 5


def test_a_run_that_ends_inside_a_period_says_how_long_the_last_was() -> None:
    cfg = small_config("bp", trainer={"epochs": None, "steps": 7, "measure": KEPT})
    train(cfg, console=False)
    assert [row["drift"]["steps"] for row in read_metrics(run_folder(cfg))] == [5, 2]


def test_stopped_in_the_middle_of_a_period_and_resumed_the_numbers_are_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    cfg = small_config("lisp_margin", trainer={"epochs": 6, "measure": KEPT, "measure_every": 2})
    train(cfg, console=False)
    whole = read_metrics(run_folder(cfg))
    monkeypatch.setenv("CREDIT_RUNS", f"{tmp_path}/pieces")
    at, stops = Batches.at, [3, 7, 13, 24]

    def interrupted_at(self: Batches, step: int) -> object:
        if stops and step == stops[0]:
            stops.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            train(cfg, console=False)
    train(cfg, console=False)
    again = read_metrics(run_folder(cfg))
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in whole]
    measured = [row["signs"] for row in again if "signs" in row]
    assert [found["steps"] for found in measured] == [10, 10, 10] and measured[0] != measured[1]


def flat(found: dict[str, Any]) -> list[float]:
    """Return all numbers of nested dicts, in order."""
    return [number for v in found.values() for number in (flat(v) if isinstance(v, dict) else [v])]


def test_runs_in_one_pass_are_measured_as_each_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    trainer = {"epochs": 2, "measure": KEPT, "measure_every": 0.6, "precision": "float64"}
    cfgs = [replace(small_config("bp", trainer=trainer), seed=seed) for seed in range(3)]
    together = train_together(cfgs, console=False)
    rows = [read_metrics(run_folder(cfg)) for cfg in cfgs]
    monkeypatch.setenv("CREDIT_RUNS", f"{tmp_path}/alone")
    alone = [train(cfg, console=False) for cfg in cfgs]
    for cfg, found in zip(cfgs, rows, strict=True):
        for one, other in zip(found, read_metrics(run_folder(cfg)), strict=True):
            assert one.get("signs") == other.get("signs")
            for name in ("drift", "magnitudes"):
                assert (name in one) == (name in other)
                assert flat(one.get(name, {})) == pytest.approx(flat(other.get(name, {})), rel=1e-6)
    assert [r["last"]["test_top1"] for r in together] == [r["last"]["test_top1"] for r in alone]
