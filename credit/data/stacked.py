"""The batches of several replicas as one: each replica's own order and examples, one gather for all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from credit.data.batches import Batches
from credit.data.sources.on_disk import Files

KEPT = 2**28
"""Numbers up to which normalised examples are kept in memory (1 GiB as float32)."""


class StackedBatches:
    """What ``Batches.at`` gives each of several replicas, stacked along a first dimension.

    Where nothing is augmented and they fit, examples are normalised once and every step is one gather; else each replica's
    batch is made by itself.

    Args:
        batches: one a replica; training parts of one size, equal settings.
    """

    def __init__(self, batches: Sequence[Batches]) -> None:
        self._batches = list(batches)
        first = self._batches[0]
        self._examples, self._shift = (None, None) if first.cfg.augment else self._normalised()
        self._labels = torch.stack([one.data.train.y for one in self._batches])
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def _normalised(self) -> tuple[Tensor | None, Tensor | None]:
        """Return (examples, what to add to each replica's places to find its own among them)."""
        sets = [one.data for one in self._batches]
        if any(isinstance(data.train.held, Files) for data in sets):
            return None, None
        x = sets[0].train.x
        shared = all(data.train.x.data_ptr() == x.data_ptr() for data in sets)
        if x.numel() * (1 if shared else len(sets)) > KEPT:
            return None, None
        if shared:  # one training part, so one normalisation too
            return sets[0].prepare(x), None
        shift = torch.arange(len(sets), device=x.device).unsqueeze(1) * len(x)
        return torch.cat([data.prepare(data.train.x) for data in sets]), shift

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x, float32 (replicas, B, ...), normalised and augmented, and y, int64 (replicas, B), of a step."""
        if self._examples is None:
            parts = [one.at(step) for one in self._batches]
            return torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts])
        first = self._batches[0]
        epoch, place = divmod(step, first.steps_per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = torch.stack([one.order_of(epoch) for one in self._batches]), epoch
        index = self._order[:, place * first.cfg.batch_size : (place + 1) * first.cfg.batch_size]
        y = self._labels.gather(1, index)
        places = index if self._shift is None else index + self._shift
        x = self._examples.index_select(0, places.reshape(-1))
        return x.view(*index.shape, *x.shape[1:]), y
