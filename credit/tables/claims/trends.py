"""Test claims that a side grows or falls along the rows' axis."""

from typing import Any

from credit.tables.claims.expression import Side
from credit.tables.claims.sides import (
    Case,
    NoNumberError,
    has_jobs,
    linear_form,
    lost_words,
    refuse_identical,
    shared_repeats,
)
from credit.tables.claims.statistics import LEVEL, one_sample, slope
from credit.tables.claims.verdicts import (
    HELD,
    NOT_HELD,
    UNDECIDED,
    Finding,
    estimate_words,
    known,
    t_words,
    untested,
    untested_words,
)
from credit.tables.measures.collect import Cell
from credit.tables.report.words import p_words


def trend(case: Case, side: Side, rows: list[str]) -> Finding:
    """Test ``grows`` or ``falls`` by the slope against the rows' x within each repeat that all rows share.

    Args:
        case: the data of the claim.
        side: the side that grows or falls.
        rows: names of the rows; those without x, or not in this budget, are left out.
    """
    spec = case.held.spec
    placed = [(row, spec.rows[row].x) for row in rows if row and spec.rows[row].x is not None]
    run = [(row, float(x)) for row, x in placed if x is not None and has_jobs(case, side, row)]
    xs = [x for _, x in run]
    if len(set(xs)) < 2:
        return Finding("", UNDECIDED, "fewer than two places on the axis have been run")
    try:
        forms = [linear_form(case, side, row) for row, _ in run]
        if not any(of_row for of_row, _, _ in forms):
            refuse_identical(case, side, run[0][0], {})
    except NoNumberError as error:
        return Finding("", error.verdict, str(error))
    reach, sign = max(xs) - min(xs), 1 if case.claim.grows else -1
    values = [case.values(cell) for of_row, _, _ in forms for cell in of_row]
    lines = [[_at(case, repeat, *of_row[:2]) for of_row in forms] for repeat in shared_repeats(values)]
    if not lines:
        return Finding("", UNDECIDED, "no repeat completed at every row")
    largest = max(abs(number) for line in lines for number in line)
    estimate = one_sample([slope(xs, line) * reach for line in lines], largest=largest)
    span = f"from {spec.rows[run[xs.index(min(xs))][0]].label} to {spec.rows[run[xs.index(max(xs))][0]].label}"
    lost = lost_words(case, {cell: c for of_row, _, _ in forms for cell, c in of_row.items()})
    number = f"{estimate_words(case.measure, estimate)} along the fitted line {span}{lost}"
    if not estimate.has_spread:
        words = untested_words(estimate, sign * estimate.value > estimate.rounding)
        return Finding("", untested(estimate), f"{number}; {words}", estimate)
    pro, contra = (estimate.p_above(), estimate.p_below())[::sign]
    verdict = HELD if known(pro) < LEVEL else NOT_HELD if known(contra) < LEVEL else UNDECIDED
    shown = known(contra if verdict == NOT_HELD else pro)
    of = "of the opposite " if verdict == NOT_HELD else ""
    return Finding("", verdict, f"{number}; t = {t_words(estimate.t())}, p {of}{p_words(shown)}", estimate, shown)


def _at(case: Case, repeat: Any, of_row: dict[Cell, float], constant: float) -> float:
    """Return a side's value in one repeat."""
    return constant + sum(c * case.values(cell)[repeat] for cell, c in of_row.items())
