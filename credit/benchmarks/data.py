"""Benchmark of data loading: this package's batches against torchvision's transforms in a DataLoader with two workers."""

import time
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.data.batches import Batches
from credit.data.dataset import load

BATCH = 128
ROUNDS = 3
WORKERS = 2


class PilImages(Dataset[tuple[torch.Tensor, int]]):
    """A data set of PIL images with the usual transforms: RandomCrop(H, padding=4), RandomHorizontalFlip, ToTensor, Normalize.

    Args:
        images: uint8 (N, H, W, 3).
        labels: integers (N,).
        mean, std: by channel (3,), of images in [0, 1].
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: list[float], std: list[float]) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def bench_data_path(root: str | None, samples: int = 50000) -> dict[str, Any]:
    """Time an epoch of CIFAR-10 batches of 128, cropped, flipped and standardized, by this package and by torchvision.

    The two are timed alternately, and medians are compared. torchvision's time is measured on at most 10,000 images and scaled to
    an epoch. Its two workers are started, and both sides warmed up, before the measurement. This package uses one thread: a
    second thread is a sixth faster on an idle machine, and ten times slower if another process uses its core.

    Args:
        root: the folder of the data; None for ``$CREDIT_DATA``, else ``data``.
        samples: number of images in an epoch, at least 128.

    Returns:
        Plain values: ``ours_seconds`` and ``torchvision_seconds`` an epoch, their ``ratio``, ``samples``, ``batch_size``,
        ``torchvision_samples``, ``workers`` (of torchvision), ``threads`` (of this package), ``rounds``.

    Raises:
        UserError: CIFAR-10 is not in the folder.
    """
    cfg = DataConfig(
        kind="cifar10", root=root, val_fraction=0.0, augment=["crop", "flip"], batch_size=BATCH, limit_train=samples
    )
    data = load(cfg, NoiseConfig(), seed=0, device="cpu")
    batches = Batches(data, cfg, seed=0)
    slow_samples = min(10000, len(data.train))
    images = data.train.x[:slow_samples].permute(0, 2, 3, 1).contiguous().numpy()
    labels = data.train.y[:slow_samples].numpy()
    reference = PilImages(images, labels, mean=[0.4914, 0.4822, 0.4465], std=[0.247, 0.2435, 0.2616])
    loader = DataLoader(reference, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, theirs = _alternate(batches, loader)
    finally:
        torch.set_num_threads(threads)
    return {
        "ours_seconds": median(ours),
        "torchvision_seconds": median(theirs),
        "ratio": median(theirs) / median(ours),
        "samples": len(data.train),
        "batch_size": BATCH,
        "torchvision_samples": slow_samples,
        "workers": WORKERS,
        "threads": 1,
        "rounds": ROUNDS,
    }


def _alternate(batches: Batches, loader: DataLoader[tuple[torch.Tensor, int]]) -> tuple[list[float], list[float]]:
    """Return the seconds of an epoch on each side, round by round; the loader's are scaled to as many batches."""
    ours, theirs = [], []
    _exhaust(loader)
    for step in range(min(20, batches.steps_per_epoch)):
        batches.at(step)
    for epoch in range(1, ROUNDS + 1):
        start = time.perf_counter()
        for step in range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch):
            batches.at(step)
        middle = time.perf_counter()
        _exhaust(loader)
        theirs.append((time.perf_counter() - middle) * batches.steps_per_epoch / len(loader))
        ours.append(middle - start)
    return ours, theirs


def _exhaust(loader: DataLoader[tuple[torch.Tensor, int]]) -> None:
    for _ in loader:
        pass
