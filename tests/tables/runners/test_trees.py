"""The comparators: same data as a run, sane accuracies, repeatable, and results that the tables can read."""

import dataclasses
import json
import sys
from typing import Any

import pytest

from credit.core.config import check
from credit.core.errors import UserError
from credit.data import load
from credit.runs import folder as records
from credit.runs.summary import summarise
from credit.tables.measures.measures import measure
from credit.tables.runners import trees

BASE = {"rule": {"kind": "sweep", "name": "bp"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 2}}
MODELS = sorted(trees.MODELS)
IRIS = {"kind": "tabular", "name": "iris", "val_fraction": 0.0}


def config(data=IRIS, **more):
    return check({**BASE, "data": data, **more})


@pytest.mark.parametrize("model", MODELS)
def test_iris_is_learnt_as_is_known_of_boosted_trees(model):
    accuracies = []
    for fold in range(5):
        result = trees.run(config({**IRIS, "fold": fold}), {"model": model})
        assert result["last"]["train_top1"] == 1.0 and "val_top1" not in result["last"]
        accuracies.append(result["last"]["test_top1"])
    assert 0.90 <= sum(accuracies) / 5 <= 0.97  # the paper has 94.0 and 94.7
    assert len(set(accuracies)) > 1


@pytest.mark.parametrize("model", MODELS)
def test_images_are_flattened_and_a_validation_part_is_kept_out(model):
    cfg = config({"kind": "digits", "limit_train": 600})
    result = trees.run(cfg, {"model": model, "params": {"n_estimators": 30}})
    assert 0.90 <= result["last"]["test_top1"] <= 0.98 and 0.85 <= result["last"]["val_top1"] <= 0.99
    assert result["data"]["train_size"] == 540 and result["last"]["epoch"] == 30


def test_the_data_is_what_a_run_trains_on():
    cfg = config({**IRIS, "fold": 3}, noise=0.4)
    data = load(dataclasses.replace(cfg.data, batch_size=32), cfg.noise, seed=cfg.seed, device="cpu")
    seen: dict[str, Any] = {}

    class Model:
        def fit(self, x, y):
            seen.update(x=x, y=y)

        def predict(self, x):
            return [0] * len(x)

    trees._fitted(Model(), data)
    assert (seen["x"] == data.train.x.numpy()).all() and (seen["y"] == data.train.y.numpy()).all()
    result = trees.run(cfg, {"model": "xgboost"})
    assert result["data_digest"] == data.digest
    assert result["data"]["labels_wrong"] == int(data.corrupted.sum()) == 48
    assert result["last"]["memorized"] > 0.9  # unlimited trees learn the wrong labels, too


@pytest.mark.parametrize("model", MODELS)
def test_a_run_repeats_and_threads_do_not_name_it(model, monkeypatch, tmp_path):
    cfg, options = config({**IRIS, "fold": 1}), {"model": model, "params": {"subsample": 0.7, "n_estimators": 20}}
    if model == "lightgbm":
        options["params"]["subsample_freq"] = 1
    first = trees.run(cfg, options)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "elsewhere"))
    assert trees.run(cfg, options)["last"] == first["last"]
    assert trees.folder(cfg, {**options, "threads": 2}) == trees.folder(cfg, options)


def test_the_name_reads_and_stands_for_what_decides():
    name = trees.folder(config(), {"model": "xgboost"}).name
    assert name.startswith("xgboost-tabular_iris-f0-s0-") and len(name.rsplit("-", 1)[1]) == 10
    assert trees.folder(config(), {"model": "xgboost"}).parent == records.runs_root()
    others: list[tuple[Any, dict[str, Any]]] = [
        (config(), {"model": "lightgbm"}),
        (config(), {"model": "xgboost", "params": {"n_estimators": 10}}),
        (config({**IRIS, "fold": 1}), {"model": "xgboost"}),
        (config({**IRIS, "fold_seed": 1}), {"model": "xgboost"}),
        (config(seed=1), {"model": "xgboost"}),
        (config(noise=0.2), {"model": "xgboost"}),
    ]
    names = [trees.folder(cfg, options).name for cfg, options in others]
    assert len({name, *names}) == 7 and "symmetric0.2" in names[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"arch": {"kind": "lenet5"}},
        {"rule": {"kind": "sweep", "name": "mine", "loss": "violations", "gate": "responsive"}},
        {"optimizer": {"lr": 1.0}},
        {"data": {**IRIS, "batch_size": 7, "normalize": "unit", "drop_last": False}},
    ],
    ids=str,
)
def test_what_trees_do_not_see_is_not_in_the_name(changes):
    assert trees.folder(check({**BASE, "data": IRIS, **changes}), {"model": "xgboost"}) == trees.folder(
        config(), {"model": "xgboost"}
    )


def test_the_result_is_whole_and_readable_by_tables_and_summaries():
    cfg = config()
    place = trees.folder(cfg, {"model": "xgboost"})
    assert not records.is_complete(place)
    results = [trees.run(config(seed=seed), {"model": model}) for model in MODELS for seed in (0, 1)]
    assert records.is_complete(place) and json.loads((place / "result.json").read_text()) == results[2]
    assert records.read_config(place)["decisive"]["data"]["name"] == "iris"
    rows = summarise(results)
    assert [row["settings"]["rule"] for row in rows] == MODELS and [row["seeds"] for row in rows] == [[0, 1]] * 2
    assert rows[0]["last.test"]["n"] == 2
    shown = measure("last_accuracy").function(results[0], lambda: [], "last")
    assert shown == pytest.approx(100 * results[0]["last"]["test_top1"])
    assert {"status", "selected_by", "best", "provenance", "seconds", "data_digest"} <= set(results[0])
    assert any(name.startswith("xgboost") for name in results[2]["provenance"]["versions"])


def test_a_finished_run_is_not_made_again():
    cfg, options = config(), {"model": "xgboost"}
    first = trees.run(cfg, options)
    path = trees.folder(cfg, options) / "result.json"
    before = path.stat().st_mtime_ns
    assert trees.run(cfg, options) == first and path.stat().st_mtime_ns == before


def test_a_folder_in_use_is_refused():
    cfg, options = config(), {"model": "xgboost"}
    with records.locked(trees.folder(cfg, options)), pytest.raises(UserError, match="is training this very run"):
        trees.run(cfg, options)


def test_classes_missing_from_a_small_training_part_are_no_obstacle():
    cfg = config({"kind": "digits", "limit_train": 7, "val_fraction": 0.0})
    for model in MODELS:
        assert 0.05 < trees.run(cfg, {"model": model})["last"]["test_top1"] < 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "xgbost"}, "did you mean 'xgboost'?"),
        ({}, "options.model is missing: the runner trees has no default"),
        (
            {"model": "xgboost", "parms": {}},
            "options.parms={}: the runner trees has no such option; did you mean 'params'?",
        ),
        ({"model": "xgboost", "params": {"n_estimator": 3}}, "has no such parameter; did you mean 'n_estimators'?"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError) as error:
        trees.refuse(config(), options)
    assert words in str(error.value)


def test_a_missing_library_says_which_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(
        UserError, match=r"lightgbm is not installed .*the extra 'tabular': pip install 'credit\[tabular\]'"
    ):
        trees.refuse(config(), {"model": "lightgbm"})


def test_a_missing_set_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"missing: tabular/vehicle\.csv"):
        trees.refuse(config({**IRIS, "name": "vehicle", "root": str(tmp_path)}), {"model": "xgboost"})
    assert 1 < trees.estimate(config(), {"model": "xgboost"}) < 10
