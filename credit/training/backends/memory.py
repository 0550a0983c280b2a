"""How much memory a pass of several replicas takes, before it takes it, and how much there is."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from credit.rules.outcome import InferenceDiverged
from credit.training.optimization.probe import traits
from credit.training.prepare import Prepared, synthetic

SPARE = 0.8
"""Share of the free memory that a pass may take."""


def needed(prepared: Prepared, count: int) -> int:
    """Return about how many bytes a pass of `count` replicas takes: data, weights, updates, optimizer, one step's values.

    Args:
        prepared: one of the runs; one step's memory is measured on it and nothing of it moves.
        count: how many replicas.
    """
    cfg, spec, model = prepared.cfg, prepared.spec, prepared.model
    size = min(cfg.data.batch_size, spec.train_size)
    step = peak_bytes(_step_of(prepared), *synthetic(prepared, size))
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *prepared.rule.parameters()])
    fixed = sum(value.numel() * value.element_size() for value in prepared.rule.buffers.values())
    # As stored (a byte a number) and, unless augmented, normalised beforehand.
    own_examples = count if cfg.data.split_seed is None else 1
    examples = spec.train_size * math.prod(spec.shape) * (1 if cfg.data.augment else 5) * own_examples
    return round(examples + count * (step + (2 + traits(cfg.optimizer).slots) * weights + fixed))


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


def peak_bytes(step: Callable[[Tensor, Tensor], None], x: Tensor, y: Tensor) -> int:
    """Return the peak of bytes that torch's tensors held during one step above what they held before it.

    Call it with gradients dropped, so that both sides of a comparison allocate their own.
    """
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        step(x, y)
        torch.cuda.synchronize(x.device)
        return torch.cuda.max_memory_allocated(x.device) - before
    with _LiveBytes() as live:
        step(x, y)
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that ops create while it is on, and their peak; scratch inside an op is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {ref._cdata for ref in map(_storage, tree_leaves((args, kwargs))) if ref is not None}
        for value in tree_leaves(out):
            ref = _storage(value)
            # A view's storage came in with the arguments.
            if ref is not None and (ref._cdata in self.live or ref._cdata not in known):
                self.live[ref._cdata] = (StorageWeakRef(value.untyped_storage()), value.untyped_storage().nbytes())
        self.live = {key: held for key, held in self.live.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self.live.values()))
        return out


def _storage(value: Any) -> Any:
    return value.untyped_storage() if isinstance(value, Tensor) else None
