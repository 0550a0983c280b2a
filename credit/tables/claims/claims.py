"""Test a paper's claims on a table's runs: the verdict is held, not held or undecided, with the estimates and p values.

The tests (`credit.tables.claims.verdicts.LEGEND` is their description in the report):

    a > b       held if the difference is significantly above 0, not held if significantly below, else undecided
    a >= b      the same with -tolerance instead of 0 (non-inferiority)
    a ~ b       held if the difference is significantly within +-tolerance (two one-sided tests), not held if outside
    several rows  held if the claim holds at every row (intersection-union test: its p is the largest of the rows, so that
                  rows tested at 0.05 each are together a test at 0.05); not held if it is refuted at a row, with the
                  refuting p corrected by Holm over the rows
    at_least k  counts the rows that satisfy the claim by their means at the printed precision, and the fraction of bootstrap
                resamples of the repeats in which at least k do: held at >= k and a fraction >= 95 %, not held at < k and
                <= 5 %, else undecided
    grows       the slope against the rows' x within each repeat; its mean over repeats is tested against 0

"Significantly" means a one-sided p < 0.05 of Welch's t test, or of the paired t test over shared repeats if the table's file
says so. With fewer than three repeats the verdict is "too few repeats", and the sign of the difference is shown. If all repeats
are equal (of each cell, or the paired differences), the variance cannot be estimated and the verdict is undecided, but for an
identity: `>=`, `<=` and `~` are held if every repeat gives exactly the number compared with, or the same on both sides. If both
sides are the same runs, with equal weights, the verdict is "identical".
"""

from collections.abc import Iterator
from dataclasses import dataclass

from credit.tables.claims.expression import Comparison, Minus, Number
from credit.tables.claims.sides import (
    Case,
    NoNumberError,
    has_jobs,
    linear_form,
    lost_words,
    refuse_identical,
    row_label,
    shared_repeats,
)
from credit.tables.claims.statistics import LEVEL, Estimate, holm, one_sample, welch
from credit.tables.claims.tallies import satisfied_by, tally
from credit.tables.claims.trends import trend
from credit.tables.claims.verdicts import (
    HELD,
    JUDGED,
    NOT_HELD,
    UNDECIDED,
    Finding,
    Judgement,
    estimate_words,
    exact_words,
    known,
    t_words,
    untested,
    untested_words,
)
from credit.tables.measures.collect import Collection
from credit.tables.report.words import p_words
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.schema import Claim

_NAMED = 4  # largest number of rows named in a line


def judge(claim: Claim, held: Collection, accuracy: str | None = None) -> Judgement:
    """Test a claim and return the judgement.

    Args:
        claim: the claim, as in the table's file.
        held: the table's runs.
        accuracy: the epoch of the accuracy, one of `credit.tables.spec.schema.ACCURACIES`; None for the one the paper reports.
    """
    case = Case(claim, held, claim.measure or held.spec.measures[0], accuracy)
    tree = claim_tree(held.spec, claim)
    rows = list(claim_rows(held.spec, claim)) or [""]  # without a row, every cell in the claim is a row/column
    if not isinstance(tree, Comparison):
        finding = trend(case, tree, rows)
        return Judgement(claim, finding.verdict, finding.words, (finding,))
    if claim.at_least is not None:
        return tally(case, tree, rows, claim.at_least)
    return _every(case, tree, rows)


def _every(case: Case, tree: Comparison, rows: list[str]) -> Judgement:
    run = [row for row in rows if has_jobs(case, tree, row)]
    if not run:
        return Judgement(case.claim, UNDECIDED, "not in this budget")
    estimates: list[tuple[str, Estimate | NoNumberError, str]] = []
    for row in run:
        try:
            estimates.append((row, *_difference(case, tree, row)))
        except NoNumberError as error:
            estimates.append((row, error, ""))
    asked = _asked(tree, case.claim.tolerance)
    tested = [estimate for _, estimate, _ in estimates if isinstance(estimate, Estimate) and estimate.has_spread]
    contra = iter(holm([asked.p_against(estimate) for estimate in tested]))
    findings = [_finding(case, asked, row, estimate, note, contra) for row, estimate, note in estimates]
    verdicts = {finding.verdict for finding in findings}
    verdict = NOT_HELD if NOT_HELD in verdicts else UNDECIDED if len(verdicts) > 1 else verdicts.pop()
    words = _all_words(findings, several=len(rows) > 1)
    left_out = f"; {len(rows) - len(run)} of {len(rows)} rows are not in this budget" if len(run) < len(rows) else ""
    return Judgement(case.claim, verdict, words + left_out, tuple(findings))


def _all_words(findings: list[Finding], several: bool) -> str:
    """Return the findings of all rows in one line; for many rows, the counts of verdicts."""
    if len(findings) == 1:
        return f"{findings[0].row}: {findings[0].words}" if several else findings[0].words
    if len({finding.words for finding in findings}) == 1:  # such as which columns are identical
        return findings[0].words
    told = {v: [finding.row for finding in findings if finding.verdict == v] for v in JUDGED}
    if len(findings) <= _NAMED:
        return "; ".join(f"{verdict} at {', '.join(rows)}" for verdict, rows in told.items() if rows)
    counts = ", ".join(f"{len(rows)} {verdict}" for verdict, rows in told.items() if rows)
    return f"of {len(findings)} rows {counts}"


def _finding(
    case: Case,
    asked: "_Asked",
    row: str,
    estimate: Estimate | NoNumberError,
    note: str,
    contra: Iterator[float],
) -> Finding:
    label = row_label(case, row)
    if isinstance(estimate, NoNumberError):
        return Finding(label, estimate.verdict, str(estimate))
    if estimate.is_exactly(asked.center):
        same = asked.op in (">=", "<=", "~")
        words = exact_words(case.measure, estimate, apart=asked.apart)
        return Finding(label, HELD if same else UNDECIDED, words + note, estimate)
    number = estimate_words(case.measure, estimate, asked.against, apart=asked.apart)
    if not estimate.has_spread:
        satisfied = bool(satisfied_by(case, asked.op, estimate.value, asked.center))
        return Finding(label, untested(estimate), f"{number}; {untested_words(estimate, satisfied)}{note}", estimate)
    p, against = asked.p_for(estimate), next(contra)
    verdict = HELD if p < LEVEL else NOT_HELD if against < LEVEL else UNDECIDED
    shown = against if verdict == NOT_HELD else p
    t = "" if asked.op == "~" else f"t = {t_words(estimate.t(asked.bound()))}, "
    of = "of the opposite " if verdict == NOT_HELD else ""
    return Finding(label, verdict, f"{number}; {t}p {of}{p_words(shown)}{note}", estimate, shown)


def _asked(tree: Comparison, tolerance: float) -> "_Asked":
    if isinstance(tree.right, Number):
        return _Asked(tree.op, tree.right.value, tolerance, f"{tree.right.value:g}", isinstance(tree.left, Minus))
    return _Asked(tree.op, 0.0, tolerance, "", True)


def _difference(case: Case, tree: Comparison, row: str) -> tuple[Estimate, str]:
    """Return the estimate of left minus right (of left alone against a number) at a row, and a note on `best` and lost runs."""
    side = tree.left if isinstance(tree.right, Number) else Minus(tree.left, tree.right)
    form, constant, chosen = linear_form(case, side, row)
    refuse_identical(case, tree, row, form)
    if not form:
        raise NoNumberError("both sides are the same cell")
    note = f"; best: {', '.join(dict.fromkeys(chosen))}" if chosen else ""
    note += lost_words(case, form)
    if not case.paired:
        return welch([(c, list(case.values(cell).values())) for cell, c in form.items()], constant), note
    samples = [(c, case.values(cell)) for cell, c in form.items()]
    shared = shared_repeats([found for _, found in samples])
    if not shared:
        raise NoNumberError("the two sides share no repeat that completed")
    sums = [constant + sum(c * found[repeat] for c, found in samples) for repeat in shared]
    largest = max(abs(c * found[repeat]) for c, found in samples for repeat in shared)
    return one_sample(sums, f"{len(sums)} pairs" if len(samples) > 1 else "", largest), note


@dataclass(frozen=True)
class _Asked:
    """The hypothesis about an estimate: that it is `op` `center`, with the tolerance if `op` has one.

    Attributes:
        op: one of `OPERATORS`.
        center, tolerance: the number compared with, and the tolerance.
        against: the number on the claim's right side as printed; empty if there is none.
        apart: whether the estimate is a difference.
    """

    op: str
    center: float
    tolerance: float
    against: str
    apart: bool

    def bound(self) -> float:
        """Return the bound of the one-sided tests of ``>``, ``>=``, ``<`` and ``<=``."""
        slack = {">=": -self.tolerance, "<=": self.tolerance}
        return self.center + slack.get(self.op, 0.0)

    def p_for(self, estimate: Estimate) -> float:
        """Return the p value of the claim, for an estimate with a spread."""
        low, high = self.center - self.tolerance, self.center + self.tolerance
        if self.op == "~":
            return max(known(estimate.p_above(low)), known(estimate.p_below(high)))
        return known(estimate.p_above(self.bound()) if self.op[0] == ">" else estimate.p_below(self.bound()))

    def p_against(self, estimate: Estimate) -> float:
        """Return the p value of the claim's opposite, for an estimate with a spread."""
        low, high = self.center - self.tolerance, self.center + self.tolerance
        if self.op == "~":
            return min(known(estimate.p_above(high)), known(estimate.p_below(low)))
        return known(estimate.p_below(self.bound()) if self.op[0] == ">" else estimate.p_above(self.bound()))
