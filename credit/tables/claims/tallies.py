"""Test claims about a number of rows (`at_least`): by the rows' means, and by bootstrap resamples of the repeats."""

from dataclasses import dataclass
from typing import Any

from credit.tables.claims.expression import Comparison, Minus, cells
from credit.tables.claims.sides import (
    Case,
    NoNumberError,
    linear_form,
    lost_words,
    refuse_identical,
    row_label,
    shared_repeats,
    side_value,
)
from credit.tables.claims.statistics import FEWEST_REPEATS, LEVEL, ROUNDING, resampled_means
from credit.tables.claims.verdicts import HELD, IDENTICAL, NOT_HELD, TOO_FEW, UNDECIDED, Finding, Judgement


def tally(case: Case, tree: Comparison, rows: list[str], wanted: int) -> Judgement:
    """Test that a comparison is satisfied at `wanted` or more of the rows, and return the judgement.

    Rows without values, rows that compare identical runs, and rows whose repeats are all equal are unknown: for the verdict "held"
    they count as satisfied in no resample, for "not held" as satisfied in every resample.

    Args:
        case: the data of the claim.
        tree: the comparison.
        rows: names of the rows.
        wanted: the number of rows claimed.
    """
    found = [_tallied(case, tree, row, index) for index, row in enumerate(rows)]
    judged = [one for one in found if one.satisfied is not None]
    satisfied, unjudged = sum(bool(one.satisfied) for one in judged), len(found) - len(judged)
    alike = sum(one.finding.verdict == IDENTICAL for one in found)
    single = any(one.resamples is None for one in judged)
    resampled = [one.resamples for one in judged if one.resamples is not None and one.spread]
    flat = sum(one.resamples is not None and not one.spread for one in judged)
    words = f"{satisfied} of {len(judged)} rows by their means, at least {wanted} of {len(rows)} claimed"
    words += _unknown_words(unjudged - alike, alike, flat, single)
    findings = tuple(one.finding for one in found)
    if single or not resampled:
        verdict = TOO_FEW if single else IDENTICAL if alike == len(rows) else UNDECIDED
        return Judgement(case.claim, verdict, words, findings)
    counts, unknown = sum(boot.astype(int) for boot in resampled), unjudged + flat
    share, could = float((counts >= wanted).mean()), float((counts + unknown >= wanted).mean())
    verdict = UNDECIDED
    if satisfied >= wanted and share >= 1 - LEVEL:
        verdict = HELD
    elif satisfied + unjudged < wanted and could <= LEVEL:
        verdict = NOT_HELD
    if not unknown:
        words += f"; at least {wanted} in {share:.0%} of bootstrap resamples of the repeats"
    return Judgement(case.claim, verdict, words, findings)


@dataclass(frozen=True)
class _Row:
    """A comparison at one row.

    Attributes:
        finding: the result at the row.
        satisfied: whether the means satisfy the comparison; None without values, or for identical runs.
        resamples, spread: as returned by `_bootstrap`.
    """

    finding: Finding
    satisfied: bool | None = None
    resamples: Any = None
    spread: bool = False


def _tallied(case: Case, tree: Comparison, row: str, index: int) -> _Row:
    """Return a comparison at a row, by the means and by resamples seeded with `index`."""
    try:
        refuse_identical(case, tree, row, linear_form(case, Minus(tree.left, tree.right), row)[0])
        left, right = (side_value(side, row, case.mean) for side in (tree.left, tree.right))
        boot, spread = _bootstrap(case, tree, row, index)
    except NoNumberError as error:
        return _Row(Finding(row_label(case, row), error.verdict, str(error)))
    satisfied = bool(satisfied_by(case, tree.op, left, right))
    often = "" if boot is None else f", in {boot.mean():.0%} of resamples"
    if boot is not None and not spread:
        often = ", all repeats are equal, so there is no spread to judge by"
    decimals = case.measure.decimals
    lost = lost_words(case, {(cell.row or row, cell.column): 1.0 for cell in cells(tree)})
    text = f"{left:.{decimals}f} {tree.op} {right:.{decimals}f}{often}{lost}"
    finding = Finding(row_label(case, row), "satisfied" if satisfied else "not satisfied", text)
    return _Row(finding, satisfied, boot, spread)


def _unknown_words(missing: int, alike: int, flat: int, single: bool) -> str:
    """Return a note on rows without values, with identical runs, with equal repeats, and with too few repeats."""
    words = f"; {_rows(missing, 'has', 'have')} no numbers" if missing > 0 else ""
    if alike:
        words += f"; {_rows(alike, 'compares', 'compare')} identical runs, which is no evidence"
    if flat:
        words += f"; {_rows(flat, 'has', 'have')} no spread to judge by"
    return words + (f"; fewer than {FEWEST_REPEATS} repeats decide nothing" if single else "")


def _rows(count: int, one: str, many: str) -> str:
    return f"{count} row {one}" if count == 1 else f"{count} rows {many}"


def _bootstrap(case: Case, tree: Comparison, row: str, index: int) -> tuple[Any, bool]:
    """Return for each resample whether the comparison is satisfied at a row (RESAMPLES,), and whether it is informative.

    The first is None below `FEWEST_REPEATS`. Repeats that are all equal are not informative (see `credit.tables.claims.claims`),
    unless both sides are exactly the same.
    """
    import numpy as np

    names = [(cell.row or row, cell.column) for cell in cells(tree)]
    found = {cell: case.values(cell) for cell in names}
    if case.paired:
        shared = shared_repeats(list(found.values()))
        found = {cell: {repeat: held[repeat] for repeat in shared} for cell, held in found.items()}
    if min(len(held) for held in found.values()) < FEWEST_REPEATS:
        return None, False
    means = resampled_means({cell: list(held.values()) for cell, held in found.items()}, case.paired, [index])
    left, right = (np.asarray(side_value(side, row, lambda cell: means[cell])) for side in (tree.left, tree.right))
    away = left - right
    rounding = ROUNDING * max(abs(value) for held in found.values() for value in held.values())
    same = tree.op in (">=", "<=", "~") and bool((abs(away) <= rounding).all())
    return satisfied_by(case, tree.op, left, right), same or bool(np.ptp(away) > rounding)


def satisfied_by(case: Case, op: str, left: Any, right: Any) -> Any:
    """Return whether two means, rounded as in the printed table, satisfy a comparison; for numbers or arrays.

    Args:
        case: the data of the claim, with its tolerance and the measure's decimals.
        op: one of `credit.tables.claims.expression.OPERATORS`.
        left, right: the means.
    """
    import numpy as np

    away = np.round(np.round(left, case.measure.decimals) - np.round(right, case.measure.decimals), 9)
    slack = case.claim.tolerance
    return {">": away > 0, ">=": away >= -slack, "<": away < 0, "<=": away <= slack, "~": abs(away) <= slack}[op]
