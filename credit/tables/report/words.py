"""How a report says numbers: means with their spread, differences, intervals, p values."""

from credit.tables.measures.collect import Summary
from credit.tables.measures.marks import CROSS
from credit.tables.spec.schema import Published

NOTHING = "–"


def number(value: float | None, decimals: int) -> str:
    """Return ``91.2``, or a dash for None."""
    return NOTHING if value is None else f"{value:.{decimals}f}"


def spread(mean: float | None, std: float | None, decimals: int) -> str:
    """Return ``91.2 ± 0.3``, ``91.2`` without a spread, or a dash."""
    return number(mean, decimals) + ("" if std is None or mean is None else f" ± {std:.{decimals}f}")


def measured(summary: Summary, decimals: int) -> str:
    """Return a cell as measured, with what is missing: ``91.2 ± 0.3 (2 of 3, 1 diverged †)``; see `marks`."""
    if summary.mark == CROSS:
        return CROSS
    counts = summary.counts().replace("diverged", "diverged †")
    behind = f" {summary.mark}" if summary.mark else ""
    return spread(summary.mean, summary.std, decimals) + behind + (f" ({counts})" if counts else "")


def printed(published: Published) -> str:
    """Return a number as the paper prints it: ``94.0 ± 3.3``, ``89.3 ± 0.17 †``, ``X``."""
    if published.mean is None:
        return published.mark
    given = [value for value in (published.mean, published.std) if value is not None]
    decimals = max(1, *(len(f"{value:.6g}".partition(".")[2]) for value in given))
    return spread(published.mean, published.std, decimals) + (f" {published.mark}" if published.mark else "")


def signed(value: float, decimals: int) -> str:
    """Return ``+2.8`` or ``−1.0``; what rounds to zero has no sign."""
    text = f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def unit_of_difference(unit: str) -> str:
    """Return the unit of a difference, with a space before it: per cents differ by points."""
    return {"%": " points", "": ""}.get(unit, f" {unit}")


def p_words(p: float) -> str:
    """Return ``= 0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def plural(count: int, word: str) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{count} {word}" + ("" if count == 1 else "s")
