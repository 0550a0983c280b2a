"""How much memory a pass of several replicas takes, before it takes it, and how much there is."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from credit.benchmarks.speed import peak_bytes
from credit.rules.outcome import InferenceDiverged
from credit.training.evaluate import float_dtype
from credit.training.prepare import Prepared

SPARE = 0.8
"""Share of the free memory that a pass may take."""

_SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimizer keeps for each of a parameter's."""


def needed(prepared: Prepared, count: int) -> int:
    """Return about how many bytes a pass of `count` replicas takes: data, weights, updates, optimizer, one step's values.

    Args:
        prepared: one of the runs; one step's memory is measured on it and nothing of it moves.
        count: how many replicas.
    """
    cfg, spec, model = prepared.cfg, prepared.spec, prepared.model
    size = min(cfg.data.batch_size, spec.train_size)
    x = torch.zeros(size, *spec.shape, device=prepared.device, dtype=float_dtype(model))
    y = torch.zeros(size, dtype=torch.int64, device=prepared.device)
    step = peak_bytes(_step_of(prepared), x, y)
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *prepared.rule.parameters()])
    fixed = sum(value.numel() * value.element_size() for value in prepared.rule.buffers.values())
    # As stored (a byte a number) and, unless augmented, normalised beforehand.
    own_examples = count if cfg.data.split_seed is None else 1
    examples = spec.train_size * math.prod(spec.shape) * (1 if cfg.data.augment else 5) * own_examples
    return examples + count * (step + (2 + _SLOTS[cfg.optimizer.kind]) * weights + fixed)


def _step_of(prepared: Prepared) -> Callable[[Tensor, Tensor], None]:
    def step(x: Tensor, y: Tensor) -> None:
        with contextlib.suppress(InferenceDiverged):  # its memory is taken by then
            prepared.rule.updates(x, y)

    return step


def available(device: torch.device) -> int | None:
    """Return how many bytes are free on a device, by its driver or by Linux's own account; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return min(free, *_group_free(), free)


def _group_free() -> list[int]:
    """Return what the container's limit leaves, where there is one (cgroup v2)."""
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        return [int(limit) - int(used)]
    except (OSError, ValueError):  # no limit ("max"), or another system
        return []
