"""What is said of a claim: its verdict, the rows it rests on, and the words for them."""

from dataclasses import dataclass, field

from credit.tables.claims.statistics import FEWEST_REPEATS, LEVEL, Estimate
from credit.tables.measures.quantities import Measure
from credit.tables.report.words import number, signed, unit_of_difference
from credit.tables.spec.schema import Claim

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
TOO_FEW = "too few repeats"
"""Of a claim with fewer than `FEWEST_REPEATS` on a side."""
IDENTICAL = "identical"
"""Of a claim whose two sides are the same runs."""
JUDGED = (HELD, NOT_HELD, UNDECIDED, TOO_FEW, IDENTICAL)
NOT_JUDGED = "not judged"
"""Of a claim that a budget leaves alone, because what it runs cannot tell."""

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
    """What one row (or the whole, for a trend) says of a claim; `row` is its label.

    `p` is that of the claim, or where it is not held that of its opposite, over several rows by Holm; None where nothing is
    tested.
    """

    row: str
    verdict: str
    words: str
    estimate: Estimate | None = None
    p: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A claim and its verdict (one of the names above), `words` why, and what each row says."""

    claim: Claim
    verdict: str
    words: str
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def known(p: float | None) -> float:
    """Return the p of an estimate that has a spread."""
    assert p is not None, "only estimates with a spread are tested"
    return p


def estimate_words(measure: Measure, estimate: Estimate, against: str = "", *, apart: bool = True) -> str:
    """Say an estimate with its interval and the runs it is of: ``+2.8 points (90 % interval +1.9 to +3.7; n = 3 and 3)``.

    Args:
        measure: whose number it is.
        estimate: the number.
        against: the number that a claim holds it against, as printed; empty for none.
        apart: it is a difference, so it has a sign, and points instead of per cents.
    """

    def told(value: float) -> str:
        return signed(value, measure.decimals) if apart else number(value, measure.decimals)

    unit = unit_of_difference(measure.unit) if apart else f" {measure.unit}".rstrip()
    interval = estimate.interval()
    bounds = "" if interval is None else f"90 % interval {told(interval[0])} to {told(interval[1])}"
    inside = "; ".join(filter(None, [bounds, f"n = {estimate.n}" if estimate.n else ""]))
    return f"{told(estimate.value)}{unit}{f' against {against}' if against else ''} ({inside})"


def exact_words(measure: Measure, estimate: Estimate, *, apart: bool) -> str:
    """Say a number that every repeat gives: ``1.000 in every repeat (n = 3)``, ``equal in every repeat (n = 2 and 2)``."""
    if apart and estimate.is_exactly(0.0):
        return f"equal in every repeat (n = {estimate.n})"
    told = signed(estimate.value, measure.decimals) if apart else number(estimate.value, measure.decimals)
    unit = unit_of_difference(measure.unit) if apart else f" {measure.unit}".rstrip()
    return f"{told}{unit} in every repeat (n = {estimate.n})"


def untested_words(estimate: Estimate, satisfied: bool) -> str:
    """Say why an estimate without a spread decides nothing, and on which side it is."""
    why = f"fewer than {FEWEST_REPEATS} repeats decide nothing"
    if estimate.error is not None:
        same = "differences" if estimate.n.endswith("pairs") else "repeats"
        why = f"all {same} are equal, so there is no spread to judge by"
    return f"{why}, the sign is {'as claimed' if satisfied else 'against it'}"


def untested(estimate: Estimate) -> str:
    """Return the verdict on an estimate that no test was made of."""
    return TOO_FEW if estimate.error is None else UNDECIDED


def t_words(t: float | None) -> str:
    """Return a t statistic for print."""
    return "-" if t is None else f"{t:.2f}"
