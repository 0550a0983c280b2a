"""Format numbers for a report: means with their spread, differences and p values."""

from credit.tables.measures.collect import Summary
from credit.tables.measures.marks import CROSS
from credit.tables.spec.published import Published

NOTHING = "–"
"""The text of a missing number."""


def number(value: float | None, decimals: int) -> str:
    """Return a number as a text, ``91.2``; a dash for None."""
    return NOTHING if value is None else f"{value:.{decimals}f}"


def spread(mean: float | None, std: float | None, decimals: int) -> str:
    """Return a mean with its standard deviation: ``91.2 ± 0.3``, ``91.2`` without one, a dash without a mean."""
    return number(mean, decimals) + ("" if std is None or mean is None else f" ± {std:.{decimals}f}")


def measured(summary: Summary, decimals: int) -> str:
    """Return a cell's summary with its incomplete runs: ``91.2 ± 0.3 (2 of 3, 1 diverged †)``.

    See `credit.tables.measures.marks` for the marks.
    """
    if summary.mark == CROSS:
        return CROSS
    counts = summary.counts().replace("diverged", "diverged †")
    behind = f" {summary.mark}" if summary.mark else ""
    return spread(summary.mean, summary.std, decimals) + behind + (f" ({counts})" if counts else "")


def printed(published: Published) -> str:
    """Return a published number as printed in the paper: ``94.0 ± 3.3``, ``89.3 ± 0.17 †``, ``X``."""
    if published.mean is None:
        return published.mark
    given = [value for value in (published.mean, published.std) if value is not None]
    decimals = max(1, *(len(f"{value:.6g}".partition(".")[2]) for value in given))
    return spread(published.mean, published.std, decimals) + (f" {published.mark}" if published.mark else "")


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, ``+2.8`` or ``−1.0``; without one if it rounds to zero."""
    text = f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def unit_of_difference(unit: str) -> str:
    """Return the unit of a difference of a measure, after a space: points for per cents."""
    return {"%": " points", "": ""}.get(unit, f" {unit}")


def p_words(p: float) -> str:
    """Return a p value as a text: ``= 0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def plural(count: int, word: str) -> str:
    """Return a count with its noun: ``1 run``, ``3 runs``."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def capital(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[0].upper() + text[1:]
