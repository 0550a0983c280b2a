"""Measures, on what a real run wrote and on rows of the same form."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.runs import read_metrics, read_result
from credit.tables.figures.courses import by_epoch, by_layer
from credit.tables.measures.measures import GROUPS, MEASURES, NUMBERS, measure
from credit.tables.measures.quantities import Rows
from credit.tables.spec.schema import Diverged
from tests.support.table_digits import Digits


@pytest.fixture
def run(digits: Digits) -> tuple[dict[str, Any], Rows]:
    """A run on Digits with 40 % wrong labels: its result, and its rows of metrics."""
    folder = digits.folder("noisy", "margin", 0)
    result = read_result(folder)
    assert result is not None
    return result, lambda: read_metrics(folder)


def no_rows() -> list[dict[str, Any]]:
    raise AssertionError("metrics.jsonl was read for a number that result.json has")


def test_numbers_of_a_run_need_result_json_alone(run: tuple[dict[str, Any], Rows]) -> None:
    result, _ = run
    last, best = result["last"], result["best"]
    wanted = {
        "accuracy": 100 * last["test_top1"],
        "last_accuracy": 100 * last["test_top1"],
        "best_val_accuracy": 100 * best["test_top1"],
        "train_accuracy": 100 * last["train_top1"],
        "gap": 100 * (last["train_top1"] - last["test_top1"]),
        "memorized": 100 * last["memorized"],
        "recovered": 100 * last["recovered"],
        "seconds_per_epoch": None,  # trained for a fraction of a second
        "total_seconds": result["seconds"],
        "time_ratio": None,
    }
    for name, number in wanted.items():
        assert measure(name).function(result, no_rows, "last") == pytest.approx(number), name


def test_the_time_of_an_epoch_needs_a_second_of_training(run: tuple[dict[str, Any], Rows]) -> None:
    pace = measure("seconds_per_epoch").function
    assert pace({**run[0], "seconds": 0.99}, no_rows, "last") is None
    assert pace({**run[0], "seconds": 1.0}, no_rows, "last") == run[0]["seconds_per_epoch"]


def test_accuracy_is_taken_at_the_epoch_the_paper_reports(run: tuple[dict[str, Any], Rows]) -> None:
    result, rows = run
    accuracy = measure("accuracy").function
    assert accuracy(result, no_rows, "last") == 100 * result["last"]["test_top1"]
    assert accuracy(result, no_rows, "best_val") == 100 * result["best"]["test_top1"]
    assert accuracy(result, rows, "best_test") == 100 * max(row["test_top1"] for row in rows())


def test_best_on_test_is_the_best_row_not_the_last() -> None:
    rows = [{"epoch": e, "test_top1": a} for e, a in enumerate([0.5, 0.9, 0.7], 1)]
    assert measure("accuracy").function({"last": rows[-1]}, lambda: rows, "best_test") == 90
    assert measure("accuracy").function({"last": rows[-1]}, list, "best_test") == 70


def test_alignment_is_the_mean_over_layers_at_the_last_measurement(run: tuple[dict[str, Any], Rows]) -> None:
    result, rows = run
    cosines = [layer["cosine"] for layer in rows()[-1]["alignment"].values()]
    assert len(cosines) == 2
    assert measure("alignment").function(result, rows, "last") == pytest.approx(100 * sum(cosines) / 2)
    assert measure("lowest_alignment").function(result, rows, "last") == pytest.approx(100 * min(cosines))
    older = [*rows(), {"epoch": 9}]
    assert measure("alignment").function(result, lambda: older, "last") == pytest.approx(100 * sum(cosines) / 2)


def test_a_path_is_the_last_row_that_has_it() -> None:
    rows: list[dict[str, Any]] = [{"descent": {"share": 0.5}}, {"descent": {"share": 0.75}}, {"descent": None}, {}]
    share = measure("descent.share")
    assert share.function({}, lambda: rows, "last") == 0.75
    assert share.label == "descent: share"
    assert measure("mean.descent.share").function({}, lambda: rows, "last") == 0.625
    assert measure("min.descent.share").function({}, lambda: rows, "last") == 0.5
    assert measure("max.descent.share").label == "descent: share, max over the run"
    assert measure("mean.descent.size").function({}, lambda: rows, "last") is None
    assert measure("descent.size").function({}, lambda: rows, "last") is None


def test_the_mean_or_least_of_a_named_measure_over_a_run(run: tuple[dict[str, Any], Rows]) -> None:
    result, rows = run
    least = [100 * min(layer["cosine"] for layer in row["alignment"].values()) for row in rows()]
    assert measure("min.lowest_alignment").function(result, rows, "last") == pytest.approx(min(least))
    assert measure("min.lowest_alignment").label == "cosine with backprop's update, lowest layer, min over the run"
    assert (measure("min.lowest_alignment").unit, measure("min.lowest_alignment").decimals) == ("%", 1)
    assert measure("mean.alignment").diagnostic == "alignment"
    losses = [row["test_loss"] for row in rows()]
    assert measure("mean.test_loss").function(result, rows, "last") == pytest.approx(sum(losses) / len(losses))
    assert measure("test_loss").function(result, rows, "last") == losses[-1]
    course = measure("mean.accuracy").by_epoch
    assert course is not None and course({"test_top1": 0.5}) == 50


def test_a_row_of_a_run_has_the_keys_that_paths_may_begin_with(run: tuple[dict[str, Any], Rows]) -> None:
    for row in run[1]():
        row.pop("confusion", None)  # a matrix is for a picture
        assert set(row) <= {*NUMBERS, *GROUPS, "alignment", "descent"}
        assert {key for key, value in row.items() if isinstance(value, dict)} <= {*GROUPS, "alignment"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("decsent.holds", "a row of metrics.jsonl has no 'decsent': did you mean 'descent'?"),
        ("mean.decsent.holds", "unknown measure 'mean.decsent.holds': a row of metrics.jsonl has no 'decsent'"),
        ("descent", "descent is several numbers: write which one, as descent.holds"),
        ("mean.descent", "descent is several numbers"),
        ("accuracy.mean", "accuracy is one number and has no parts"),
        ("test_top1.x", "test_top1 is one number and has no parts"),
        ("mean.total_seconds", "total_seconds is one number a run, so there is no mean over its rows"),
        ("max.best_test_accuracy", "best_test_accuracy is one number a run, so there is no max over its rows"),
        ("mean.acuracy", "unknown measure 'mean.acuracy': did you mean 'accuracy'?"),
        ("mean.", "unknown measure 'mean.'"),
    ],
)
def test_a_path_that_no_run_can_have_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        measure(name)
    assert said in str(caught.value)


def test_a_path_into_the_users_own_diagnostic(own: Path) -> None:
    (own / "diagnostic").mkdir()
    (own / "diagnostic" / "sharpness.py").write_text("raise AssertionError('imported')")
    use_folders([own])
    assert measure("sharpness.largest").diagnostic == "sharpness"
    with pytest.raises(UserError, match="did you mean 'sharpness'"):
        measure("sharpnes.largest")


def test_a_run_without_a_number_has_none() -> None:
    for name, of in MEASURES.items():
        assert of.function({"last": {}, "best": None}, list, "best_test") is None, name
        assert of.function({"last": None}, list, "last") is None, name


def test_an_unknown_measure_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match="unknown measure 'acuracy': did you mean 'accuracy'.*written as its path: descent"
    ):
        measure("acuracy")
    with pytest.raises(UserError, match="unknown measure 'descent.'"):
        measure("descent.")


def test_courses_are_means_over_the_runs_that_completed(digits: Digits) -> None:
    runs = digits.collected().runs["noisy", "margin"]
    course = by_epoch(runs, "accuracy")
    assert list(course) == [1, 2]
    assert course[2].n == 2
    assert course[2].mean == pytest.approx(sum(100 * run.rows[-1]["test_top1"] for run in runs) / 2)
    assert by_epoch(runs, "total_seconds") == {}
    layers = by_layer(runs)
    assert len(layers) == 2
    assert all(set(course) == {1, 2} and max(map(abs, course.values())) <= 100 for course in layers.values())


def test_a_diverged_run_has_no_number_whatever_it_had_reached(digits: Digits) -> None:
    digits.end("noisy", "margin", 0, "diverged")
    held = digits.collected()
    told = held.summary(("noisy", "margin"), "accuracy")
    assert (told.n, told.std, told.counts()) == (1, None, "1 of 2, 1 diverged")
    assert by_epoch(held.runs["noisy", "margin"], "accuracy")[2].n == 1
    assert held.status() == {"complete": 5, "diverged": 1}


def test_a_diverged_run_counts_as_what_the_table_says_and_is_told(digits: Digits) -> None:
    digits.end("noisy", "margin", 0, "diverged")
    digits = replace(digits, spec=replace(digits.spec, diverged=Diverged(9.9, "it answers one class")))  # it is shared
    held = digits.collected()
    told, other = (held.summary(("noisy", "margin"), name) for name in ("accuracy", "gap"))
    assert (told.n, told.counts()) == (2, "1 diverged, counted as 9.9")
    assert 9.9 in held.values(("noisy", "margin"), "accuracy").values()
    assert (other.n, other.counts()) == (1, "1 of 2, 1 diverged")
    digits.end("noisy", "margin", 1, "failed")
    assert digits.collected().summary(("noisy", "margin"), "accuracy").counts() == "1 of 2, 1 diverged, 1 failed"


def test_a_missing_run_and_a_failed_one_are_told_apart(digits: Digits) -> None:
    Path(digits.folder("noisy", "margin", 0) / "result.json").unlink()
    digits.end("noisy", "margin", 1, "failed")
    assert digits.collected().summary(("noisy", "margin"), "accuracy").counts() == "0 of 2, 1 failed, 1 missing"
