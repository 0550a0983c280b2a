"""A rule's own tensors: fixed buffers, parameters that steps train beside the network's, and what one step puts by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError, nearest
from credit.engine.ops.base import Run


@dataclass
class RuleRun(Run):
    """A step's run, with what rules put by for later in the step.

    Attributes:
        stats: statistics of the error signals, by name (see `credit.rules.outcome.Computed.signals`).
        error: the error at the output, for rules that send it straight to every layer.
        quotients: by op index, the second part of a relevance quotient, for the layer further down that shares it.
    """

    stats: dict[str, Tensor] = field(default_factory=dict)
    error: Tensor | None = None
    quotients: dict[int, Tensor] = field(default_factory=dict)


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


class FeedbackParameters(dict[str, nn.Parameter]):
    """A rule's own parameters by name."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded: set[str] | None = None
        self._asked: set[str] = set()

    def make(self, name: str, value: Tensor, model: nn.Module) -> None:
        """Add a parameter the rule begins with, unless one of that name was loaded before.

        Args:
            name: its name among the rule's parameters, and
            value: what it begins with.
            model: the network, none of whose tensors may have the name.

        Raises:
            UserError: what was loaded has another shape, or the name is taken.
        """
        if name in dict(model.named_parameters()) or name in dict(model.named_buffers()):
            raise UserError(
                f"{type(model).__name__} has a tensor '{name}', the name of one that the rule learns: give the module "
                f"'{name.partition('.')[0]}' another name"
            )
        self._asked.add(name)
        held = self.setdefault(name, nn.Parameter(value))
        if held.shape != value.shape:
            raise UserError(
                f"the rule's parameter '{name}' has shape {tuple(held.shape)}, and this network needs {tuple(value.shape)}: the "
                "state that was loaded belongs to another network, or a layer changed its shape; then make the rule and its "
                "optimizer anew"
            )

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over values before it is known which parameters the network will ask for (see ``settle``)."""
        self.update({name: nn.Parameter(value.clone()) for name, value in values.items()})
        self._loaded = set(values)

    def settle(self, rule: str) -> None:
        """Hold what was loaded against what was asked for since.

        Raises:
            UserError: they are not the same parameters.
        """
        if self._loaded is not None and self._loaded != self._asked:
            raise UserError(
                f"the state loaded into rule '{rule}' belongs to another rule, error connectivity or network: it has "
                f"{sorted(self._loaded)[:4]}, and this one needs {sorted(self._asked)[:4]}"
            )

    def to(self, like: Tensor) -> None:
        """Move every parameter to the device and type of ``like``, as `nn.Module.to` does: they stay the same objects."""
        for value in self.values():
            if value.device != like.device or value.dtype != like.dtype:
                value.data = value.data.to(like)
