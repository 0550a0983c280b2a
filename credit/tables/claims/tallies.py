"""Test claims about a number of rows (`at_least`): by the rows' means, and by bootstrap resamples of the repeats."""

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
    means: dict[str, bool] = {}
    findings, resampled, single, flat = [], [], False, 0
    for index, row in enumerate(rows):
        try:
            refuse_identical(case, tree, row, linear_form(case, Minus(tree.left, tree.right), row)[0])
            left, right = (side_value(side, row, case.mean) for side in (tree.left, tree.right))
            means[row] = bool(satisfied_by(case, tree.op, left, right))
            boot, spread = _bootstrap(case, tree, row, index)
        except NoNumberError as error:
            findings.append(Finding(row_label(case, row), error.verdict, str(error)))
            continue
        often = "" if boot is None else f", in {boot.mean():.0%} of resamples"
        if boot is None:
            single = True
        elif spread:
            resampled.append(boot)
        else:
            flat += 1
            often = ", all repeats are equal, so there is no spread to judge by"
        decimals = case.measure.decimals
        word = "satisfied" if means[row] else "not satisfied"
        lost = lost_words(case, {(cell.row or row, cell.column): 1.0 for cell in cells(tree)})
        text = f"{left:.{decimals}f} {tree.op} {right:.{decimals}f}{often}{lost}"
        findings.append(Finding(row_label(case, row), word, text))
    satisfied, unjudged = sum(means.values()), len(rows) - len(means)
    alike = sum(finding.verdict == IDENTICAL for finding in findings)
    words = f"{satisfied} of {len(means)} rows by their means, at least {wanted} of {len(rows)} claimed"
    if unjudged > alike:
        words += f"; {_rows(unjudged - alike, 'has', 'have')} no numbers"
    if alike:
        words += f"; {_rows(alike, 'compares', 'compare')} identical runs, which is no evidence"
    if flat:
        words += f"; {_rows(flat, 'has', 'have')} no spread to judge by"
    if single:
        words += f"; fewer than {FEWEST_REPEATS} repeats decide nothing"
    if single or not resampled:
        verdict = TOO_FEW if single else IDENTICAL if alike == len(rows) else UNDECIDED
        return Judgement(case.claim, verdict, words, tuple(findings))
    counts, unknown = sum(boot.astype(int) for boot in resampled), unjudged + flat
    share, could = float((counts >= wanted).mean()), float((counts + unknown >= wanted).mean())
    verdict = UNDECIDED
    if satisfied >= wanted and share >= 1 - LEVEL:
        verdict = HELD
    elif satisfied + unjudged < wanted and could <= LEVEL:
        verdict = NOT_HELD
    if not unknown:
        words += f"; at least {wanted} in {share:.0%} of bootstrap resamples of the repeats"
    return Judgement(case.claim, verdict, words, tuple(findings))


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
