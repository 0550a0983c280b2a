"""Batches as a function of the step: nothing to save, nothing to rewind, resuming at step k gives step k's batch.

The order of an epoch comes from ``generator(seed, "order", epoch)`` on the CPU, so it is the same on every device; the
augmentation of a step from ``generator(seed, "augment", step)`` on the data's device.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.augment import crop, cutout, draw, flip
from credit.data.dataset import Data
from credit.data.sources.on_disk import Files


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's samples.

    Attributes:
        x: float32 (B, C, H, W) or (B, F), normalised and augmented.
        y: int64 (B,), labels (noisy where noise was asked for).
        index: int64 (B,), which samples of ``data.train`` these are.
    """

    x: Tensor
    y: Tensor
    index: Tensor


class Batches:
    """Training batches by step.

    Args:
        data: the set; batches are made on its device.
        cfg: batch size, augmentation, whether an epoch's last, smaller batch is dropped.
        seed: the run's seed.

    Attributes:
        steps_per_epoch: batches an epoch.

    Raises:
        UserError: a batch larger than the training part.
    """

    def __init__(self, data: Data, cfg: DataConfig, *, seed: int) -> None:
        size = len(data.train)
        if not 1 <= cfg.batch_size <= size:
            raise UserError(f"data.batch_size={cfg.batch_size}: the training part has {size} examples; give 1..{size}")
        self.data, self.cfg, self.seed = data, cfg, seed
        self.steps_per_epoch = size // cfg.batch_size if cfg.drop_last else math.ceil(size / cfg.batch_size)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Batch:
        """Return the batch of a step, the same whatever was asked for before."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.cfg.batch_size
        order, size, train = self.order_of(epoch), self.cfg.batch_size, self.data.train
        index = order[start : start + size]
        x = train.take(index)
        if (
            isinstance(train.held, Files) and place + 1 < self.steps_per_epoch
        ):  # the next batch is decoded while this one is trained on
            train.held.expect(order[start + size : start + 2 * size])
        return Batch(self._augmented(x, step), train.y.index_select(0, index), index)

    def order_of(self, epoch: int) -> Tensor:
        """Return the order (N,) in which an epoch goes through the training part."""
        if epoch != self._epoch:  # kept for the epoch only to save time; it depends on nothing but seed and epoch
            order = torch.randperm(len(self.data.train), generator=generator(self.seed, "order", epoch))
            self._order, self._epoch = order.to(self.data.train.held.device), epoch
        return self._order

    def _augmented(self, x: Tensor, step: int) -> Tensor:
        cfg, prepare = self.cfg, self.data.prepare
        if not cfg.augment:
            return prepare(x)
        numbers = draw(len(x), generator(self.seed, "augment", step, x.device))
        if not self.data.normalizer.per_pixel:  # whole-image statistics are taken before the image is cut
            x = prepare(x)
        if "flip" in cfg.augment:
            x = flip(x, numbers[2])
        if "crop" in cfg.augment:
            x = crop(x, numbers[0], numbers[1], cfg.crop_padding)
        if self.data.normalizer.per_pixel:
            x = prepare(x)
        if "cutout" in cfg.augment:
            x = cutout(x, numbers[3], numbers[4], cfg.cutout_size)
        return x


def evaluation(data: Data, split_name: str, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every example of a part once, in order, as (x float32 (B, ...), y int64 (B,)); the last may be smaller.

    Args:
        data: the set.
        split_name: train (with its noisy labels), val or test.
        batch_size: at most this many at a time.

    Raises:
        UserError: unknown part, or a batch size below 1.
    """
    part = data.split(split_name)
    if batch_size < 1:
        raise UserError(f"data.eval_batch_size={batch_size}: must be at least 1")
    for start in range(0, len(part), batch_size):
        yield data.prepare(part.between(start, start + batch_size)), part.y[start : start + batch_size]
