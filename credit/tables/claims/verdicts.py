"""Verdicts on claims, their findings by row, and their texts."""

from dataclasses import dataclass, field

from credit.tables.claims.statistics import FEWEST_REPEATS, LEVEL, Estimate
from credit.tables.measures.quantities import Measure
from credit.tables.report.words import number, signed, unit_of_difference
from credit.tables.spec.schema import Claim

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
TOO_FEW = "too few repeats"
"""The verdict on a claim with fewer than `FEWEST_REPEATS` repeats on a side."""
IDENTICAL = "identical"
"""The verdict on a claim whose two sides are the same runs."""
JUDGED = (HELD, NOT_HELD, UNDECIDED, TOO_FEW, IDENTICAL)
NOT_JUDGED = "not judged"
"""The verdict on a claim that a budget does not test, because its runs cannot decide it."""

LEGEND = (
    f"Held: one-sided p < {LEVEL}. Not held: the opposite has p < {LEVEL}. Undecided: neither. Too few repeats: fewer than "
    f"{FEWEST_REPEATS} on a side, from which nothing is concluded. Identical: both sides are the same runs, with equal weights in "
    "every repeat, so that comparing them is no evidence. The interval is that of the test, {test}: a 90 % confidence interval, "
    "which lies above a number exactly where the one-sided p of being above it is < 0.05, and likewise below (before a "
    "correction over rows). Repeats that are all equal have no spread to judge by: they decide nothing but that both sides are "
    "exactly the same, which holds `>=`, `<=` and `~`. "
    "`>=` with a tolerance asks that the left side falls short by less than that; `~` that the difference lies within it "
    "(two one-sided tests). Over several rows all must hold, each at p < 0.05, which needs no correction; one refutation "
    "refutes, so the p of the opposite is corrected by Holm over the rows. "
    "`at least k rows` counts means at the printed precision and asks for the same count in 95 % of bootstrap resamples of "
    "the repeats. `best(a, b)` is the one with the larger mean: chosen and tested on the same runs, so slightly optimistic."
)


@dataclass(frozen=True)
class Finding:
    """The result of a claim at one row, or of a whole trend.

    Attributes:
        row: the row's label.
        verdict: the verdict at the row.
        words: its explanation.
        estimate: the estimate; None without one.
        p: the p value of the claim or, if it is not held, of its opposite (corrected by Holm over several rows); None without one.
    """

    row: str
    verdict: str
    words: str
    estimate: Estimate | None = None
    p: float | None = None


@dataclass(frozen=True)
class Judgement:
    """The judgement of a claim.

    Attributes:
        claim: the claim.
        verdict: one of `JUDGED` or `NOT_JUDGED`.
        words: the explanation.
        findings: the results by row.
    """

    claim: Claim
    verdict: str
    words: str
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def known(p: float | None) -> float:
    """Return a p value that is not None, as of an estimate with a spread."""
    assert p is not None, "only estimates with a spread are tested"
    return p


def estimate_words(measure: Measure, estimate: Estimate, against: str = "", *, apart: bool = True) -> str:
    """Return an estimate with its interval and numbers of runs: ``+2.8 points (90 % interval +1.9 to +3.7; n = 3 and 3)``.

    Args:
        measure: the measure.
        estimate: the estimate.
        against: the number that the claim compares it with, as printed; empty for none.
        apart: whether the estimate is a difference, printed with a sign and in points instead of per cent.
    """

    def told(value: float) -> str:
        return signed(value, measure.decimals) if apart else number(value, measure.decimals)

    unit = unit_of_difference(measure.unit) if apart else f" {measure.unit}".rstrip()
    interval = estimate.interval()
    bounds = "" if interval is None else f"90 % interval {told(interval[0])} to {told(interval[1])}"
    inside = "; ".join(filter(None, [bounds, f"n = {estimate.n}" if estimate.n else ""]))
    return f"{told(estimate.value)}{unit}{f' against {against}' if against else ''} ({inside})"


def exact_words(measure: Measure, estimate: Estimate, *, apart: bool) -> str:
    """Return the text of an exact estimate: ``1.000 in every repeat (n = 3)``, ``equal in every repeat (n = 2 and 2)``.

    Args:
        measure, estimate, apart: as in `estimate_words`.
    """
    if apart and estimate.is_exactly(0.0):
        return f"equal in every repeat (n = {estimate.n})"
    told = signed(estimate.value, measure.decimals) if apart else number(estimate.value, measure.decimals)
    unit = unit_of_difference(measure.unit) if apart else f" {measure.unit}".rstrip()
    return f"{told}{unit} in every repeat (n = {estimate.n})"


def untested_words(estimate: Estimate, satisfied: bool) -> str:
    """Return the reason why an estimate without a spread is not tested, and whether its sign is as claimed (`satisfied`)."""
    why = f"fewer than {FEWEST_REPEATS} repeats decide nothing"
    if estimate.error is not None:
        same = "differences" if estimate.n.endswith("pairs") else "repeats"
        why = f"all {same} are equal, so there is no spread to judge by"
    return f"{why}, the sign is {'as claimed' if satisfied else 'against it'}"


def untested(estimate: Estimate) -> str:
    """Return the verdict on an estimate without a test."""
    return TOO_FEW if estimate.error is None else UNDECIDED


def t_words(t: float | None) -> str:
    """Return a t statistic as a text; a dash for None."""
    return "-" if t is None else f"{t:.2f}"
