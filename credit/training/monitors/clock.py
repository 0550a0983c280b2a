"""The time that training takes, without measuring, evaluating and saving."""

import contextlib
import time
from collections.abc import Iterator

import torch


class Clock:
    """Counts the seconds of training steps.

    Args:
        device: the device that computes the steps; a GPU is waited for wherever the clock stops.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._seconds, self._since = device, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for a block, up to which all that the steps left to do on the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def taken(self) -> float:
        """Return the seconds up to the last pause that no call has returned yet."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
