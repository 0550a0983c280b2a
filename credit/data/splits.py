"""Stratified, seeded choices of samples: validation split, limits, the digits' test set."""

import torch
from torch import Tensor

from credit.core.randomness import generator


def stratified(labels: Tensor, count: int, seed: int, stream: str) -> tuple[Tensor, Tensor]:
    """Choose exactly `count` samples with every class in proportion (to within one sample); return chosen and rest.

    Each class gives the whole part of its share; the samples still missing go to the classes with the largest
    remainders (the lower class first among equals).

    Args:
        labels: int64 (N,), on the CPU.
        count: how many to choose, 0..N.
        seed: of the choice.
        stream: what the choice is for; choices of different streams are independent.

    Returns:
        Two sorted int64 index tensors, (count,) and (N - count,).
    """
    total = len(labels)
    sizes = torch.bincount(labels)
    quota = sizes * count // max(total, 1)
    remainder = sizes * count - quota * total
    by_remainder = torch.sort(remainder, descending=True, stable=True).indices
    quota[by_remainder[: count - int(quota.sum())]] += 1
    shuffled = torch.randperm(total, generator=generator(seed, stream))
    by_class = shuffled[torch.sort(labels[shuffled], stable=True).indices]  # shuffled inside each class
    starts = torch.cumsum(sizes, 0) - sizes
    ordered = labels[by_class]
    place = torch.arange(total) - starts[ordered]
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[by_class] = place < quota[ordered]
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()
