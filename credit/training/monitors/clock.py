"""Measure the time of training steps, without diagnostics, evaluations and checkpoints, and find the ends of periods."""

import contextlib
import math
import time
from collections.abc import Iterator

import torch


class Clock:
    """A stopwatch of training steps.

    Args:
        device: the device that computes the steps; a GPU is synchronized whenever the clock stops.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._seconds, self._since = device, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while the context lasts, after the device has finished the steps."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def taken(self) -> float:
        """Return the seconds between the previous call and the last pause."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def ends_period(step: int, every: float, steps_per_epoch: int) -> bool:
    """Return whether a period ends at a step.

    Args:
        step: the step, counted from 1.
        every: the period in epochs. A period shorter than a step ends at every step; one that is no whole number of steps ends at
            the first step at or after its end.
        steps_per_epoch: number of steps of an epoch.
    """
    period = every * steps_per_epoch
    # The tolerance keeps a period such as 0.1 epochs of 10 steps at every step.
    return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)
