"""Damage of a file's bytes: flipped bits, cuts, insertions, blocks that are zeroed, swapped or repeated."""

import random


def damaged(content: bytes, source: random.Random) -> bytes:
    """Return bytes with one to three places damaged.

    Args:
        content: of a valid file.
        source: of the random numbers.
    """
    made = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        source.choice(WAYS)(made, source)
    return bytes(made)


def _place(made: bytearray, source: random.Random) -> int:
    """Return a place; half of them are among the first 256 bytes, where headers are."""
    top = min(len(made), 256) if source.random() < 0.5 else len(made)
    return source.randrange(top) if top else 0


def _flip(made: bytearray, source: random.Random) -> None:
    if made:
        made[_place(made, source)] ^= 1 << source.randrange(8)


def _set(made: bytearray, source: random.Random) -> None:
    if made:
        made[_place(made, source)] = source.choice((0, 1, 0x0A, 0x22, 0x2E, 0x7F, 0x80, 0xFF, source.randrange(256)))


def _cut(made: bytearray, source: random.Random) -> None:
    del made[_place(made, source) :]


def _remove(made: bytearray, source: random.Random) -> None:
    at = _place(made, source)
    del made[at : at + source.randrange(1, 64)]


def _insert(made: bytearray, source: random.Random) -> None:
    at = _place(made, source)
    made[at:at] = source.randbytes(source.randrange(1, 32))


def _zero(made: bytearray, source: random.Random) -> None:
    at = _place(made, source)
    size = min(source.randrange(1, 64), len(made) - at)
    made[at : at + size] = bytes(size)


def _repeat(made: bytearray, source: random.Random) -> None:
    at = _place(made, source)
    block = bytes(made[at : at + source.randrange(1, 64)])
    made[at:at] = block * source.randrange(1, 4)


def _swap(made: bytearray, source: random.Random) -> None:
    one, other = _place(made, source), _place(made, source)
    size = source.randrange(1, 16)
    a, b = bytes(made[one : one + size]), bytes(made[other : other + size])
    made[one : one + size], made[other : other + size] = b, a


WAYS = (_flip, _set, _cut, _remove, _insert, _zero, _repeat, _swap)
