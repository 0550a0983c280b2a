"""Statistics for claims: t tests of differences of cells, equivalence tests, Holm's correction and the bootstrap.

A test is of one estimate with its standard error and degrees of freedom. A difference of several cells (``a - b``,
``(a - b) - (c - d)``) is a linear form with coefficients c_i of the cells' means m_i, variances s_i^2 and sizes n_i:

    two samples   estimate sum c_i m_i, error^2 = sum c_i^2 s_i^2 / n_i, degrees of freedom by Welch and Satterthwaite
    paired        the linear form within each repeat that all cells share, then a one-sample t test over the repeats

If all repeats are equal, the variance cannot be estimated and no test is made; an estimate can then only be exactly the number it
is compared with (`Estimate.is_exactly`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance
from typing import Any

LEVEL = 0.05
"""The level of significance of one-sided tests."""

FEWEST_REPEATS = 3
"""The smallest number of repeats of a cell (of shared ones, if paired) for a test."""

RESAMPLES = 2000
"""Number of bootstrap resamples."""

ROUNDING = 1e-12
"""Tolerance of sums of floats, relative to the largest summand; far below the effect of one example on an accuracy."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error.

    Attributes:
        value: the estimate.
        error: its standard error; None below `FEWEST_REPEATS` repeats, 0 if all repeats are equal.
        df: the degrees of freedom; None without a positive standard error.
        n: the numbers of repeats, as a text.
        rounding: largest rounding error of the value.
    """

    value: float
    error: float | None
    df: float | None
    n: str
    rounding: float = 0.0

    @property
    def has_spread(self) -> bool:
        """Return whether the standard error is positive: at least `FEWEST_REPEATS` repeats that are not all equal."""
        return bool(self.error)

    def is_exactly(self, number: float) -> bool:
        """Return whether every repeat gives exactly the number, to rounding."""
        return self.error == 0 and abs(self.value - number) <= self.rounding

    def p_above(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p value of "the estimate is above `bound`"; None without a spread."""
        return self._p(self.value - bound)

    def p_below(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p value of "the estimate is below `bound`"; None without a spread."""
        return self._p(bound - self.value)

    def t(self, bound: float = 0.0) -> float | None:
        """Return the t statistic against `bound`; None without a spread."""
        return (self.value - bound) / self.error if self.error else None

    def interval(self) -> tuple[float, float] | None:
        """Return the two-sided 90 % confidence interval, which matches the one-sided tests at `LEVEL`; None without a spread.

        ``p_above(bound) < LEVEL`` if and only if the interval is above the bound, ``p_below`` if and only if it is below.
        """
        if not self.error or self.df is None:
            return None
        from scipy.special import stdtrit  # 0.3 s to import, and only reports need it

        half = float(stdtrit(self.df, 1 - LEVEL)) * self.error
        return self.value - half, self.value + half

    def _p(self, away: float) -> float | None:
        if not self.error or self.df is None:
            return None
        from scipy.special import stdtr

        return float(stdtr(self.df, -away / self.error))


def welch(samples: Sequence[tuple[float, Sequence[float]]], constant: float = 0.0) -> Estimate:
    """Return a linear form of the means of independent samples, with Welch's standard error and degrees of freedom.

    Args:
        samples: pairs of a coefficient and one or more values; one sample gives the one-sample t test.
        constant: a constant to add.
    """
    value = constant + sum(c * fmean(values) for c, values in samples)
    n = " and ".join(str(len(values)) for _, values in samples)
    if not samples or min(len(values) for _, values in samples) < FEWEST_REPEATS:
        return Estimate(value, None, None, n)
    parts = [(c * c * variance(values) / len(values), len(values) - 1) for c, values in samples]
    square = sum(part for part, _ in parts)
    below = sum(part * part / df for part, df in parts)
    rounding = ROUNDING * max(abs(constant), *(abs(c * one) for c, values in samples for one in values))
    if math.sqrt(square) <= rounding:
        return Estimate(value, 0.0, None, n, rounding)
    return Estimate(value, math.sqrt(square), square * square / below, n, rounding)


def one_sample(values: Sequence[float], n: str = "", largest: float = 0.0) -> Estimate:
    """Return the mean of values with its standard error, for paired differences and slopes.

    Args:
        values: one value for each repeat.
        n: text for `Estimate.n`; empty for the number of values.
        largest: the largest absolute summand of the values, for the tolerance of rounding.
    """
    count = len(values)
    words = n or str(count)
    if count < FEWEST_REPEATS:
        return Estimate(fmean(values), None, None, words)
    rounding = ROUNDING * max(largest, *map(abs, values))
    error = stdev(values) / math.sqrt(count)
    if error <= rounding:
        return Estimate(fmean(values), 0.0, None, words, rounding)
    return Estimate(fmean(values), error, count - 1, words, rounding)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of y (N,) on x (N,); x must have at least two different values."""
    middle = fmean(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's step-down method (Holm 1979), in the given order."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def resampled_means(samples: Mapping[Any, Sequence[float]], paired: bool, seed: Sequence[int]) -> dict[Any, Any]:
    """Return the bootstrap means of samples, an array (`RESAMPLES`,) for each.

    Args:
        samples: values by name; if `paired`, all of the same length and in the same order of repeats.
        paired: draw the same repeats for all samples.
        seed: seed of the random draws.
    """
    import numpy as np

    draws = np.random.default_rng(list(seed))
    means, shared = {}, None
    for name, values in samples.items():
        n = len(values)
        if shared is None or not paired:
            shared = draws.integers(n, size=(RESAMPLES, n))
        means[name] = np.asarray(values, dtype=float)[shared].mean(1)
    return means
