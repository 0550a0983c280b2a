"""Trained networks loaded from a run's folder: the evaluation they reproduce, and the folders that are refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import credit
from credit.core.errors import UserError
from credit.data import load as load_data
from credit.data.statistics import restored, statistics
from credit.runs import run_folder
from credit.training import train

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bp", {}),
    "ema": ("lisp_margin", {"trainer": {"ema": 0.9, "epochs": 3}}),
    "fresh_statistics": ("bp", {
        "arch": {"kind": "mlp", "widths": [16], "norm": "batch"},
        "trainer": {"bn_batches": 3, "epochs": 1}, "data": {"limit_train": 150},
    }),
    "settling": ("eqprop", {"trainer": {"epochs": 1}, "data": {"limit_train": 100}}),
    "whitening": ("bp", {"data": {"preprocess": "gcn_zca", "limit_train": 300}}),
    "contrast": ("bp", {"data": {"normalize": "gcn"}}),
    "channel_means": ("bp", {"data": {"preprocess": "gcn"}}),
    "double": ("bp", {"trainer": {"precision": "float64", "epochs": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_reproduces_the_runs_evaluation(case, config):
    rule, changes = RUNS[case]
    cfg = config(rule, **changes)
    result = train(cfg, console=False)
    for weights in ("best", "last"):
        trained = credit.load(run_folder(cfg), weights)
        assert not any(module.training for module in trained.modules())
        found = trained.metrics()
        for key in ("val_top1", "val_loss", "test_top1", "test_loss"):
            assert found[key] == result[weights][key]
        assert trained.config == cfg and trained.classes == [str(digit) for digit in range(10)]
        assert trained.settles == (case == "settling")
        assert isinstance(trained.network, nn.Module) and trained.step == result[weights]["step"]


def test_preprocesses_as_the_run_did(config):
    for data in ({"normalize": "standard"}, {"normalize": "gcn"}, {"preprocess": "gcn"}):
        cfg = config("bp", data=data, trainer={"epochs": 1})
        train(cfg, console=False)
        trained = credit.load(run_folder(cfg).name)  # by its name
        own = load_data(cfg.data, cfg.noise, seed=0, device="cpu")
        raw = load_data(replace(cfg.data, preprocess="none", normalize="none"), cfg.noise, seed=0, device="cpu")
        assert torch.equal(trained.preprocess(raw.test.x), own.prepare(own.test.x))
        right = trained(trained.preprocess(raw.test.x)).argmax(1) == raw.test.y
        assert right.double().mean().item() == trained.result["best"]["test_top1"]


def test_statistics_come_back_exactly(config):
    data = load_data(config("bp").data, config("bp").noise, seed=0, device="cpu")
    record = json.loads(json.dumps(statistics(data)))
    assert record["top"] == 16 and torch.equal(
        restored(record["preprocessing"])(data.test.x), data.prepare(data.test.x)
    )
    with pytest.raises(UserError, match="preprocessing is damaged: kind 'other'"):
        restored({"kind": "other"})


def test_a_result_without_statistics_takes_them_from_the_data(config):
    cfg = config("bp", trainer={"epochs": 1})
    result = train(cfg, console=False)
    for key in ("names", "top", "preprocessing"):
        del result["data"][key]
    (run_folder(cfg) / "result.json").write_text(json.dumps(result))
    assert credit.load(run_folder(cfg)).metrics()["test_loss"] == result["best"]["test_loss"]


def test_examples_that_are_not_the_runs_are_refused(config):
    cfg = config("bp", trainer={"epochs": 1})
    train(cfg, console=False)
    trained = credit.load(run_folder(cfg))
    with pytest.raises(UserError, match=r"shape \(3, 8, 8\), and the run's are \(1, 8, 8\)"):
        trained.preprocess(torch.zeros(2, 3, 8, 8))
    for pixels in (torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), 255)):
        with pytest.raises(UserError, match="whole numbers from 0 to 16"):
            trained.preprocess(pixels)
    with pytest.raises(UserError, match="weights=first: .*valid: best, last"):
        credit.load(run_folder(cfg), "first")  # type: ignore[arg-type]


def test_damaged_foreign_and_unfinished_folders_are_refused(config, tmp_path):
    cfg = config("bp", trainer={"epochs": 1})
    result = train(cfg, console=False)
    folder = run_folder(cfg)

    def refused(told: str, run=folder) -> None:
        with pytest.raises(UserError, match=told):
            credit.load(run)

    def written(**changes) -> None:
        (folder / "result.json").write_text(json.dumps(result | changes))

    (tmp_path / "other").mkdir()
    refused("other is not a run's folder: it has no config.json", tmp_path / "other")
    refused(f"no run of this name in .*did you mean '{folder.name}'", folder.name[:-1])
    written(status="diverged")
    refused("not complete .status 'diverged'")
    written(weights_sha256="0" * 64)
    refused("its weights are not those of which result.json records")
    written(config={})
    refused("result.json lacks config")
    written(config=result["config"] | {"seed": 7})
    refused("describe different runs")
    (folder / "result.json").write_text("{")
    refused("damaged")
    written()
    (file,) = (folder / "checkpoints").glob("*.ckpt")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    refused("checkpoint step-.* is damaged")
    file.unlink()
    refused("it lacks checkpoints/step-")
    (folder / "result.json").unlink()
    refused("the run is unfinished")
