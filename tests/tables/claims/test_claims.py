"""Verdicts: the statistics against scipy's, and the rules by which they become held, not held, undecided."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from credit.tables.claims.statistics import holm, one_sample, slope, welch
from credit.tables.claims.verdicts import HELD, NOT_HELD, NOT_JUDGED, TOO_FEW, UNDECIDED
from credit.tables.report.report import judgements, verdict_lines, write_report
from credit.tables.report.words import signed
from tests.support.table_runs import ACCURACIES, HIGH, LOW, NEAR, estimate, held, table, verdict


def test_a_comparison_is_welchs_t_test(own: Path) -> None:
    found = verdict(own, "compare: a > b, at: [r0]", {("r0", "a"): HIGH, ("r0", "b"): NEAR})
    scipy = stats.ttest_ind(HIGH, NEAR, equal_var=False, alternative="greater")
    two_sided = stats.ttest_ind(HIGH, NEAR, equal_var=False).confidence_interval(0.9)
    assert found.findings[0].p == pytest.approx(scipy.pvalue)
    assert estimate(found).t() == pytest.approx(scipy.statistic)
    assert estimate(found).df == pytest.approx(scipy.df)
    assert estimate(found).interval() == pytest.approx((two_sided.low, two_sided.high))


def test_a_paired_comparison_is_the_paired_test_over_the_repeats_both_have(own: Path) -> None:
    a = [91.2, 91.9, 90.8, 70.0]
    b: list[float | None | str] = [91.0, 91.6, 90.7, "diverged"]
    found = verdict(own, "compare: a > b, at: [r0]", {("r0", "a"): a, ("r0", "b"): b}, "paired")
    scipy = stats.ttest_rel(a[:3], [91.0, 91.6, 90.7], alternative="greater")
    assert found.findings[0].p == pytest.approx(scipy.pvalue)
    assert found.verdict == HELD
    assert "n = 3 pairs" in found.words
    assert verdict(own, "compare: a > b, at: [r0]", {("r0", "a"): a, ("r0", "b"): b}).verdict == UNDECIDED


def test_a_side_against_a_number_is_the_one_sample_test(own: Path) -> None:
    found = verdict(own, "compare: a > 90, at: [r0]", {("r0", "a"): HIGH})
    assert found.findings[0].p == pytest.approx(stats.ttest_1samp(HIGH, 90, alternative="greater").pvalue)
    assert found.words.startswith("91.3 % against 90 (90 % interval")


def test_a_difference_of_differences_has_the_error_of_four_means(own: Path) -> None:
    cells = {("r0", "a"): HIGH, ("r0", "b"): LOW, ("r1", "a"): NEAR, ("r1", "b"): [88.0, 89.0, 88.5]}
    found = estimate(verdict(own, "compare: r0/a - r0/b > r1/a - r1/b", dict(cells)))
    variances = [np.var(v, ddof=1) / len(v) for v in cells.values()]
    assert found.value == pytest.approx(np.mean(HIGH) - np.mean(LOW) - np.mean(NEAR) + 88.5)
    assert found.error == pytest.approx(np.sqrt(sum(variances)))
    below = sum(v * v / (len(c) - 1) for v, c in zip(variances, cells.values(), strict=True))
    assert found.df == pytest.approx(sum(variances) ** 2 / below)


def test_the_same_cell_on_both_sides_cancels(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): LOW, ("r0", "c"): [50.0, 90.0, 10.0]}
    plain, padded = (verdict(own, f"compare: {text}, at: [r0]", cells) for text in ("a > b", "a - c > b - c"))
    assert estimate(padded).error == pytest.approx(estimate(plain).error)


@pytest.mark.parametrize(
    ("claim", "a", "b", "expected"),
    [
        ("a > b", HIGH, LOW, HELD),
        ("a > b", LOW, HIGH, NOT_HELD),
        ("a > b", HIGH, NEAR, UNDECIDED),
        ("a < b", LOW, HIGH, HELD),
        ("a < b", HIGH, LOW, NOT_HELD),
        ("a - b > 1", HIGH, LOW, HELD),
        ("a - b > 9", HIGH, LOW, NOT_HELD),
        ("'a > best(b, 99)'", HIGH, LOW, NOT_HELD),
        ("a ~ b, tolerance: 2", HIGH, NEAR, HELD),
        ("a ~ b, tolerance: 0.2", HIGH, NEAR, UNDECIDED),
        ("a ~ b, tolerance: 1", HIGH, LOW, NOT_HELD),
        ("a >= b, tolerance: 1.5", HIGH, NEAR, HELD),
        ("a >= b", HIGH, NEAR, UNDECIDED),
        ("a >= b, tolerance: 1", LOW, HIGH, NOT_HELD),
        ("a <= b, tolerance: 1.5", NEAR, HIGH, HELD),
    ],
)
def test_what_is_held(own: Path, claim: str, a: list[float], b: list[float], expected: str) -> None:
    found = verdict(own, f"compare: {claim}, at: [r0]", {("r0", "a"): a, ("r0", "b"): b})
    assert found.verdict == expected


def test_equivalence_is_two_one_sided_tests(own: Path) -> None:
    found = verdict(own, "compare: a ~ b, tolerance: 1, at: [r0]", {("r0", "a"): HIGH, ("r0", "b"): NEAR})
    above = stats.ttest_ind(np.array(HIGH) + 1, NEAR, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(np.array(HIGH) - 1, NEAR, equal_var=False, alternative="less").pvalue
    assert found.findings[0].p == pytest.approx(max(above, below))


def test_runs_that_are_equal_bit_for_bit_are_equal(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): list(HIGH)}
    assert verdict(own, "compare: a ~ b, tolerance: 0.1, at: [r0]", cells, "paired").verdict == HELD
    assert verdict(own, "compare: a >= b, at: [r0]", cells, "paired").verdict == HELD
    assert verdict(own, "compare: a > b, at: [r0]", cells, "paired").verdict == UNDECIDED


@pytest.mark.parametrize("a", [[91.0], [91.0, 91.5], [91.0, 91.0]])
@pytest.mark.parametrize(
    "claim", ["compare: a > b, at: [r0]", "compare: a ~ b, tolerance: 99, at: [r0]", "compare: a > 50"]
)
def test_fewer_than_three_repeats_decide_nothing_but_their_sign_is_told(own: Path, claim: str, a: list[float]) -> None:
    found = verdict(own, claim, {("r0", "a"): a, ("r0", "b"): [50.0, 51.0, 49.0]})
    assert found.verdict == TOO_FEW and found.findings[0].p is None
    assert "interval" not in found.words
    assert "fewer than 3 repeats decide nothing, the sign is as claimed" in found.words


def test_two_repeats_that_would_be_significant_are_not_judged(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): [95.0, 95.1], ("r0", "b"): [50.0, 50.1]}
    assert stats.ttest_ind([95.0, 95.1], [50.0, 50.1], equal_var=False, alternative="greater").pvalue < 1e-4
    assert verdict(own, "compare: a > b, at: [r0]", cells).verdict == TOO_FEW
    assert verdict(own, "compare: a > b, at: [r0]", cells, "paired").verdict == TOO_FEW
    assert verdict(own, "compare: a > b, at: [r0], at_least: 1", cells).verdict == TOO_FEW
    assert "the sign is against it" in verdict(own, "compare: a < b, at: [r0]", cells).words


@pytest.mark.parametrize("b", [[90.2, 91.0, 89.9], [90.9, 91.0, 89.9], NEAR, LOW])
def test_the_interval_is_the_one_of_the_test(own: Path, b: list[float]) -> None:
    """A claim is held exactly where the interval lies on its side, and not held where it lies on the other."""
    found = verdict(own, "compare: a > b, at: [r0]", {("r0", "a"): HIGH, ("r0", "b"): b})
    low, high = estimate(found).interval() or (0.0, 0.0)
    assert found.verdict == (HELD if low > 0 else NOT_HELD if high < 0 else UNDECIDED)
    assert f"90 % interval {signed(low, 1)} to {signed(high, 1)}" in found.words
    equal = verdict(
        own, f"compare: a ~ b, tolerance: {max(-low, high) + 0.01}, at: [r0]", {("r0", "a"): HIGH, ("r0", "b"): b}
    )
    assert equal.verdict == HELD


def test_best_is_the_column_with_the_larger_mean_and_is_named(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): LOW, ("r0", "c"): NEAR}
    found = verdict(own, "compare: 'best(a, c) > b', at: [r0]", cells)
    assert found.verdict == HELD
    assert found.words.endswith("best: c")
    assert estimate(found).value == pytest.approx(np.mean(NEAR) - np.mean(LOW))


def test_all_rows_must_hold_each_at_the_level_and_one_refutation_is_corrected_by_holm(own: Path) -> None:
    edge = [89.3, 91.0, 88.9]
    cells: ACCURACIES = {(row, "b"): LOW for row in ("r0", "r1", "r2")}
    one = stats.ttest_ind(edge, LOW, equal_var=False, alternative="greater").pvalue
    cells |= {(row, "a"): edge for row in ("r0", "r1", "r2")}
    found = verdict(own, "compare: a > b", cells)
    assert 0.05 / 3 < one < 0.05  # Holm's correction would leave it open
    assert [finding.p for finding in found.findings] == pytest.approx([one] * 3)
    assert found.verdict == HELD
    below = [87.2, 85.5, 86.6]
    against = stats.ttest_ind(below, LOW, equal_var=False, alternative="less").pvalue
    assert 0.05 / 3 < against < 0.05
    found = verdict(own, "compare: a > b", cells | {("r1", "a"): below})
    assert found.verdict == UNDECIDED
    assert [finding.verdict for finding in found.findings] == [HELD, UNDECIDED, HELD]
    found = verdict(own, "compare: a > b, at: [r1]", cells | {("r1", "a"): below})
    assert found.verdict == NOT_HELD
    found = verdict(own, "compare: a > b", cells | {("r1", "a"): [70.0, 71.0, 70.5]})
    assert found.verdict == NOT_HELD
    assert "not held at row 1" in found.words
    alone = stats.ttest_ind([70.0, 71.0, 70.5], LOW, equal_var=False, alternative="less").pvalue
    assert found.findings[1].p == pytest.approx(3 * alone)


EQUAL = [
    # the claim, a, b, its verdict and words
    ("a > b", [31.0, 31.0, 31.0], [30.0, 30.0, 30.0], UNDECIDED,
     "+1.0 points (n = 3 and 3); all repeats are equal, so there is no spread to judge by, the sign is as claimed"),
    ("a > b", [30.0, 30.0, 30.0], [31.0, 31.0, 31.0], UNDECIDED,
     "−1.0 points (n = 3 and 3); all repeats are equal, so there is no spread to judge by, the sign is against it"),
    ("a >= b, tolerance: 2", [30.0, 30.0, 30.0], [31.0, 31.0, 31.0], UNDECIDED,
     "−1.0 points (n = 3 and 3); all repeats are equal, so there is no spread to judge by, the sign is as claimed"),
    ("a ~ b, tolerance: 2", [30.0, 30.0, 30.0], [31.0, 31.0, 31.0], UNDECIDED,
     "−1.0 points (n = 3 and 3); all repeats are equal, so there is no spread to judge by, the sign is as claimed"),
    ("a ~ b, tolerance: 2", [31.0, 31.0, 31.0], [31.0, 31.0, 31.0], HELD, "equal in every repeat (n = 3 and 3)"),
    ("a >= b", [31.0, 31.0, 31.0], [31.0, 31.0, 31.0], HELD, "equal in every repeat (n = 3 and 3)"),
    ("a <= b", [31.0, 31.0, 31.0], [31.0, 31.0, 31.0], HELD, "equal in every repeat (n = 3 and 3)"),
    ("a > b", [31.0, 31.0, 31.0], [31.0, 31.0, 31.0], UNDECIDED, "equal in every repeat (n = 3 and 3)"),
    ("a >= 100", [100.0, 100.0, 100.0], [0.0], HELD, "100.0 % in every repeat (n = 3)"),
    ("a >= 100", [99.0, 99.0, 99.0], [0.0], UNDECIDED,
     "99.0 % against 100 (n = 3); all repeats are equal, so there is no spread to judge by, the sign is against it"),
    ("a - b <= 1", [31.0, 31.0, 31.0], [30.0, 30.0, 30.0], HELD, "+1.0 points in every repeat (n = 3 and 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "a", "b", "expected", "words"), EQUAL)
def test_equal_repeats_show_nothing_but_an_identity(
    own: Path, claim: str, a: list[float], b: list[float], expected: str, words: str
) -> None:
    found = verdict(own, f"compare: {claim}, at: [r0]", {("r0", "a"): a, ("r0", "b"): b})
    assert (found.verdict, found.words) == (expected, words)
    assert found.findings[0].p is None


def test_equal_differences_of_pairs_show_nothing_either(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): [90.3, 80.3, 70.3], ("r0", "b"): [90.1, 80.1, 70.1]}
    found = verdict(own, "compare: a > b, at: [r0]", cells, "paired")
    assert found.verdict == UNDECIDED
    assert found.words.startswith("+0.2 points (n = 3 pairs); all differences are equal, so there is no spread")
    cells = {(f"r{i}", "a"): [80.0 + i] * 3 for i in range(3)}
    found = verdict(own, "grows: a", cells)
    assert found.verdict == UNDECIDED
    assert "all repeats are equal, so there is no spread to judge by, the sign is as claimed" in found.words


def test_a_spread_on_one_side_alone_is_a_spread(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): [95.0, 95.0, 95.0], ("r0", "b"): LOW}
    found = verdict(own, "compare: a > b, at: [r0]", cells)
    assert found.verdict == HELD
    assert found.findings[0].p == pytest.approx(stats.ttest_1samp(LOW, 95, alternative="less").pvalue)


def test_holm_as_in_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_spreads_are_compared_by_the_test_of_brown_and_forsythe(own: Path) -> None:
    wide, narrow = [60.0, 92.1, 88.3, 71.0, 95.2, 64.9], [81.0, 81.3, 80.1, 80.8, 82.0, 79.9]
    found = verdict(own, "compare: a > b, of: spread, at: [r0]", {("r0", "a"): wide, ("r0", "b"): narrow})
    statistic = estimate(found).t()
    assert statistic is not None and found.verdict == HELD
    assert statistic**2 == pytest.approx(stats.levene(wide, narrow, center="median").statistic)
    assert verdict(own, "compare: a > b, at: [r0]", {("r0", "a"): wide, ("r0", "b"): narrow}).verdict == UNDECIDED


def test_rows_outside_the_budget_are_said_not_judged(own: Path) -> None:
    found = verdict(own, "compare: a > b", {("r0", "a"): HIGH, ("r0", "b"): LOW})
    assert found.verdict == HELD
    assert found.words.endswith("2 of 3 rows are not in this budget")
    assert verdict(own, "compare: a > b, at: [r2]", {("r0", "a"): HIGH}).words == "not in this budget"


def test_a_cell_without_a_number_leaves_the_claim_open_and_is_named(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): ["diverged", "failed", None]}
    found = verdict(own, "compare: a > b, at: [r0]", cells)
    assert found.verdict == UNDECIDED
    assert found.words == "b at row 0 has no number (0 of 3, 1 diverged, 1 failed, 1 missing)"


def test_at_least_counts_means_as_printed_and_resamples_the_repeats(own: Path) -> None:
    tie = [91.22, 91.94, 90.76]  # 91.3 in print, as HIGH is
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): LOW, ("r1", "a"): HIGH, ("r1", "b"): LOW}
    cells |= {("r2", "a"): tie, ("r2", "b"): HIGH}
    assert verdict(own, "compare: a >= b, at_least: 2", cells).verdict == HELD
    three = verdict(own, "compare: a >= b, at_least: 3", cells)
    assert three.words.startswith("3 of 3 rows by their means, at least 3 of 3 claimed; at least 3 in ")
    assert three.verdict == UNDECIDED
    assert verdict(own, "compare: a > b, at_least: 3", cells).words.startswith("2 of 3 rows")
    assert verdict(own, "compare: b > a, at_least: 2", cells).verdict == NOT_HELD


def test_at_least_resamples_the_same_repeats_of_both_sides_where_paired(own: Path) -> None:
    a, b = [90.0, 80.0, 70.0, 60.0], [89.0, 79.5, 69.0, 59.0]
    cells: ACCURACIES = {("r0", "a"): a, ("r0", "b"): b}
    assert verdict(own, "compare: a > b, at: [r0], at_least: 1", cells, "paired").verdict == HELD
    apart = verdict(own, "compare: a > b, at: [r0], at_least: 1", cells)
    assert apart.verdict == UNDECIDED
    assert apart == verdict(own, "compare: a > b, at: [r0], at_least: 1", cells)


def test_at_least_with_rows_that_have_no_numbers(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): LOW}
    found = verdict(own, "compare: a > b, at_least: 2", cells)
    assert found.verdict == UNDECIDED
    assert found.words == "1 of 1 rows by their means, at least 2 of 3 claimed; 2 rows have no numbers"
    assert verdict(own, "compare: a > b, at_least: 1", cells).verdict == HELD
    assert verdict(own, "compare: a < b, at_least: 3", cells).verdict == NOT_HELD


def test_at_least_takes_nothing_from_rows_whose_repeats_are_equal(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): HIGH, ("r0", "b"): LOW, ("r1", "a"): [31.0] * 3, ("r1", "b"): [30.0] * 3}
    cells |= {("r2", "a"): [50.0] * 3, ("r2", "b"): [50.0] * 3}
    two = verdict(own, "compare: a > b, at: [r0, r1], at_least: 2", cells)
    assert two.verdict == UNDECIDED
    assert two.words == "2 of 2 rows by their means, at least 2 of 2 claimed; 1 row has no spread to judge by"
    assert two.findings[1].words == "31.0 > 30.0, all repeats are equal, so there is no spread to judge by"
    assert verdict(own, "compare: a > b, at: [r0, r1], at_least: 1", cells).verdict == HELD
    alone = verdict(own, "compare: a > b, at: [r1], at_least: 1", cells)
    assert alone.verdict == UNDECIDED
    assert "repeats decide nothing" not in alone.words
    exact = verdict(own, "compare: a >= b, at: [r0, r2], at_least: 2", cells)
    assert exact.verdict == HELD
    assert exact.words.endswith("at least 2 in 100% of bootstrap resamples of the repeats")


def test_growing_is_a_t_test_on_the_slopes_of_the_repeats(own: Path) -> None:
    lines = {0: [80.0, 80.5, 79.8], 1: [81.0, 82.0, 80.1], 4: [84.1, 84.9, 83.0]}
    cells: ACCURACIES = {(f"r{i}", "a"): values for i, values in enumerate(lines.values())}
    found = verdict(own, "grows: a", cells)
    slopes = [np.polyfit([0, 1, 4], [line[seed] for line in lines.values()], 1)[0] for seed in range(3)]
    assert found.findings[0].p == pytest.approx(stats.ttest_1samp(slopes, 0, alternative="greater").pvalue)
    assert estimate(found).value == pytest.approx(4 * np.mean(slopes))
    assert found.verdict == HELD
    assert "along the fitted line from row 0 to row 2" in found.words
    falling = verdict(own, "falls: a", cells)
    assert falling.verdict == NOT_HELD
    assert verdict(own, "grows: 100 - a", cells).verdict == NOT_HELD


def test_growing_with_one_shared_repeat_is_not_judged(own: Path) -> None:
    cells: ACCURACIES = {("r0", "a"): [80.0, "diverged"], ("r1", "a"): [81.0, 82.0], ("r2", "a"): [84.0, 85.0]}
    found = verdict(own, "grows: a", cells)
    assert found.verdict == TOO_FEW
    assert "fewer than 3 repeats decide nothing, the sign is as claimed" in found.words
    assert verdict(own, "grows: a", {("r0", "a"): HIGH}).words == "fewer than two places on the axis have been run"


def test_slope_is_least_squares() -> None:
    assert slope([0, 1, 4], [2.0, 1.0, 7.0]) == pytest.approx(np.polyfit([0, 1, 4], [2.0, 1.0, 7.0], 1)[0])


def test_nothing_is_called_held_more_often_than_chance_allows() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 6))
    p = [welch([(1.0, list(line[:3])), (-1.0, list(line[3:]))]).p_above() for line in draws]
    assert 0.02 < np.mean([value is not None and value < 0.05 for value in p]) < 0.06


def test_an_estimate_without_spread_is_sure_only_of_its_number() -> None:
    flat = one_sample([0.1] * 7)
    assert not flat.has_spread
    assert (flat.p_above(0.05), flat.p_below(2.0), flat.t(), flat.interval()) == (None, None, None, None)
    assert flat.is_exactly(0.1) and not flat.is_exactly(0.1001)
    assert one_sample([1.0]).p_above() is None
    assert not one_sample([1.0]).is_exactly(1.0)
    tiny = welch([(1.0, [1e-9, 3e-9, 2e-9]), (-1.0, [5e-9, 6e-9, 7e-9])])
    assert tiny.has_spread and tiny.p_below() is not None


def test_a_claim_that_the_budget_does_not_judge_is_told_as_such(own: Path, tmp_path: Path) -> None:
    """Two networks that learnt nothing are equal, which would hold any `~`."""
    cells: ACCURACIES = {("r0", "a"): [10.0] * 3, ("r0", "b"): [10.0] * 3}
    spec = table(own, "compare: a ~ b, tolerance: 1, at: [r0]")
    assert [judgement.verdict for judgement in judgements(held(spec, cells))] == [HELD]
    for claims, expected in ((("it",), HELD), ((), NOT_JUDGED)):
        budgets = spec.budgets | {"quick": replace(spec.budgets["quick"], claims=claims)}
        collected = held(replace(spec, budgets=budgets), cells)
        (found,) = judgements(collected)
        assert found.verdict == expected
    page = write_report(collected.spec, collected.manifest, tmp_path / "report", collected).read_text()
    assert "## Claims: 1 not judged\n" in page and "| – **not judged** | it | It is said." in page
    assert "| not judged in this budget, which cannot tell |" in page and "one-sided p" not in page
    (line,) = verdict_lines(collected.spec, collected.manifest, collected)
    assert line == "– not judged       it: not judged in this budget, which cannot tell"
    assert '<span class="sign undecided">– not judged</span>' in (tmp_path / "report" / "report.html").read_text()
