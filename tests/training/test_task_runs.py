"""Runs of every task by the command line: training, its files, and what is refused before training."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

import credit
from credit.cli.main import main as command
from credit.cli.train import main
from credit.core.config.compose import compose
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.data import describe, load
from credit.runs.folder import run_folder
from credit.tasks.regression import Regression

SHORT = ["trainer.device=cpu", "schedule=constant"]


@pytest.fixture
def rhyme(tmp_path: Path) -> str:
    path = tmp_path / "rhyme.txt"
    path.write_text("".join(f"{number} green bottles, hanging on the wall\n" for number in range(400)))
    return str(path)


def run(words, capsys) -> tuple[dict, list[dict], str]:
    assert main(words) == 0, capsys.readouterr().err
    folder = run_folder(compose(words))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), rows, capsys.readouterr().out


def refused(words, capsys, tmp_path) -> str:
    assert main(words) == 2
    assert not (tmp_path / "runs").exists()
    return capsys.readouterr().err


# ------------------------------------------------------------ regression


def test_diabetes_is_scikit_learns(capsys):
    data = load(DataConfig(kind="diabetes", batch_size=32), NoiseConfig(), seed=0, device="cpu")
    x, y = load_diabetes(return_X_y=True, scaled=False)
    assert isinstance(data.task, Regression) and data.task.shift is not None and data.task.scale is not None
    shift, scale = data.task.shift, data.task.scale
    held = torch.cat([data.train.y, data.val.y, data.test.y]).double() * scale + shift
    assert sorted(held.flatten().tolist()) == pytest.approx(sorted(y)) and (len(data.val), len(data.test)) == (35, 88)
    assert data.train.y.mean().abs() < 1e-6 and data.train.y.std(correction=0) == pytest.approx(1, abs=1e-6)
    known = {tuple(row): target for row, target in zip(x.astype(np.float32).tolist(), y, strict=True)}
    for row, target in zip(data.test.x, data.test.y.double() * scale + shift, strict=True):
        assert known[tuple(row.tolist())] == pytest.approx(target.item(), rel=1e-6)


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa", "dp", "lisp_ce", "rec_lra", "untied_rectangle"])
def test_a_regression_is_trained_and_selected_by_r2(rule, capsys):
    words = ["data=diabetes", f"rule={rule}", "arch.widths=[16,16]", "optimizer.lr=0.01", "trainer.epochs=8", *SHORT]
    result, rows, out = run(words, capsys)
    assert result["primary"]["name"] == "r2" and result["selected_by"] == "val_r2"
    assert result["best"]["val_r2"] == max(row["val_r2"] for row in rows if "val_r2" in row)
    assert result["best"]["test_r2"] > 0.1 and result["best"]["test_rmse"] < 75 and "train_top1" not in rows[-1]
    assert "test R² 0." in out and "confusion" not in rows[-1] and result["data"]["task"] == "regression"


def test_a_finished_regression_is_loaded_and_predicts_in_the_units_of_its_targets(capsys, tmp_path):
    words = ["data=diabetes", "rule=bp", "arch.widths=[16]", "optimizer.lr=0.01", "trainer.epochs=5", *SHORT]
    result, _, _ = run(words, capsys)
    model = credit.load(run_folder(compose(words)))
    found = model.metrics()
    assert found["test_rmse"] == result["best"]["test_rmse"] and model.classes == ["progression"]
    x, _ = load_diabetes(return_X_y=True, scaled=False)
    np.save(tmp_path / "x.npy", x[:3].astype(np.float32))
    capsys.readouterr()
    assert command(["predict", str(run_folder(compose(words))), str(tmp_path / "x.npy"), "--csv"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    with torch.inference_mode():
        wanted = model.task.predict(model(model.preprocess(x[:3]))).flatten().tolist()
    assert [float(line["value"]) for line in lines] == pytest.approx(wanted, rel=1e-4)
    assert {line["target"] for line in lines} == {"progression"} and 30 < wanted[0] < 350
    assert command(["eval", str(run_folder(compose(words)))]) == 0
    assert "rmse" in capsys.readouterr().out


def test_numbers_of_a_csv_file_and_of_an_npz_are_predicted(capsys, tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 3)).astype(np.float32)
    y = np.stack([x @ [1, 2, 3], x @ [-1, 0, 1]], 1) * 10 + 5
    with (tmp_path / "mine.csv").open("w") as stream:
        writer = csv.writer(stream)
        writer.writerows([["a", "b", "c", "sum", "difference"], *np.hstack([x, y]).tolist()])
    np.savez(tmp_path / "mine.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    file = f"data.path={tmp_path / 'mine.csv'}"
    common = ["rule=bp", "arch.widths=[]", "optimizer.lr=0.05", "data.batch_size=16", "trainer.epochs=20", *SHORT]
    for words in (
        ["data=csv", file, "data.task=regression", "data.target=[sum,difference]"],
        ["data=npz", f"data.path={tmp_path / 'mine.npz'}", "arch=mlp"],
    ):
        result, _, _ = run([*words, *common], capsys)
        assert result["last"]["test_r2"] > 0.99 and result["data"]["outputs"] == 2
        assert result["last"]["test_rmse"] < 3 and len(result["data"]["target_scale"]) == 2
    one = ["data=csv", file, "data.task=regression"]
    spec = describe(compose([*one, "data.target=sum", *common]).data)
    assert (spec.shape, spec.outputs, spec.task) == ((4,), 1, "regression")


# ------------------------------------------------------------ tokens


def test_a_text_is_cut_into_windows_in_order(rhyme):
    data = load(
        DataConfig(kind="text", path=rhyme, normalize="none", batch_size=8), NoiseConfig(), seed=0, device="cpu"
    )
    text = Path(rhyme).read_text()
    letters = "".join(data.names[token] for token in data.train.x[:2].flatten().tolist())
    assert letters == text[:128] and torch.equal(data.train.x[0, 1:], data.train.y[0, :-1])
    assert data.names[data.train.y[0, -1]] == text[64] and data.names == sorted(set(text))
    start = int(0.8 * len(text))
    assert "".join(data.names[token] for token in data.val.x[0].tolist()) == text[start : start + 64]


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa", "lisp_ce"])
def test_characters_are_predicted_and_selected_by_their_loss(rule, rhyme, capsys):
    arch = ["arch.width=16", "arch.layers=1", "arch.activation=relu", "optimizer=adam", "optimizer.lr=0.01"]
    words = ["data=text", f"data.path={rhyme}", "data.context=16", f"rule={rule}", *arch, "trainer.epochs=3", *SHORT]
    result, rows, out = run(words, capsys)
    assert result["selected_by"] == "val_loss" and result["primary"]["higher"] is False
    assert result["best"]["val_loss"] == min(row["val_loss"] for row in rows if "val_loss" in row)
    assert result["best"]["test_loss"] < 2.0 < np.log(len(set(Path(rhyme).read_text())))
    assert rows[-1]["test_bits"] == pytest.approx(rows[-1]["test_loss"] / np.log(2)) and "loss (best" not in out


def test_a_text_run_is_resumed_bit_for_bit_and_loaded(rhyme, capsys):
    words = [
        "data=text",
        f"data.path={rhyme}",
        "data.context=16",
        "rule=bp",
        "arch.width=16",
        "trainer.steps=60",
        *SHORT,
    ]
    straight, _, _ = run([*words, "trainer.checkpoint_every=1"], capsys)
    folder = run_folder(compose([*words, "trainer.checkpoint_every=1"]))
    (folder / "result.json").unlink()
    sorted((folder / "checkpoints").glob("*.ckpt"))[-1].unlink()
    again, _, _ = run([*words, "trainer.checkpoint_every=1"], capsys)
    assert again["weights_sha256"] == straight["weights_sha256"]
    model = credit.load(folder)
    assert model.metrics()["test_loss"] == straight["best"]["test_loss"]
    assert model(model.preprocess(np.zeros((2, 16), int))).shape == (2, 16, len(model.classes))


# ------------------------------------------------------------ reconstruction


@pytest.mark.parametrize("arch", [["arch=autoencoder"], ["arch=autoencoder", "arch.channels=[8]"], ["arch=mlp"]])
def test_images_are_reconstructed(arch, capsys):
    words = ["data=digits", "data.task=reconstruction", "rule=bp", *arch, "optimizer=adam", "trainer.epochs=4", *SHORT]
    result, rows, _ = run([*words, "data.limit_train=600"], capsys)
    assert result["data"]["outputs"] == 64 and result["selected_by"] == "val_loss"
    assert rows[-1]["test_r2"] > 0.1 and rows[-1]["test_loss"] < rows[0]["test_loss"]
    model = credit.load(run_folder(compose([*words, "data.limit_train=600"])))
    assert model.metrics()["test_r2"] == result["best"]["test_r2"]


# ------------------------------------------------------------ mixed labels

MIXED = ["data=digits", "data.limit_train=300", "data.mixup=0.4", "data.cutmix=1.0", "trainer.epochs=2", *SHORT]


@pytest.mark.parametrize(
    "more",
    [
        ["rule=fa", "trainer.measure=[alignment,drift,fgsm,lipschitz,magnitudes,pruning,signs]"],
        ["rule=dp", "trainer.measure=[inference]"],
        ["rule=bp", "arch=plain_conv_bn", "arch.widths=[4,4,4,4,4,4]", "trainer.adversarial_epsilon=0.1"],
        ["rule=lisp_ce", "rule.class_weights=[1,1,1,1,1,2,2,2,2,2]", "noise=0.2", "trainer.precision=float64"],
    ],
    ids=lambda words: words[0],
)
def test_runs_on_mixed_labels(more, capsys):
    result, rows, _ = run([*MIXED, *more], capsys)
    assert result["data"]["classes"] == 10 and 0 < rows[-1]["train_top1"] < 1
    model = credit.load(run_folder(compose([*MIXED, *more])))
    assert model.metrics()["test_top1"] == result["best"]["test_top1"]


@pytest.mark.slow
def test_runs_on_mixed_labels_are_the_same_in_one_pass(tmp_path, monkeypatch):
    losses = []
    for replicate in ("processes", "map"):
        monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / replicate))
        words = [*MIXED, "rule=bp", "trainer.precision=float64", f"trainer.replicate={replicate}"]
        assert main(["-m", *words, "seed=0,1"]) == 0
        folders = [run_folder(compose([*words, f"seed={seed}"])) for seed in (0, 1)]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        losses.append([result["last"]["train_loss"] for result in results])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9) and losses[0][0] != losses[0][1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["rule=lisp_margin", "data.mixup=0.2"],
            "rule.loss=worst_violation compares the logit of the true class with others",
        ),
        (
            ["rule=lfp_epsilon", "data.mixup=0.2"],
            "gives a feedback to each class's output, but the targets are shares of classes",
        ),
        (
            ["rule=bp", "data.task=reconstruction", "arch=autoencoder", "data.mixup=1"],
            "data.mixup=1 mixes class labels, and the task is reconstruction",
        ),
        (["rule=bp", "data.mixup=0"], "data.mixup=0"),
        (["rule=bp", "data.mix_probability=0.5"], "data.mix_probability=0.5 would change nothing"),
        (
            ["rule=bp", "data.mixup=1", "trainer.measure=[descent]"],
            "trainer.measure=[descent] measures classification, binary, and the task is mixtures",
        ),
        (["rule=bp", "rule.class_weights=[1,2]"], "rule.class_weights has 2 weights, and there are 10 classes"),
    ],
    ids=str,
)
def test_what_cannot_be_mixed_or_weighted_is_refused(words, message, capsys, tmp_path):
    assert message in refused(["data=digits", *words], capsys, tmp_path)


def test_warm_starts_and_attacks_have_the_task_of_the_run(capsys):
    words = ["data=diabetes", "rule=bp", "trainer.epochs=1", "trainer.warm_rule=fa", "trainer.warm_steps=2", *SHORT]
    result, _, _ = run([*words, "trainer.adversarial_epsilon=0.1"], capsys)
    assert result["status"] == "complete"


# ------------------------------------------------------------ sweeps and replicas


def test_a_sweep_shows_each_tasks_measure_and_marks_the_smallest_loss(rhyme, capsys):
    words = ["-m", "data=text", f"data.path={rhyme}", "data.context=16", "arch.width=16", "trainer.steps=40", *SHORT]
    assert main([*words, "rule=bp", "optimizer=adam", "optimizer.lr=0.01,0.00001"]) == 0
    table = capsys.readouterr().out
    best = next(line for line in table.splitlines() if " * " in line)
    assert " 0.01 " in best and "loss 0." in best and "best by validation loss" in table


def test_replicas_of_a_regression_are_the_runs_of_their_seeds(capsys):
    words = ["data=diabetes", "rule=fa", "arch.widths=[8]", "optimizer.lr=0.01", "trainer.epochs=3", *SHORT]
    alone = [run([*words, f"seed={seed}"], capsys)[0]["last"]["test_loss"] for seed in (0, 1)]
    assert main([*words, "rerun=true", "replicas=2", "trainer.replicate=map"]) == 0
    together = [
        json.loads((run_folder(compose([*words, f"seed={seed}"])) / "result.json").read_text())["last"]["test_loss"]
        for seed in (0, 1)
    ]
    assert together == pytest.approx(alone, rel=1e-4)


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["data=diabetes", "rule=lisp_margin"],
            "the targets of regression are numbers. Write rule.loss=mse or half_sse",
        ),
        (["data=diabetes", "rule=lfp_epsilon"], "gives a feedback to each class's output"),
        (
            ["data=diabetes", "rule=bp", "noise=0.4"],
            "makes class labels wrong, and the task is regression; write noise=none",
        ),
        (["data=diabetes", "rule=bp", "data.sampler=balanced"], "draws all classes equally often"),
        (
            ["data=diabetes", "rule=bp", "trainer.measure=[fgsm]"],
            "measures classification, binary, mixtures, and the task is regression",
        ),
        (["data=diabetes", "rule=bp", "trainer.report=[per_class]"], "reports scores of classes"),
        (["data=diabetes", "rule=bp", "arch=suc"], "suc has one output, the probability of class 1"),
        (["data=digits", "rule=bp", "data.task=regression"], "data=digits has class labels; write data.task=auto"),
        (["data=digits", "rule=bp", "data.target_scale=none"], "would change nothing: data=digits has class labels"),
        (["data=digits", "rule=bp", "arch=autoencoder"], "write data.task=reconstruction"),
        (["data=digits", "rule=bp", "arch=gpt"], "takes tokens (T,), but the data's examples have shape (1, 8, 8)"),
        (
            ["data=diabetes", "rule=bp", "arch=gpt"],
            "looks its inputs up in an embedding, but data=diabetes has numbers",
        ),
        (["data=text", "data.path=nowhere.txt", "rule=bp"], "there is no file at nowhere.txt"),
    ],
)
def test_what_does_not_fit_a_task_is_refused_before_training(words, told, capsys, tmp_path):
    assert told in refused(words, capsys, tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["arch=mlp"], "data=text has tokens, which Sequential takes as numbers: use arch=gpt or arch=rnn"),
        (["data.val_fraction=0.2"], "the set has a validation part of its own"),
        (["data.normalize=standard"], "tokens are no numbers; write data.normalize=none"),
        (["data.context=2000"], "the test part, is no longer than one window"),
        (["data.task=reconstruction"], "tokens are no numbers to reconstruct"),
        (["trainer.stop_when=collapsed"], "tokens is measured by its loss: write trainer.stop_when=no_gain"),
    ],
)
def test_what_does_not_fit_a_text_is_refused(words, told, rhyme, capsys, tmp_path):
    assert told in refused(["data=text", f"data.path={rhyme}", "rule=bp", *words], capsys, tmp_path)


def test_files_that_are_no_text_or_no_numbers_are_refused(capsys, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"caf\xe9 au lait")
    assert "is not a text in UTF-8: 'utf-8' codec can't decode byte 0xe9 in position 3" in refused(
        ["data=text", f"data.path={bad}", "rule=bp"], capsys, tmp_path
    )
    bad.write_text("")
    assert "is empty" in refused(["data=text", f"data.path={bad}", "rule=bp"], capsys, tmp_path)
    table = tmp_path / "mine.csv"
    table.write_text("a,b\n" + "".join(f"{at},{'large' if at % 2 else 3}\n" for at in range(40)))
    words = ["data=csv", f"data.path={table}", "data.target=b", "data.task=regression", "rule=bp"]
    assert "the target 'b' has text ('large')" in refused(words, capsys, tmp_path)
    assert "data.task=regression for numbers" in refused([*words[:2], "data.target=[a,b]", "rule=bp"], capsys, tmp_path)
