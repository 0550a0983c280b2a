"""Schedules of dual propagation: in which order the states of a network are updated."""

import torch

from credit.core.randomness import generator


def order(schedule: str, passes: int, first: int, last: int, seeds: tuple[int, int] = (0, 0)) -> list[list[int]]:
    """Return the states' numbers in the order of their updates, by pass.

    ``fw``: first to last, again and again. ``fwbw``: last to the second, then (passes - 1) times up to the one below the last
    and down from the last, then the first: with one pass each state is renewed once, as a signal is sent back. ``random``:
    each pass an order of its own, drawn for (seed, step).
    """
    if schedule == "fw":
        return [list(range(first, last + 1)) for _ in range(passes)]
    if schedule == "random":
        source = generator(seeds[0], "dual.order", seeds[1])
        return [(torch.randperm(last + 1 - first, generator=source) + first).tolist() for _ in range(passes)]
    down = list(range(last, first - 1, -1))
    rounds = [down[:-1] if last > first else []]
    rounds += [[*range(first, last), *down] for _ in range(passes - 1)]
    rounds[-1] = [*rounds[-1], first]
    return rounds
