"""Batches as a function of the step: nothing to save, nothing to rewind, resuming at step k gives step k's batch.

The order of an epoch comes from ``generator(seed, "order", epoch)`` on the CPU, so it is the same on every device: every example
once, or with ``data.sampler=balanced`` draws with repetition, in which each class of the training labels is equally likely;
the augmentation of a step from ``generator(seed, "augment", step)`` on the data's device.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.augment import crop, cutout, draw, flip
from credit.data.dataset import Data
from credit.data.mixing import mixed, mixes
from credit.data.sources.images.on_disk import Files

KEPT = 2**28
"""Numbers up to which the normalised examples of several runs are kept in memory (1 GiB as float32)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's samples. Those of several runs are stacked, the runs along an additional first dimension.

    Attributes:
        x: float32 (B, C, H, W) or (B, F), normalised and augmented; or tokens int64 (B, T).
        y: targets: labels int64 (B,), noisy where noise was asked for; mixed labels float32 (B, classes); numbers float32 (B, K);
            or the next tokens int64 (B, T).
        index: int64 (B,), which samples of ``data.train`` these are.
    """

    x: Tensor
    y: Tensor
    index: Tensor


class Batches:
    """Training batches by step, of one run or of several side by side.

    Args:
        data: the set, or one for each run, with training parts of one size; batches are made on its device.
        cfg: batch size, augmentation, whether an epoch's last, smaller batch is dropped.
        seed: the run's seed, or one for each run.

    Attributes:
        steps_per_epoch: batches an epoch.

    Raises:
        UserError: a batch larger than the training part.
    """

    def __init__(self, data: Data | Sequence[Data], cfg: DataConfig, *, seed: int | Sequence[int]) -> None:
        self._alone = isinstance(data, Data)
        self._sets = [data] if isinstance(data, Data) else list(data)
        self._seeds = [seed] if isinstance(seed, int) else list(seed)
        size = len(self._sets[0].train)
        if not 1 <= cfg.batch_size <= size:
            raise UserError(f"data.batch_size={cfg.batch_size}: the training part has {size} examples; give 1..{size}")
        self._cfg, self._files = cfg, any(isinstance(one.train.held, Files) for one in self._sets)
        self.steps_per_epoch = size // cfg.batch_size if cfg.drop_last else math.ceil(size / cfg.batch_size)
        self._labels = self._stacked([one.train.y for one in self._sets])
        self._examples, self._shift = (None, None) if self._alone or cfg.augment else self._normalised()
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Batch:
        """Return the batch of a step, the same whatever was asked for before."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start, end = place * self._cfg.batch_size, (place + 1) * self._cfg.batch_size
        order = self._order_of(epoch)
        index = order[..., start:end]
        if self._examples is not None:
            places = index if self._shift is None else index + self._shift
            x = self._examples.index_select(0, places.reshape(-1))
            x = x.view(*index.shape, *x.shape[1:])
        elif self._alone:
            x = self._augmented(0, index, step)
        else:
            x = torch.stack([self._augmented(at, own, step) for at, own in enumerate(index)])
        if self._files and place + 1 < self.steps_per_epoch:
            self._expect(order[..., end : end + self._cfg.batch_size])
        y = self._targets(index, x)
        return Batch(*self._mixed(x, y, step), index) if mixes(self._cfg) else Batch(x, y, index)

    def _targets(self, index: Tensor, x: Tensor) -> Tensor:
        """Return the targets of the examples at these places, of which x are the inputs."""
        if self._labels.dim() == index.dim():
            y = self._labels.gather(-1, index)
        elif self._alone:
            y = self._labels[index]
        else:
            y = torch.stack([part[own] for part, own in zip(self._labels, index, strict=True)])
        return self._sets[0].targets(y, x)

    def _mixed(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return each run's examples and labels mixed in pairs, as `credit.data.mixing.mixed`."""
        runs = [(x, y)] if self._alone else zip(x, y, strict=True)
        pairs = [
            mixed(self._cfg, *run, len(data.names), seed=seed, step=step)
            for run, data, seed in zip(runs, self._sets, self._seeds, strict=True)
        ]
        return self._stacked([pair[0] for pair in pairs]), self._stacked([pair[1] for pair in pairs])

    def _stacked(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0] if self._alone else torch.stack(list(parts))

    def _normalised(self) -> tuple[Tensor | None, Tensor | None]:
        """Return several runs' normalised examples, of which a step is one gather, and what each run adds to its places in them.

        (None, None) where the examples are files or too many.
        """
        if self._files:
            return None, None
        sets = self._sets
        x = sets[0].train.x
        shared = all(data.train.x.data_ptr() == x.data_ptr() for data in sets)
        if x.numel() * (1 if shared else len(sets)) > KEPT:
            return None, None
        if shared:  # one training part, so one normalisation too
            return sets[0].prepare(x), None
        shift = torch.arange(len(sets), device=x.device).unsqueeze(1) * len(x)
        return torch.cat([data.prepare(data.train.x) for data in sets]), shift

    def _order_of(self, epoch: int) -> Tensor:
        """Return the places (N,) of the training examples of an epoch, in order, one row for each of several runs."""
        if epoch != self._epoch:  # kept for the epoch only to save time; it depends on nothing but seed and epoch
            orders = [
                self._drawn(data.train.y, generator(seed, "order", epoch))
                for data, seed in zip(self._sets, self._seeds, strict=True)
            ]
            self._order, self._epoch = self._stacked(orders).to(self._sets[0].train.held.device), epoch
        return self._order

    def _drawn(self, labels: Tensor, source: torch.Generator) -> Tensor:
        """Return the places of an epoch's examples, int64 (N,): a permutation, or draws in which the classes are equally likely."""
        size = len(labels)
        if self._cfg.sampler == "shuffled":
            return torch.randperm(size, generator=source)
        held = labels.cpu()
        present, counts = held.unique(return_counts=True)
        first = counts.cumsum(0) - counts
        chosen = torch.randint(len(present), (size,), generator=source)
        within = (torch.rand(size, generator=source, dtype=torch.float64) * counts[chosen]).long()
        return held.argsort(stable=True)[first[chosen] + within]

    def _expect(self, index: Tensor) -> None:
        """Begin to decode the next batch's images, while this one is trained on."""
        for data, own in zip(self._sets, index.view(len(self._sets), -1), strict=True):
            if isinstance(data.train.held, Files):
                data.train.held.expect(own)

    def _augmented(self, at: int, index: Tensor, step: int) -> Tensor:
        """Return one run's examples (B, ...), normalised and augmented."""
        cfg, data = self._cfg, self._sets[at]
        x = data.train.take(index)
        if not cfg.augment:
            return data.prepare(x)
        numbers = draw(len(x), generator(self._seeds[at], "augment", step, x.device))
        if not data.normalizer.per_pixel:  # whole-image statistics are taken before the image is cut
            x = data.prepare(x)
        if "flip" in cfg.augment:
            x = flip(x, numbers[2])
        if "crop" in cfg.augment:
            x = crop(x, numbers[0], numbers[1], cfg.crop_padding)
        if data.normalizer.per_pixel:
            x = data.prepare(x)
        if "cutout" in cfg.augment:
            x = cutout(x, numbers[3], numbers[4], cfg.cutout_size)
        return x


def evaluation(data: Data, split_name: str, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every example of a part once, in order, as inputs and targets (B, ...); the last batch may be smaller.

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
        x = data.prepare(part.between(start, start + batch_size))
        yield x, data.targets(part.y[start : start + batch_size], x)
