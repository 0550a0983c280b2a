"""Fewer cases than all combinations of some options, without missing one that two or three of them cause together."""

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

Case = tuple[Any, ...]


def covering(
    strength: int, *axes: Sequence[Any], where: Callable[..., bool] = lambda *case: True, slow: int = 0
) -> list[Any]:
    """Return cases, one value of each axis, among which any `strength` axes have every combination of their values.

    Five axes of 3, 3, 2, 2 and 7 values have 252 combinations; any three values meet in 67 of them, any two in 21. The cases
    are the same in every process.

    Args:
        strength: how many values at a time have to meet.
        axes: the values.
        where: whether a case makes sense; the rest are left out, and with them combinations that occur nowhere else.
        slow: how many have to meet in these cases and in further ones, which are marked slow.
    """
    cases = [case for case in itertools.product(*axes) if where(*case)]
    fast = _covering(strength, cases, [])
    further = _covering(slow, cases, fast) if slow > strength else []
    return [
        cases[number] if number in fast else pytest.param(*cases[number], marks=pytest.mark.slow)
        for number in sorted(fast + further)
    ]


def _covering(strength: int, cases: list[Case], given: list[int]) -> list[int]:
    """Return the numbers of cases that together with the `given` ones have every combination of `strength` values."""
    places = list(itertools.combinations(range(len(cases[0])), strength))
    held = [{(place, *(repr(case[at]) for at in place)) for place in places} for case in cases]
    met: set[tuple[Any, ...]] = set().union(*(held[number] for number in given))
    left = random.Random(0).sample(range(len(cases)), len(cases))
    kept: list[int] = []
    for least in range(len(places), 0, -1):  # first the cases of which most is new
        for number in left:
            if len(held[number] - met) >= least:
                met |= held[number]
                kept.append(number)
        left = [number for number in left if not held[number] <= met]
    return kept
