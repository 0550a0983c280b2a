"""Whole small runs with the real rules, data and networks."""

import json

import pytest
import torch
from torch import nn

from credit.data import Batches, load
from credit.models import build
from credit.runs import read_metrics, read_result, run_folder
from credit.training import train
from credit.training.state import checkpoint

pytestmark = pytest.mark.filterwarnings("error")


def last_model(cfg) -> dict[str, torch.Tensor]:
    state = checkpoint.latest(run_folder(cfg), lambda text: pytest.fail(text))
    assert state is not None
    model: dict[str, torch.Tensor] = state["model"]
    return model


def test_learns_digits_and_reports_best_and_last(config, capsys):
    cfg = config("lisp_margin", data={"limit_train": None}, trainer={"epochs": 5}, arch={"widths": [64]})
    result = train(cfg)
    assert result["status"] == "complete" and result["selected_by"] == "val_top1"
    assert result["best"]["test_top1"] > 0.85
    assert result["last"]["epoch"] == 5 and result["last"]["step"] == 5 * result["steps_per_epoch"]
    assert json.loads((run_folder(cfg) / "result.json").read_text()) == result
    rows = read_metrics(run_folder(cfg))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    best = max(rows, key=lambda row: row["val_top1"])
    assert result["best"]["step"] == best["step"] and result["best"]["test_top1"] == best["test_top1"]
    assert "complete: accuracy" in capsys.readouterr().out
    assert result["notes"] == []
    assert result["parameters"] == 64 * 64 + 64 + 64 * 10 + 10
    assert result["provenance"]["versions"]["torch"] == torch.__version__


def test_a_finished_run_is_reported_not_trained_again(config, capsys):
    cfg = config()
    first = train(cfg, console=False)
    assert capsys.readouterr().out == ""
    stamp = (run_folder(cfg) / "metrics.jsonl").stat().st_mtime_ns
    assert train(cfg) == first
    assert capsys.readouterr().out.startswith("already complete: accuracy ")
    assert (run_folder(cfg) / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_same_seed_same_weights_other_seed_other_weights(config, monkeypatch, tmp_path):
    digests: list[str] = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / place))
        torch.manual_seed(len(digests))  # the global stream decides nothing
        digests.append(train(config(seed=seed, arch={"dropout": 0.1}), console=False)["weights_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_steps_instead_of_epochs_evaluate_at_epoch_ends_and_at_the_end(config):
    cfg = config(trainer={"epochs": None, "steps": 13})  # 270 examples in batches of 50: 5 steps an epoch
    result = train(cfg, console=False)
    assert [row["step"] for row in read_metrics(run_folder(cfg))] == [5, 10, 13]
    assert result["last"]["epoch"] == pytest.approx(2.6) and result["steps"] == 13


def test_evaluates_as_often_as_asked(config):
    cfg = config(trainer={"epochs": 5, "eval_every": 2, "checkpoint_every": 3})
    train(cfg, console=False)
    assert [row["epoch"] for row in read_metrics(run_folder(cfg))] == [2, 4, 5]


def test_without_validation_split_the_last_epoch_is_reported(config):
    result = train(config(data={"val_fraction": 0.0}), console=False)
    assert result["selected_by"] == "last" and result["best"] == result["last"]
    assert "val_top1" not in result["last"]


def test_the_averaged_weights_are_what_is_evaluated(config):
    plain, averaged = config(), config(trainer={"ema": 0.99})
    results = [train(cfg, console=False) for cfg in (plain, averaged)]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"], "averaging changed the training"
    assert results[0]["last"]["test_loss"] != results[1]["last"]["test_loss"]
    assert results[1]["evaluated"] == "averaged weights"


def test_averaged_weights_are_evaluated_with_statistics_taken_anew(config):
    arch = {"kind": "plain_conv_bn", "widths": [4, 4, 4, 4, 4, 4], "hidden": 16}
    cfg = config("lisp_ce", arch=arch, optimizer={"kind": "adam", "lr": 0.003}, trainer={"ema": 0.5, "bn_batches": 3})
    result = train(cfg, console=False)
    state = checkpoint.latest(run_folder(cfg), pytest.fail)
    assert state is not None
    data = load(cfg.data, cfg.noise, seed=0, device="cpu")
    model = build(cfg.arch, data.shape, data.classes, seed=1)
    model.load_state_dict(
        {key.removeprefix("module."): v for key, v in state["average"].items() if key != "n_averaged"}
    )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        batches = Batches(data, cfg.data, seed=cfg.seed)
        for step in range(3):
            model(batches.at(step).x)
        logits = model.eval()(data.prepare(data.test.x))
    expected = nn.functional.cross_entropy(logits, data.test.y).item()
    assert result["last"]["test_loss"] == pytest.approx(expected, rel=1e-4)
    assert result["evaluated"] == "averaged weights"


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_trains_in_other_precisions(config, precision):
    cfg = config("bp", trainer={"precision": precision, "epochs": 3})
    result = train(cfg, console=False)
    assert result["status"] == "complete" and result["last"]["train_loss"] < 2.3
    assert {value.dtype for value in last_model(cfg).values()} == {
        torch.float64 if precision == "float64" else torch.float32
    }


@pytest.mark.slow
def test_compiled_trains_to_the_same_accuracy(config):
    eager, compiled = (train(config("bp", trainer={"compile": flag}), console=False) for flag in (False, True))
    assert compiled["last"]["test_loss"] == pytest.approx(eager["last"]["test_loss"], rel=1e-3)


def test_wrong_labels_are_followed(config):
    cfg = config(noise={"kind": "symmetric", "rate": 0.4})
    rows = (train(cfg, console=False), read_metrics(run_folder(cfg)))[1]
    assert all(0 <= row["memorized"] <= 1 and 0 <= row["recovered"] <= 1 for row in rows)
    assert all(row["memorized"] + row["recovered"] <= 1 for row in rows)


def test_per_class_scores_on_request_stay_out_of_the_summary(config):
    cfg = config(trainer={"report": ["per_class"]})
    result = train(cfg, console=False)
    row = read_metrics(run_folder(cfg))[-1]
    assert list(row["per_class"]) == [str(digit) for digit in range(10)]
    assert set(row["per_class"]["0"]) == {"precision", "recall", "f1"}
    assert "per_class" not in result["last"]


def test_the_confusion_matrix_is_kept_of_the_last_evaluation_and_of_each_that_was_the_best(config):
    cfg = config(trainer={"epochs": 6})
    result = train(cfg, console=False)
    rows, best = read_metrics(run_folder(cfg)), -1.0
    for row in rows:
        better = row["val_top1"] > best
        best = max(best, row["val_top1"])
        assert ("confusion" in row) == (better or row is rows[-1])
        assert all(0 < row[f"test_{key}"] < 1 for key in ("precision", "recall", "f1"))
    held = rows[-1]["confusion"]
    assert sum(map(sum, held["test"])) == result["data"]["test_size"] and len(held["classes"]) == 10
    right = sum(held["test"][i][i] for i in range(10))
    assert right / result["data"]["test_size"] == pytest.approx(result["last"]["test_top1"])
    assert "confusion" not in result["last"] and result["best"]["test_f1"] > 0
    assert any("confusion" not in row for row in rows), "every evaluation was the best: give the run more epochs"


def test_divergence_stops_the_run_naming_step_and_op(config, capsys):
    cfg = config("bp", optimizer={"lr": 1e30}, trainer={"epochs": 3})
    result = train(cfg)
    assert result["status"] == "diverged"
    assert result["diverged"]["step"] == 2 and "linear 'head'" in result["diverged"]["where"]
    told = capsys.readouterr().out
    assert "diverged at step 2, first in the output of linear 'head': non-finite numbers  " in told
    assert read_result(run_folder(cfg)) == result
    assert result["last"] is None
    assert train(cfg)["status"] == "diverged"
    assert "already diverged" in capsys.readouterr().out


def test_divergence_keeps_the_last_finite_evaluation(config):
    # The first epoch warms up from a small rate; the second meets the whole one.
    cfg = config(
        "bp",
        optimizer={"lr": 1e-9, "momentum": 0.0},
        schedule={"kind": "step", "milestones": [1.0], "gamma": 1e20},
        trainer={"epochs": 3},
    )
    result = train(cfg, console=False)
    assert result["status"] == "diverged" and result["diverged"]["step"] > 5
    assert result["last"]["epoch"] == 1 and result["last"]["test_loss"] > 0


def test_a_failed_run_is_recorded_and_resumed_by_the_same_command(config, monkeypatch):
    from credit.data.batches import Batches

    cfg = config(trainer={"epochs": 3})
    at = Batches.at

    def fails_late(self: Batches, step: int):
        if step == 7:
            raise OSError("the disk is gone")
        return at(self, step)

    with monkeypatch.context() as broken:
        broken.setattr(Batches, "at", fails_late)
        with pytest.raises(OSError, match="the disk is gone"):
            train(cfg, console=False)
    result = read_result(run_folder(cfg))
    assert result is not None and result["status"] == "failed" and "the disk is gone" in result["error"]
    assert train(cfg, console=False)["status"] == "complete"
    assert [row["epoch"] for row in read_metrics(run_folder(cfg))] == [1, 2, 3]


def test_threads_are_set_for_the_run_only(config):
    before = torch.get_num_threads()
    result = train(config(trainer={"threads": before + 1, "epochs": 1}), console=False)
    machine = result["provenance"]["machine"]
    assert machine["threads"] == before + 1 and machine["threads_because"] == f"trainer.threads={before + 1}"
    assert torch.get_num_threads() == before
