"""The statistics of a claim: t tests on differences of cells, equivalence, Holm's correction, the bootstrap.

Every test is of one number, an estimate with its standard error and degrees of freedom. A difference of several cells
(``a - b``, ``(a - b) - (c - d)``) is a sum of cells with coefficients c_i:

    two samples   estimate sum c_i m_i, error^2 = sum c_i^2 s_i^2 / n_i, degrees of freedom by Welch and Satterthwaite
    paired        the same sum within each repeat that all cells share, then a one-sample t test over the repeats
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance
from typing import Any

LEVEL = 0.05
"""One-sided p below which something is called significant."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error; `error` and `df` are None where there is no spread to judge by (n below two).

    An error of exactly zero (equal repeats) is taken as certainty, as the limit of the t test is.
    """

    value: float
    error: float | None
    df: float | None
    n: str

    def p_above(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p of "the number is above `bound`"; None without a spread."""
        return self._p(self.value - bound)

    def p_below(self, bound: float = 0.0) -> float | None:
        """Return the one-sided p of "the number is below `bound`"; None without a spread."""
        return self._p(bound - self.value)

    def t(self, bound: float = 0.0) -> float | None:
        """Return the t statistic against `bound`."""
        if self.error is None:
            return None
        away = self.value - bound
        return away / self.error if self.error else math.copysign(math.inf, away) if away else 0.0

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % confidence interval; None without a spread."""
        if self.error is None or self.df is None:
            return None
        from scipy.special import stdtrit  # 0.3 s to import, and only reports need it

        half = float(stdtrit(self.df, 0.975)) * self.error
        return self.value - half, self.value + half

    def _p(self, away: float) -> float | None:
        if self.error is None or self.df is None:
            return None
        if not self.error:
            return 0.0 if away > 0 else 0.5 if away == 0 else 1.0
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
    if not samples or min(len(values) for _, values in samples) < 2:
        return Estimate(value, None, None, n)
    parts = [(c * c * variance(values) / len(values), len(values) - 1) for c, values in samples]
    square = sum(part for part, _ in parts)
    below = sum(part * part / df for part, df in parts)
    df = square * square / below if below else float(sum(df for _, df in parts))
    return Estimate(value, math.sqrt(square), df, n)


def one_sample(values: Sequence[float], n: str = "") -> Estimate:
    """Return the mean of the values with its error; paired differences and slopes go through here."""
    count = len(values)
    words = n or str(count)
    if count < 2:
        return Estimate(fmean(values), None, None, words)
    return Estimate(fmean(values), stdev(values) / math.sqrt(count), count - 1, words)


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
