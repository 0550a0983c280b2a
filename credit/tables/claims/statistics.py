"""The statistics of a claim: t tests on differences of cells, equivalence, Holm's correction, the bootstrap.

Every test is of one number, an estimate with its standard error and degrees of freedom. A difference of several cells
(``a - b``, ``(a - b) - (c - d)``) is a sum of cells with coefficients c_i:

    two samples   estimate sum c_i m_i, error^2 = sum c_i^2 s_i^2 / n_i, degrees of freedom by Welch and Satterthwaite
    paired        the same sum within each repeat that all cells share, then a one-sample t test over the repeats

Repeats that are all equal have no spread to judge by: no test says anything of them, however many there are. All that can be
read off them is that the number is exactly the one it is compared with (`Estimate.is_exactly`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance
from typing import Any

LEVEL = 0.05
"""One-sided p below which something is called significant."""

FEWEST_REPEATS = 3
"""Repeats of a cell (or shared ones, where paired) below which nothing is tested: two have a spread by one difference alone."""

RESAMPLES = 2000

ROUNDING = 1e-12
"""What sums of floats may be off by, of the largest number in them; far below what one example changes."""


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error; `error` and `df` are None below `FEWEST_REPEATS`, `error` is 0 where all are equal.

    `rounding` is what the arithmetic of floats alone may have done to the number.
    """

    value: float
    error: float | None
    df: float | None
    n: str
    rounding: float = 0.0

    @property
    def has_spread(self) -> bool:
        """Return whether there is a spread to judge by: `FEWEST_REPEATS` or more that are not all equal."""
        return bool(self.error)

    def is_exactly(self, number: float) -> bool:
        """Return whether every repeat gives exactly this number."""
        return self.error == 0 and abs(self.value - number) <= self.rounding

    def p_above(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p of "the number is above `bound`"; None without a spread."""
        return self._p(self.value - bound)

    def p_below(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p of "the number is below `bound`"; None without a spread."""
        return self._p(bound - self.value)

    def t(self, bound: float = 0.0) -> float | None:
        """Return the t statistic against `bound`; None without a spread."""
        return (self.value - bound) / self.error if self.error else None

    def interval(self) -> tuple[float, float] | None:
        """Return the confidence interval of the one-sided tests at `LEVEL`, 90 % two-sided; None without a spread.

        ``p_above(bound) < LEVEL`` exactly where the interval lies above the bound, ``p_below`` where below.
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
    """Return the sum of coefficient times mean over independent samples; with one sample, the one-sample t test.

    Args:
        samples: (coefficient, values), each with one value or more.
        constant: what is added.
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
    """Return the mean of the values with its error; paired differences and slopes go through here.

    Args:
        values: one a repeat.
        n: how many they are, in words; empty: their count.
        largest: the largest number, in size, of those that the values are sums of.
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
    """Return the least-squares slope of y on x; x has two different values or more."""
    middle = fmean(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def resampled_means(samples: Mapping[Any, Sequence[float]], paired: bool, seed: Sequence[int]) -> dict[Any, Any]:
    """Return bootstrap means of samples: for each an array (`RESAMPLES`,).

    Args:
        samples: values by name; where `paired`, all of one length and in the same order of repeats.
        paired: draw the same repeats for all samples.
        seed: of the draws: the same seed gives the same means.
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
