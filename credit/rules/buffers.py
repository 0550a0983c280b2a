"""A rule's fixed tensors: settable, saved, and checked against what the rule reads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from credit.errors import UserError, nearest


class Buffers(dict[str, Tensor]):
    """A rule's fixed tensors by name. Once they are made, only known names of the right shape can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, torch.Size] = {}
        self.settled = False

    def make(self, name: str, value: Tensor) -> None:
        """Add a tensor the rule made, unless the user or a checkpoint set one of that name before."""
        self.shapes[name] = value.shape
        if name not in self:
            super().__setitem__(name, value)
        self._check(name, self[name])

    def settle(self) -> None:
        """Refuse names that no op reads; from now on they are refused at once."""
        self.settled = True
        for name, value in self.items():
            self._check(name, value)

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._check(name, value)
        super().__setitem__(name, value)

    def _check(self, name: str, value: Tensor) -> None:
        if name in self.shapes and value.shape != self.shapes[name]:
            raise UserError(
                f"rule.buffers['{name}'] has shape {tuple(value.shape)}, but this network needs {tuple(self.shapes[name])}; give "
                f"one of that shape, or del rule.buffers['{name}'], and the rule draws one"
            )
        if self.settled and name not in self.shapes:
            raise UserError(
                f"rule.buffers['{name}']: the rule reads no tensor of this name; {nearest(name, self.shapes)}"
            )

    def to(self, device: torch.device) -> None:
        """Move every tensor to ``device``."""
        for name, value in self.items():
            super().__setitem__(name, value.to(device))


def places(model: nn.Module) -> list[tuple[str, dict[str, Any], str]]:
    """Return where a model's buffers are: (name, the dict of its module, key there).

    Looking buffers up there at each step sees those that were replaced, and costs a tenth of walking the module tree.
    """
    split = [(name, *name.rpartition(".")[::2]) for name, _ in model.named_buffers()]
    return [(name, model.get_submodule(owner)._buffers, key) for name, owner, key in split]


def copies(buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors by name, for a pass that must leave the originals as they are."""
    return {name: value.clone() for name, value in buffers.items()}
