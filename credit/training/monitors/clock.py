"""When periods of epochs end, and the time that training takes without measuring, evaluating and saving."""

import contextlib
import math
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


def ends_period(step: int, every: float, steps_per_epoch: int) -> bool:
    """Return whether a period ends with a step.

    Args:
        step: counted from 1.
        every: the period in epochs; below one step every step ends one, and where it is no whole number of steps, the first
            step at or behind its end does.
        steps_per_epoch: turns epochs into steps.
    """
    period = every * steps_per_epoch
    # The small allowance keeps a period such as 0.1 epochs of 10 steps at every step.
    return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)
