"""The processes that torchrun starts for one run, by its environment variables. No torch."""

import os


def world_size() -> int:
    """Return the number of processes that share the run; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ.get("RANK") or 0)


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or 0)
