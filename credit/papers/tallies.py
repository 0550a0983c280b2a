"""Claims that ask for at least so many rows: counted as papers count, and again in resamples of the repeats."""

from typing import Any

from credit.papers.expression import Comparison, cells
from credit.papers.inference import LEVEL, resampled_means
from credit.papers.sides import Case, NoNumberError, lost_words, row_label, shared_repeats, side_value
from credit.papers.verdicts import HELD, NOT_HELD, UNDECIDED, Finding, Judgement


def tally(case: Case, tree: Comparison, rows: list[str], wanted: int) -> Judgement:
    """Judge that the comparison holds at `wanted` of the rows or more."""
    means: dict[str, bool] = {}
    findings, resampled, certain = [], [], True
    for index, row in enumerate(rows):
        try:
            left, right = (side_value(side, row, case.mean) for side in (tree.left, tree.right))
            means[row] = bool(satisfied_by(case, tree.op, left, right))
            boot = _bootstrap(case, tree, row, index)
        except NoNumberError as error:
            findings.append(Finding(row_label(case, row), UNDECIDED, str(error)))
            continue
        certain = certain and boot is not None
        resampled.append(boot)
        often = "" if boot is None else f", in {boot.mean():.0%} of resamples"
        decimals = case.measure.decimals
        word = "satisfied" if means[row] else "not satisfied"
        lost = lost_words(case, {(cell.row or row, cell.column): 1.0 for cell in cells(tree)})
        text = f"{left:.{decimals}f} {tree.op} {right:.{decimals}f}{often}{lost}"
        findings.append(Finding(row_label(case, row), word, text))
    satisfied, missing = sum(means.values()), len(rows) - len(means)
    words = f"{satisfied} of {len(means)} rows by their means, at least {wanted} of {len(rows)} claimed"
    if missing:
        words += f"; {missing} rows have no numbers"
    if not certain or not resampled:
        return Judgement(case.claim, UNDECIDED, f"{words}; one repeat decides nothing", tuple(findings))
    counts = sum(boot.astype(int) for boot in resampled)
    share, could = float((counts >= wanted).mean()), float((counts + missing >= wanted).mean())
    verdict = UNDECIDED
    if satisfied >= wanted and share >= 1 - LEVEL:
        verdict = HELD
    elif satisfied + missing < wanted and could <= LEVEL:
        verdict = NOT_HELD
    words += f"; at least {wanted} in {share:.0%} of bootstrap resamples of the repeats"
    return Judgement(case.claim, verdict, words, tuple(findings))


def _bootstrap(case: Case, tree: Comparison, row: str, index: int) -> Any:
    """Return for each resample whether the comparison holds at the row (RESAMPLES,); None below two repeats."""
    names = [(cell.row or row, cell.column) for cell in cells(tree)]
    found = {cell: case.values(cell) for cell in names}
    if case.paired:
        shared = shared_repeats(list(found.values()))
        found = {cell: {repeat: held[repeat] for repeat in shared} for cell, held in found.items()}
    if min(len(held) for held in found.values()) < 2:
        return None
    means = resampled_means({cell: list(held.values()) for cell, held in found.items()}, case.paired, [index])
    return satisfied_by(
        case, tree.op, *(side_value(side, row, lambda cell: means[cell]) for side in (tree.left, tree.right))
    )


def satisfied_by(case: Case, op: str, left: Any, right: Any) -> Any:
    """Say whether the means satisfy the comparison as a reader of the printed table would."""
    import numpy as np

    away = np.round(np.round(left, case.measure.decimals) - np.round(right, case.measure.decimals), 9)
    slack = case.claim.tolerance
    return {">": away > 0, ">=": away >= -slack, "<": away < 0, "<=": away <= slack, "~": abs(away) <= slack}[op]
