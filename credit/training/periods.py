"""Which steps end a period of a number of epochs, or of a part of one."""

import math


def ends_period(step: int, every: float, steps_per_epoch: int) -> bool:
    """Say whether a period ends with a step.

    Args:
        step: counted from 1.
        every: the period in epochs; below one step every step ends one, and where it is no whole number of steps, the first
            step at or behind its end does.
        steps_per_epoch: turns epochs into steps.
    """
    period = every * steps_per_epoch
    # The small allowance keeps a period such as 0.1 epochs of 10 steps at every step.
    return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)
