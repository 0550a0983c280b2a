"""Columns whose runs are identical: named in a report, and no evidence for a claim that compares them."""

from functools import partial
from pathlib import Path

import pytest

from credit.tables.claims.claims import judge
from credit.tables.claims.verdicts import HELD, IDENTICAL, UNDECIDED, Judgement
from credit.tables.measures.collect import Collection, collect
from credit.tables.report.report import write_report
from tests.support.table_runs import ACCURACIES, HIGH, NEAR, change_result, estimate, held, table

WEIGHTS = {"a": "same", "b": "same", "c": "other"}


def twins(
    own: Path, claim: str, rows: tuple[str, ...] = ("r0", "r1", "r2"), **changed: str
) -> tuple[Judgement, Collection]:
    """Return the verdict of a table whose columns a and b are the same runs, and its runs."""
    numbers: ACCURACIES = {(row, column): NEAR[:3] if column == "c" else HIGH for row in rows for column in "abc"}
    spec = table(own, claim)
    collected = held(spec, numbers)
    for (row, column), runs in collected.runs.items():
        for run in runs:
            digest = f"{(WEIGHTS | changed)[column]}-{row}-{run.repeat}"
            change_result(run.job.path(), partial(dict.update, weights_sha256=digest))
    return judge(spec.claims[0], collected), collected


@pytest.mark.parametrize(
    "claim", ["a ~ b, tolerance: 1", "a > b", "a >= b", "a - b <= 1", "a > b, at_least: 2", "a - c > b - c"]
)
def test_identical_runs_are_no_evidence_for_a_claim_that_compares_them(own: Path, claim: str) -> None:
    found, collected = twins(own, f"compare: {claim}")
    assert found.verdict == IDENTICAL
    assert {finding.verdict for finding in found.findings} == {IDENTICAL}
    assert "b is identical to a: equal weights in every repeat" in found.findings[0].words
    assert collected.twins == {(row, "b"): (row, "a") for row in ("r0", "r1", "r2")}


def test_a_trend_of_a_difference_of_identical_runs_is_no_evidence(own: Path) -> None:
    assert twins(own, "grows: a - b")[0].verdict == IDENTICAL
    assert twins(own, "grows: a - c")[0].verdict == UNDECIDED


def test_claims_about_one_of_two_identical_columns_are_judged(own: Path) -> None:
    first, second = (twins(own, f"compare: {column} >= c, tolerance: 9")[0] for column in "ab")
    assert first.verdict == second.verdict == HELD
    assert estimate(first) == estimate(second)


def test_identical_at_some_rows_leaves_a_claim_over_all_rows_open(own: Path) -> None:
    _, collected = twins(own, "compare: a >= b, tolerance: 9", rows=("r0", "r1"))
    for run in collected.runs["r1", "b"]:
        change_result(run.job.path(), partial(dict.update, weights_sha256="else"))
    judged = judge(collected.spec.claims[0], collect(collected.spec, collected.manifest))
    assert [finding.verdict for finding in judged.findings] == [IDENTICAL, HELD]
    assert judged.verdict == UNDECIDED and "identical at row 0" in judged.words


def test_runs_without_a_digest_of_their_weights_are_not_called_identical(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): list(HIGH)}
    spec = table(own, "compare: a >= b, tolerance: 9, at: [r0]")
    collected = held(spec, cells)
    assert collected.twins == {} and judge(spec.claims[0], collected).verdict == HELD


def test_equal_weights_with_other_numbers_are_other_evidence(own: Path) -> None:
    """Of a time, or of what a rule infers besides its weights."""
    _, collected = twins(own, "compare: a > b, at: [r0]")
    for run in collected.runs["r0", "b"]:
        change_result(run.job.path(), lambda result: result["last"].update(test_top1=0.5))
    assert judge(collected.spec.claims[0], collect(collected.spec, collected.manifest)).verdict == HELD


def test_the_report_says_which_columns_are_identical(own: Path, tmp_path: Path) -> None:
    _, collected = twins(own, "compare: a > b")
    page = write_report(collected.spec, collected.manifest, tmp_path / "report", collected).read_text()
    assert "b is identical to a in every row." in page and "c is identical" not in page
    assert "= **identical**" in page and "= a" in page
    html = (tmp_path / "report" / "report.html").read_text()
    assert "b is identical to a in every row." in html and "= a</span>" in html
    assert "r0/a" in (tmp_path / "report" / "report.csv").read_text()
