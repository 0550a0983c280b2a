"""Judge a paper's claims by a table's runs: held, not held, or undecided, with the numbers it rests on.

The rules (`credit.papers.verdicts.LEGEND` is what the report prints of them):

    a > b       held where the difference is significantly above 0, not held where significantly below, else undecided
    a >= b      the same about -tolerance: a falls short by less than the tolerance (non-inferiority)
    a ~ b       held where the difference is significantly inside +-tolerance (two one-sided tests), not held where outside
    several rows  held where it holds at every row, not held where it is refuted at one; p corrected by Holm over the rows
    at_least k  the rows that satisfy it by their means at the printed precision, and the share of bootstrap resamples of the
                repeats in which at least k do: held at >= k and a share >= 95 %, not held at < k and <= 5 %, else undecided
    grows       the slope against the rows' x within each repeat, its mean over repeats tested against 0

"Significantly": one-sided p < 0.05 of Welch's t test, or of the paired t test over shared repeats where the spec says so.
Below two repeats nothing is decided; the sign is told.
"""

from collections.abc import Iterator

from credit.papers.collect import Collection
from credit.papers.expression import Comparison, Minus, parse_comparison, parse_side
from credit.papers.inference import LEVEL, Estimate, holm, one_sample, welch
from credit.papers.sides import Case, NoNumberError, has_jobs, judged_rows, linear_form, row_label, shared_repeats
from credit.papers.spec import Claim
from credit.papers.tallies import satisfied_by, tally
from credit.papers.trends import trend
from credit.papers.verdicts import HELD, NOT_HELD, UNDECIDED, Finding, Judgement, difference_words, known, t_words
from credit.papers.words import p_words


def judge(claim: Claim, held: Collection, accuracy: str | None = None) -> Judgement:
    """Return the verdict on a claim.

    Args:
        claim: as in the spec.
        held: the table's runs.
        accuracy: one of `ACCURACIES` for another epoch than the one the paper reports.
    """
    case = Case(claim, held, claim.measure or held.spec.measures[0], accuracy)
    spec = held.spec
    if claim.compare is None:
        side = parse_side(claim.grows or claim.falls or "", spec.columns, spec.rows)
        finding = trend(case, side, judged_rows(case, side))
        return Judgement(claim, finding.verdict, finding.words, (finding,))
    tree = parse_comparison(claim.compare, spec.columns, spec.rows)
    rows = judged_rows(case, tree)
    if claim.at_least is not None:
        return tally(case, tree, rows, claim.at_least)
    return _every(case, tree, rows)


def _every(case: Case, tree: Comparison, rows: list[str]) -> Judgement:
    run = [row for row in rows if has_jobs(case, tree, row)]
    if not run:
        return Judgement(case.claim, UNDECIDED, "not in this budget")
    estimates: list[tuple[str, Estimate | None, str]] = []
    for row in run:
        try:
            estimates.append((row, *_difference(case, tree, row)))
        except NoNumberError as error:
            estimates.append((row, None, str(error)))
    sure = [estimate for _, estimate, _ in estimates if estimate is not None and estimate.error is not None]
    pro = iter(holm([_p_for(tree.op, estimate, case.claim.tolerance) for estimate in sure]))
    contra = iter(holm([_p_against(tree.op, estimate, case.claim.tolerance) for estimate in sure]))
    findings = [_finding(case, tree, row, estimate, note, pro, contra) for row, estimate, note in estimates]
    verdicts = {finding.verdict for finding in findings}
    verdict = NOT_HELD if NOT_HELD in verdicts else UNDECIDED if UNDECIDED in verdicts else HELD
    left_out = f"{len(rows) - len(run)} of {len(rows)} rows are not in this budget" if len(run) < len(rows) else ""
    if len(findings) == 1:
        words = f"{findings[0].row}: {findings[0].words}" if len(rows) > 1 else findings[0].words
    else:
        tally = [f"{sum(f.verdict == v for f in findings)} {v}" for v in (HELD, NOT_HELD, UNDECIDED) if v in verdicts]
        words = f"of {len(findings)} rows {', '.join(tally)}"
    return Judgement(case.claim, verdict, "; ".join(filter(None, [words, left_out])), tuple(findings))


def _finding(
    case: Case,
    tree: Comparison,
    row: str,
    estimate: Estimate | None,
    note: str,
    pro: Iterator[float],
    contra: Iterator[float],
) -> Finding:
    label = row_label(case, row)
    if estimate is None:
        return Finding(label, UNDECIDED, note)
    number = difference_words(case.measure, estimate)
    if estimate.error is None:
        satisfied = satisfied_by(case, tree.op, estimate.value, 0.0)
        sign = "the sign is as claimed" if satisfied else "the sign is against it"
        return Finding(label, UNDECIDED, f"{number}; one repeat decides nothing, {sign}{note}", estimate)
    p, against = next(pro), next(contra)
    verdict = HELD if p < LEVEL else NOT_HELD if against < LEVEL else UNDECIDED
    shown = against if verdict == NOT_HELD else p
    t = "" if tree.op == "~" else f"t = {t_words(estimate.t(_bound(tree.op, case.claim.tolerance)))}, "
    of = "of the opposite " if verdict == NOT_HELD else ""
    return Finding(label, verdict, f"{number}; {t}p {of}{p_words(shown)}{note}", estimate, shown)


def _difference(case: Case, tree: Comparison, row: str) -> tuple[Estimate, str]:
    """Return left minus right at a row, and which column each `best` stands for."""
    form, constant, chosen = linear_form(case, Minus(tree.left, tree.right), row)
    note = f"; best: {', '.join(dict.fromkeys(chosen))}" if chosen else ""
    if not case.paired:
        return welch([(c, list(case.values(cell).values())) for cell, c in form.items()], constant), note
    samples = [(c, case.values(cell)) for cell, c in form.items()]
    shared = shared_repeats([found for _, found in samples])
    if not shared:
        raise NoNumberError("the two sides share no repeat that completed")
    sums = [constant + sum(c * found[repeat] for c, found in samples) for repeat in shared]
    return one_sample(sums, f"{len(sums)} pairs" if len(samples) > 1 else ""), note


def _bound(op: str, tolerance: float) -> float:
    """Return the value of the difference that ``>``, ``>=``, ``<``, ``<=`` are tested against."""
    return {">": 0.0, ">=": -tolerance, "<": 0.0, "<=": tolerance}[op]


def _p_for(op: str, estimate: Estimate, tolerance: float) -> float:
    """Return the p of the claim itself."""
    if op == "~":
        return _exact(max(known(estimate.p_above(-tolerance)), known(estimate.p_below(tolerance))), estimate, tolerance)
    bound = _bound(op, tolerance)
    p = known(estimate.p_above(bound) if op[0] == ">" else estimate.p_below(bound))
    return 0.0 if op[1:] and estimate.error == 0 and estimate.value == bound else p


def _p_against(op: str, estimate: Estimate, tolerance: float) -> float:
    """Return the p of its opposite."""
    if op == "~":
        return min(known(estimate.p_above(tolerance)), known(estimate.p_below(-tolerance)))
    bound = _bound(op, tolerance)
    return known(estimate.p_below(bound) if op[0] == ">" else estimate.p_above(bound))


def _exact(p: float, estimate: Estimate, tolerance: float) -> float:
    """Equal runs are equal: without any spread the bound itself counts as inside."""
    return 0.0 if estimate.error == 0 and abs(estimate.value) <= tolerance else p
