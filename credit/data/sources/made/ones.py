"""Ones: binary vectors, labelled by their share of ones. Made, not read: a sample is a function of the split seed.

The number of ones K is uniform in 0..d, then their places are uniform; the label is 1 where K / d > threshold (untied activation
gradients, section 4.2; the authors' example draws them so).
"""

import torch

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.sources.files import Arrays, Whole
from credit.data.splits import stratified
from credit.data.storage import Rows

TEST_SHARE = 0.2
"""Share of the test part."""
EXPECTED = 10
"""Least number of examples that the rarer class must have on average."""
_LARGEST = 2**28  # numbers, one gigabyte


def look(cfg: DataConfig) -> Whole:
    """Return the shape, number of classes and sizes of the set.

    Raises:
        UserError: too few samples for both classes, or too many to hold.
    """
    d, zeros = cfg.dimension, _zeros(cfg)
    rarer = min(zeros, d + 1 - zeros) / (d + 1)  # zeros >= 1 and < d + 1: K = 0 is never above, K = d always
    needed = -(-EXPECTED * (d + 1) // min(zeros, d + 1 - zeros))
    if cfg.samples < needed:
        raise UserError(
            f"data.samples={cfg.samples}: of vectors of {d} entries {rarer:.3g} are of the rarer class at "
            f"data.threshold={cfg.threshold:g}, so that it could be missing; write data.samples={needed} or more"
        )
    if cfg.samples * d > _LARGEST:
        raise UserError(
            f"data.samples={cfg.samples} of data.dimension={d} take {4 * cfg.samples * d / 2**30:.1f} GiB; write "
            f"data.samples={_LARGEST // d} or less"
        )
    test = round(TEST_SHARE * cfg.samples)
    return Whole((d,), 2, cfg.samples - test, test, Rows())


def read(cfg: DataConfig) -> Arrays:
    """Draw the sample of ``data.split_seed`` and part it, stratified.

    Raises:
        UserError: as `look`; a sample in which one class is missing.
    """
    whole = look(cfg)
    assert cfg.split_seed is not None
    source = generator(cfg.split_seed, "ones")
    count, d = cfg.samples, cfg.dimension
    ones = torch.randint(d + 1, (count,), generator=source)
    places = torch.rand(count, d, generator=source).argsort(1)
    x = torch.zeros(count, d).scatter_(1, places, (torch.arange(d) < ones.unsqueeze(1)).float())
    y = (ones >= _zeros(cfg)).long()
    if len(y.unique()) < 2:
        raise UserError(
            f"data=ones data.split_seed={cfg.split_seed}: all {count} samples are of class {int(y[0])}; raise data.samples"
        )
    test, train = stratified(y, whole.test, cfg.split_seed, "ones_test")
    return Arrays(x[train], y[train], x[test], y[test], ["few", "many"], Rows())


def _zeros(cfg: DataConfig) -> int:
    """Return how many numbers of ones (of 0..d) give label 0."""
    return sum(ones / cfg.dimension <= cfg.threshold for ones in range(cfg.dimension + 1))
