"""Images that stay files: decoded batch by batch, for sets that are larger than memory when decoded."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor


class Files:
    """Images on disk as what a tensor of them would be, uint8 (N, 3, H, W), each decoded anew whenever it is asked for.

    Args:
        paths: their files.
        decode: returns one of them as uint8 (H, W, 3); called from several threads.
        size: (height, width) of all.
        device: where decoded images are put.
    """

    dtype = torch.uint8

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[Path], np.ndarray],
        size: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.paths, self._decode, self._size, self.device = list(paths), decode, size, torch.device(device)
        self._coming: tuple[list[int], list[Future[np.ndarray]]] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, H, W)."""
        return torch.Size((len(self.paths), 3, *self._size))

    def numel(self) -> int:
        """Return how many numbers the images have, decoded."""
        return self.shape.numel()

    def __getitem__(self, part: slice) -> Tensor:
        return self.take(torch.arange(*part.indices(len(self))))

    def take(self, index: Tensor) -> Tensor:
        """Return the images at these places, uint8 (B, 3, H, W), on the device.

        Raises:
            UserError: a file that is no image, or of another size.
        """
        places = index.tolist()
        if self._coming is None or self._coming[0] != places:
            self.expect(index)
        assert self._coming is not None
        decoded, self._coming = self._coming[1], None
        images = torch.empty(len(places), 3, *self._size, dtype=torch.uint8)
        for at, image in enumerate(decoded):
            images[at] = torch.from_numpy(image.result().transpose(2, 0, 1).copy())
        return images.to(self.device)

    def expect(self, index: Tensor) -> None:
        """Begin to decode the images at these places, which `take` will be asked for next."""
        for one in self._coming[1] if self._coming else ():
            one.cancel()
        places = index.tolist()
        self._coming = places, [_pool().submit(self._decode, self.paths[place]) for place in places]

    def select(self, index: Tensor, device: torch.device | str) -> "Files":
        """Return the files at these places, to be decoded onto a device."""
        return Files([self.paths[place] for place in index.tolist()], self._decode, self._size, device)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the files' names, their folders' names and their sizes: contents are not read."""
        total = hashlib.sha256()
        for path in self.paths:
            total.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        return total.hexdigest()


Examples: TypeAlias = Tensor | Files
"""Examples as a part holds them."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads that decode: Pillow does it without holding Python's lock."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
