"""Where a step's random numbers come from: lazily from stateless generators, or drawn beforehand.

A compiled or seed-mapped step takes its random numbers as arguments; an eager one draws them when it needs them. Both see
the same numbers, because a draw is a function of (seed, name, position) alone.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from credit.streams import generator

Request = tuple[str, tuple[int, ...], torch.dtype]


@dataclass
class Draws:
    """Draws by name for one step.

    Attributes:
        seed: the run's seed.
        position: the step; every step draws afresh.
        device: where the tensors live.
    """

    seed: int
    position: int
    device: torch.device

    def get(self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return one tensor: ``uniform`` on [0, 1) or ``normal`` with unit variance."""
        source = generator(self.seed, name, self.position, self.device)
        draw = torch.rand if distribution == "uniform" else torch.randn
        return draw(shape, generator=source, device=self.device, dtype=dtype)

    def at(self, position: int) -> "Draws":
        """Return the draws of another step."""
        return Draws(self.seed, position, self.device)

    def drawn(self, requests: dict[str, Request]) -> "Drawn":
        """Draw everything that an earlier step of the same shapes asked for."""
        return Drawn({name: self.get(name, *request) for name, request in requests.items()})


@dataclass
class Noted(Draws):
    """Draws that also note what was asked for: a step that is given them learns what a compiled or mapped one needs.

    Attributes:
        requests: by name: (distribution, shape, dtype).
    """

    requests: dict[str, Request] = field(default_factory=dict)

    def get(self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        self.requests[name] = (distribution, shape, dtype)
        return super().get(name, distribution, shape, dtype)


@dataclass
class Drawn:
    """Draws made beforehand, the form that a compiled or mapped step takes as an argument."""

    tensors: dict[str, Tensor]

    def get(self, name: str, distribution: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self.tensors[name]
