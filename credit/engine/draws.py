"""Sources of a step's random numbers: lazily from stateless generators, or drawn beforehand.

A compiled or seed-mapped step takes its random numbers as arguments; an eager one draws them when it needs them. Both see
the same numbers, because a draw is a function of (seed, name, position) alone.
"""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from credit.core.randomness import generator, stream_seed

Request = tuple[str, tuple[int, ...], torch.dtype, bool]


class Share(NamedTuple):
    """The samples of a batch that one process works on: those from ``start`` to ``stop`` of ``whole``."""

    start: int
    stop: int
    whole: int


def uniform16(seed: int, name: str, position: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return uniform numbers of 16 bits on the CPU, five times as fast as torch's: (k + 1/2) / 65536, k in [0, 65536).

    Mean 1/2 and variance (1 - 2^-32) / 12 exactly, never 0 or 1 (in float16 and bfloat16, rounded). Four come from each
    64-bit word of SFC64, a generator whose stream numpy keeps the same between versions.
    """
    count = math.prod(shape)
    words = np.random.SFC64(stream_seed(seed, name, position)).random_raw(-(-count // 4))
    work = dtype if dtype == torch.float64 else torch.float32
    drawn = torch.from_numpy(words.view(np.int16))[:count].to(work)
    return drawn.add_(32768.5).mul_(2.0**-16).to(dtype).view(shape)


@dataclass
class Draws:
    """Draws by name for one step.

    Attributes:
        seed: the run's seed.
        position: the step; every step draws afresh.
        device: where the tensors live.
        share: the samples of the batch that the step has; None: all.
    """

    seed: int
    position: int
    device: torch.device
    share: Share | None = None

    def get(
        self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype, rows: bool = False
    ) -> Tensor:
        """Return one tensor: ``uniform`` on [0, 1), ``normal`` with unit variance, or ``uniform16``, quick and coarser.

        Args:
            name: of the draw, one of its own in a step.
            distribution, shape, dtype: of the tensor.
            rows: whether its first dimension is the batch's, or (time steps * batch): a share of a batch then gets its rows of what
                the whole batch would get.
        """
        if rows and self.share is not None:
            start, stop, whole = self.share
            steps = shape[0] // (stop - start)
            drawn = self._draw(name, distribution, (steps * whole, *shape[1:]), dtype)
            return drawn.unflatten(0, (steps, whole))[:, start:stop].flatten(0, 1)
        return self._draw(name, distribution, shape, dtype)

    def _draw(self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if distribution == "uniform16" and self.device.type == "cpu":
            return uniform16(self.seed, name, self.position, shape, dtype)
        source = self.generator(name)
        draw = torch.randn if distribution == "normal" else torch.rand
        return draw(shape, generator=source, device=self.device, dtype=dtype)

    def generator(self, name: str) -> torch.Generator:
        """Return this step's generator of one name, for what draws by itself; compiled and mapped steps have none."""
        return generator(self.seed, name, self.position, self.device)

    def at(self, position: int) -> "Draws":
        """Return the draws of another step."""
        return replace(self, position=position)

    def drawn(self, requests: dict[str, Request]) -> "Drawn":
        """Draw all random numbers that an earlier step of the same shapes requested."""
        return Drawn({name: self.get(name, *request) for name, request in requests.items()})


@dataclass
class Noted(Draws):
    """Draws that also note what was asked for: a step that is given them learns what a compiled or mapped one needs.

    Attributes:
        requests: by name: (distribution, shape, dtype, rows).
    """

    requests: dict[str, Request] = field(default_factory=dict)

    def get(
        self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype, rows: bool = False
    ) -> Tensor:
        self.requests[name] = (distribution, shape, dtype, rows)
        return super().get(name, distribution, shape, dtype, rows)


@dataclass
class Drawn:
    """Draws made beforehand, the form that a compiled or mapped step takes as an argument."""

    tensors: dict[str, Tensor]

    def get(
        self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype, rows: bool = False
    ) -> Tensor:
        return self.tensors[name]
