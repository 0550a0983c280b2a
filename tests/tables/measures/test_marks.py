"""Runs under the authors' stopping rule: a dagger where a reasonable model was found before training diverged, else an X."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from credit.core.errors import UserError
from credit.tables.claims.claims import judge
from credit.tables.measures.collect import Collection
from credit.tables.measures.marks import LEGEND, mark, was_reasonable
from credit.tables.report.report import write_report
from credit.tables.report.words import measured, printed
from credit.tables.spec.load import load
from credit.tables.spec.schema import Published
from tests.support.table_runs import held, table, write_result
from tests.support.written import SMALL, write

RULE = {"config": {"trainer": {"stop_when": "collapsed"}}, "data": {"classes": 10}}
STOPPED: dict[str, Any] = {"stopped": {"why": "collapsed", "epoch": 7}}


def ended(at: str, status: str, best: float | None, last: float | None = 0.1, **more: Any) -> None:
    """Write a run under the rule: its best accuracy (validation and test alike) and its last."""
    rows = {
        key: None if value is None else {"epoch": 5, "val_top1": value, "test_top1": value, "train_top1": 0.9}
        for key, value in (("best", best), ("last", last))
    }
    write_result(at, 1.0, **{**RULE, **rows, "status": status, "selected_by": "val_top1", **more})


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Cells of three runs: a diverged with and without a model, b all diverged without, c one of each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    spec = table(tmp_path / "conf", "compare: a > b", accuracy="last")
    collection = held(spec, {("r0", "a"): [1.0] * 3, ("r0", "b"): [1.0] * 3, ("r0", "c"): [1.0] * 3})
    for seed, (best, status, more) in enumerate(
        [(0.89, "diverged", {}), (0.90, "complete", STOPPED), (0.88, "diverged", {})]
    ):
        ended(f"a-r0-s{seed}", status, best, 0.1, **more)
        ended(f"b-r0-s{seed}", status, 0.15, 0.1, **more)
    ended("c-r0-s0", "complete", 0.92, 0.91)
    ended("c-r0-s1", "diverged", 0.80)
    ended("c-r0-s2", "diverged", None, None)
    return collection


def test_the_model_found_before_counts_and_is_marked(found: Collection) -> None:
    told = found.summary(("r0", "a"), "accuracy")
    assert told.mean == pytest.approx(89.0) and (told.n, told.mark, told.counts()) == (3, "†", "")
    assert measured(told, 1) == "89.0 ± 1.0 †"


def test_without_a_reasonable_model_the_cell_is_an_x(found: Collection) -> None:
    told = found.summary(("r0", "b"), "accuracy")
    assert (told.n, told.mean, told.mark) == (0, None, "X")
    assert measured(told, 1) == "X"


def test_a_cell_of_every_kind_says_how_many_of_each(found: Collection) -> None:
    told = found.summary(("r0", "c"), "accuracy")
    assert measured(told, 1) == "85.5 ± 7.8 (2 of 3, 1 †, 1 X)"  # the last epoch's 91 and the 80 found before
    ended("c-r0-s2", "complete", 0.9, 0.9)
    del found.runs["r0", "c"][2].__dict__["result"]
    found._held.clear()
    assert measured(found.summary(("r0", "c"), "accuracy"), 1).endswith("(1 † of 3)")


def test_other_measures_are_those_of_runs_that_went_on_and_of_how_many_did_not(found: Collection) -> None:
    assert found.summary(("r0", "c"), "gap").counts() == "1 of 3, 1 X, 1 without this number"
    shares = [found.summary(("r0", column), "diverged") for column in "abc"]
    assert [told.mean for told in shares] == [100.0, 100.0, pytest.approx(200 / 3)]
    assert {told.counts() for told in shares} == {""}
    claim = replace(found.spec.claims[0], compare="b >= 100", measure="diverged")
    assert judge(claim, found).verdict == "held"  # all of them, each time


def test_a_claim_on_a_cell_without_a_number_says_so(found: Collection) -> None:
    told = judge(found.spec.claims[0], found)
    assert told.verdict == "undecided" and "(0 of 3, 3 X)" in told.words


def test_the_report_shows_and_explains_the_marks(found: Collection, tmp_path: Path) -> None:
    published = {("r0", "a"): Published(89.3, 0.17, mark="†"), ("r0", "b"): Published(None, mark="X")}
    spec = replace(found.spec, published=published)
    found = replace(found, spec=spec)
    page = write_report(spec, found.manifest, tmp_path / "out", found).read_text()
    assert "89.0 ± 1.0 †" in page.replace("**", "") and "[89.30 ± 0.17 †]" in page and "[X]" in page
    assert LEGEND in page
    assert "3 of 9 runs complete, 6 diverged, 2 of the complete ones given up" in page
    with (tmp_path / "out" / "report.csv").open() as file:
        lines = {line["column"]: line for line in csv.DictReader(file) if line["measure"] == "accuracy"}
    assert [(lines[c]["mark"], lines[c]["published_mark"], lines[c]["diverged"]) for c in "abc"] == [
        ("†", "†", "2"), ("X", "X", "2"), ("", "", "2"),
    ]  # fmt: skip
    assert lines["b"]["difference"] == "" == lines["b"]["published_mean"]


def test_a_report_without_the_stopping_rule_says_nothing_of_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    spec = table(tmp_path / "conf", "compare: a > b")
    collection = held(spec, {("r0", "a"): [80.0, "diverged"], ("r0", "b"): [70.0, 71.0]})
    assert not collection.marks()
    page = write_report(spec, collection.manifest, tmp_path / "out", collection).read_text()
    assert LEGEND not in page and "1 diverged †" in page
    assert "mark" not in (tmp_path / "out" / "report.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("classes", "accuracy", "reasonable"),
    [(10, 0.201, True), (10, 0.2, False), (2, 0.76, True), (2, 0.74, False), (3, 0.66, False), (3, 0.67, True)],
)  # fmt: skip
def test_reasonable_is_clearly_above_chance(classes: int, accuracy: float, reasonable: bool) -> None:
    result = {"best": {"val_top1": accuracy}, "data": {"classes": classes}}
    assert was_reasonable(result) == reasonable
    assert was_reasonable({"best": {"test_top1": accuracy}, "data": {"classes": classes}}) == reasonable
    assert not was_reasonable({"best": None, "data": {"classes": classes}})


def test_only_runs_under_the_rule_that_ended_badly_are_marked() -> None:
    good = {**RULE, "best": {"val_top1": 0.9}}
    assert mark({**good, "status": "diverged"}) == "†" and mark({**good, "status": "complete", **STOPPED}) == "†"
    assert mark({**good, "status": "complete"}) == "" == mark({**good, "status": "failed"})
    assert mark({**good, "status": "diverged", "config": {"trainer": {"stop_when": "never"}}}) == ""
    assert mark({"status": "diverged", "best": {"val_top1": 0.9}, "config": {}}) == ""


@pytest.mark.parametrize(
    ("text", "mean", "std", "sign", "shown"),
    [
        ("X", None, None, "X", "X"),
        ("dagger 89.3+-0.17", 89.3, 0.17, "†", "89.30 ± 0.17 †"),
        ("† 89.3 ± 0.17", 89.3, 0.17, "†", "89.30 ± 0.17 †"),
        ("89.3 ± 0.17†", 89.3, 0.17, "†", "89.30 ± 0.17 †"),
        ("89.3", 89.3, None, "", "89.3"),
    ],
)
def test_published_cells_can_say_marks(
    own: Path, text: str, mean: float | None, std: float | None, sign: str, shown: str
) -> None:
    name = write(own, SMALL.replace("clean: {bp: 94.0 ± 3.3", f'clean: {{bp: "{text}"'))
    cell = load(name).published["clean", "bp"]
    assert (cell.mean, cell.std, cell.mark, printed(cell)) == (mean, std, sign, shown)
    assert load(name).means_in("accuracy").get(("clean", "bp")) == mean


def test_a_mark_without_a_number_is_refused(own: Path) -> None:
    name = write(own, SMALL.replace("clean: {bp: 94.0 ± 3.3", 'clean: {bp: "† "'))
    with pytest.raises(
        UserError, match=r'write a number.*"89.3 ± 0.17 †" where training diverged after it, X where no model'
    ):
        load(name)
