"""A rule's own parameters: those that a step gives updates to beside the network's, for the optimizer to move."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from credit.errors import UserError


class Learnt(dict[str, nn.Parameter]):
    """A rule's own parameters by name."""

    def make(self, name: str, value: Tensor) -> None:
        """Add a parameter the rule begins with, unless one of that name was loaded before.

        Raises:
            UserError: what was loaded has another shape.
        """
        held = self.setdefault(name, nn.Parameter(value))
        if held.shape != value.shape:
            raise UserError(
                f"the rule's parameter '{name}' was loaded with shape {tuple(held.shape)}, and this network needs "
                f"{tuple(value.shape)}: the state belongs to another network"
            )

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over values before it is known which parameters the network will ask for."""
        self.update({name: nn.Parameter(value.clone()) for name, value in values.items()})

    def to(self, device: torch.device) -> None:
        """Move every parameter to ``device``, as `nn.Module.to` does: they stay the same objects."""
        for value in self.values():
            value.data = value.data.to(device)
