"""Runs of single units through the command, and what evaluations say of a probability."""

import json

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from credit.cli.train import main
from credit.core.config.compose import compose
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.data import load
from credit.models import build
from credit.runs import run_folder
from credit.tasks.base import fitting, of
from credit.training import train
from credit.training.evaluate import Running, evaluate

ONES = ["arch=suc", "data=ones", "data.dimension=10", "data.val_fraction=0", "schedule=constant", "trainer.device=cpu"]


def result_of(words, capsys):
    assert main(words) == 0
    capsys.readouterr()
    return json.loads((run_folder(compose(words)) / "result.json").read_text())


@pytest.mark.parametrize(
    "words",
    [
        ["rule=bp"],
        ["rule=bp", "rule.loss=mse", "optimizer.lr=0.5"],
        ["rule=untied_constant", "optimizer.momentum=0"],
        ["rule=ste", "rule.loss=mse", "arch.activation=step", "optimizer.momentum=0", "optimizer.lr=0.1"],
        ["rule=bp", "rule.loss=mse", "arch.activation=identity"],
        ["rule=lisp_ce", "rule.normalizer=none", "rule.clip=null", "optimizer=sgd"],
    ],
)
def test_a_single_unit_learns_the_ones(words, capsys):
    result = result_of([*words, *ONES, "trainer.epochs=8"], capsys)
    assert result["status"] == "complete" and result["parameters"] == 11
    assert result["last"]["test_top1"] > 0.9 and result["last"]["train_top1"] > 0.75
    assert 0 <= result["last"]["test_loss"] < 0.25


def test_each_seed_has_a_sample_of_its_own_and_is_resumed_on_it(capsys, monkeypatch, tmp_path):
    words = ["rule=bp", *ONES, "data.split_seed=null", "trainer.steps=40"]
    digests = [result_of([*words, f"seed={seed}"], capsys)["data"]["digest"] for seed in (0, 1, 0)]
    assert digests[0] == digests[2] != digests[1]
    cfg = compose([*words, "seed=1"])
    straight = json.loads((run_folder(cfg) / "result.json").read_text())["weights_sha256"]
    (run_folder(cfg) / "result.json").unlink()
    for place in (run_folder(cfg) / "checkpoints").glob("*000040.ckpt"):
        place.unlink()
    assert train(cfg, console=False)["weights_sha256"] == straight


def test_a_run_splits_digits_anew_for_its_seed(capsys):
    words = [
        "rule=bp",
        "data=digits",
        "arch.widths=[8]",
        "data.test_fraction=0.2",
        "data.split_seed=null",
        "trainer.steps=5",
    ]
    made = [result_of([*words, f"seed={seed}"], capsys)["data"] for seed in (0, 1)]
    assert [data["test_size"] for data in made] == [359, 359] and [data["split_seed"] for data in made] == [0, 1]
    assert made[0]["digest"] == made[1]["digest"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rule=bp", "arch=suc", "data=digits"], "arch=suc has one output, the probability of class 1 of two"),
        (["rule=lisp_margin", "arch=suc", "data=ones"], "Write rule.loss=ce, mse or half_sse"),
        (["rule=ste", "arch=suc", "arch.activation=step", "data=ones"], "Write rule.loss=mse"),
        (["rule=bp", "arch=suc", "data=ones", "data.threshold=1"], "data.threshold=1 is outside (0, 1)"),
        (
            ["rule=bp", "arch=mlp", "data.dimension=4"],
            "data.dimension=4 would change nothing: it is read with data=ones alone",
        ),
        (["rule=bp", "arch=lenet5", "data=ones"], "use arch=mlp"),
        (["rule=lisp_raw", "arch=mlp", "data.test_fraction=2"], "data.test_fraction=2 is outside (0, 1)"),
    ],
)
def test_what_cannot_work_is_told_on_one_screen(words, told, capsys, tmp_path):
    assert main(words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_answers_and_losses_of_both_kinds_of_output():
    p, y = torch.tensor([[0.2], [0.5], [0.51], [1.0]]), torch.tensor([0, 1, 1, 0])
    binary, classes = of("binary"), of("classification")
    assert binary.predict(p).tolist() == [0, 0, 1, 1] and binary.predict(p).dtype == torch.int64
    assert binary.loss(p, y).item() == pytest.approx(0.04 + 0.25 + 0.2401 + 1.0)
    z = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0]])
    assert classes.predict(z).tolist() == [1, 0] and classes.predict(z.expand(4, 2, 3)).shape == (4, 2)
    assert binary.predict(p.expand(5, 4, 1)).tolist() == [[0, 0, 1, 1]] * 5
    expected = torch.nn.functional.cross_entropy(z, torch.tensor([1, 2]), reduction="sum")
    assert classes.loss(z, torch.tensor([1, 2])) == expected
    models = torch.nn.Linear(2, 2), build({"kind": "suc"}, (2,), 2, seed=0)
    assert [fitting("classification", model).name for model in models] == ["classification", "binary"]


def test_an_evaluation_of_a_probability_scores_both_classes_and_the_wrong_labels():
    cfg = DataConfig(kind="ones", batch_size=8, normalize="none")
    data = load(cfg, NoiseConfig("symmetric", 0.2), seed=0, device="cpu")
    model = build({"kind": "suc"}, (10,), 2, seed=0)
    with torch.no_grad():
        model.get_parameter("unit.weight").fill_(100.0)
        model.get_parameter("unit.bias").fill_(-750.0)  # above 0 from eight ones on: the truth
    got = evaluate(model, data, 64, per_class=True)
    assert (got["val_top1"], got["test_top1"], got["memorized"], got["recovered"]) == (1.0, 1.0, 0.0, 1.0)
    assert got["test_loss"] < 1e-40 and "test_top5" not in got and set(got["per_class"]) == {"few", "many"}
    with torch.no_grad():
        model.get_parameter("unit.bias").fill_(-650.0)  # from seven on
    got = evaluate(model, data, 64, per_class=True)
    said = (data.test.x.sum(1) >= 7).long()
    precision, recall, f1, _ = precision_recall_fscore_support(data.test.y, said)
    for row, scores in zip(got["per_class"].values(), zip(precision, recall, f1, strict=True), strict=True):
        assert list(row.values()) == pytest.approx(list(scores))
    assert got["test_loss"] == pytest.approx((said != data.test.y).double().mean().item())


def test_running_means_count_right_answers_of_a_probability():
    running = Running(torch.device("cpu"), of("binary"))
    running.add(torch.tensor([[0.9], [0.9], [0.1]]), torch.tensor(0.5), torch.tensor([1, 0, 0]))
    assert running.summary() == pytest.approx({"train_loss": 0.5, "train_top1": 2 / 3})


@pytest.mark.parametrize(("activation", "rule"), [("step", "ste"), ("sigmoid", "bp")])
def test_alignment_is_measured_against_the_rules_own_loss(activation, rule, capsys):
    words = [f"rule={rule}", "rule.loss=mse", *ONES, f"arch.activation={activation}", "trainer.measure=[alignment]"]
    result_of([*words, "trainer.steps=3"], capsys)
    rows = (run_folder(compose([*words, "trainer.steps=3"])) / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["alignment"]["unit"]["cosine"] == pytest.approx(1.0)


def test_theorem_4_is_not_measured_of_a_probability(capsys):
    assert main(["rule=bp", *ONES, "trainer.measure=[descent]"]) == 2
    told = capsys.readouterr().err
    assert "trainer.measure=[descent] needs the gradient of S" in told and "gives one number" in told
