"""Stateless randomness: a generator is a function of (seed, stream name, position), so position is the only state."""

import hashlib

import torch


def stream_seed(seed: int, stream: str, position: int = 0) -> int:
    """Return the 63-bit seed of one position of one named stream of a run."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str, position: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator for one position (a step, an epoch) of a named stream.

    Args:
        seed: the run's seed.
        stream: what is drawn, for example ``"order"``, ``"augment"`` or ``"dropout.fc1"``.
        position: step or epoch; equal arguments give equal draws on the same device.
        device: where the draws are made.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream, position))
