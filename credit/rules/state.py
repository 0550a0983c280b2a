"""Tensors of a rule: fixed buffers, feedback parameters that steps train beside the network, and what a step stores for later."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from credit.core.errors import UserError, nearest
from credit.engine.ops.base import Run
from credit.rules.outcome import Shares


@dataclass
class RuleRun(Run):
    """A step's run, with what rules store for later in the step.

    Attributes:
        stats: statistics of the error signals, by name (see `credit.rules.outcome.Computed.signals`).
        error: the error at the output, for rules that send it straight to every layer.
        sharing: the shares of the batch, where the run has one of them; None where it has all of the batch.
        quotients: by op index, the second part of a relevance quotient, for the layer further down that shares it.
    """

    stats: dict[str, Tensor] = field(default_factory=dict)
    error: Tensor | None = None
    sharing: Shares | None = None
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
    """A rule's feedback parameters by name."""

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


class Stateful:
    """The tensors of a rule: the network's parameters and buffers, and its own.

    Attributes:
        name: the rule's.
        position: the number of the next step.
        buffers: its own fixed tensors by name.
        feedback_parameters: parameters of the rule that steps train, by name.
    """

    # Whether the shapes of its feedback parameters follow from the input's, so that ``prepare`` makes them.
    awaits_shapes: ClassVar[bool] = False
    name: str
    position: int
    buffers: "Buffers"
    feedback_parameters: "FeedbackParameters"
    _ready: bool
    _params: dict[str, Tensor]
    _buffer_places: list[tuple[str, dict[str, Any], str]]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the rule's feedback parameters by name (most rules have none).

        Raises:
            UserError: their shapes are not known yet.
        """
        if self.awaits_shapes and not self._ready:
            raise UserError(
                f"rule '{self.name}' has feedback parameters, whose shapes follow from the input's, and it has seen no input: "
                f"make it with an example, credit.rule('{self.name}', model, example=x[:2]), before you ask for them"
            )
        yield from self.feedback_parameters.items()

    def state_dict(self) -> dict[str, Any]:
        """Return the rule's own state: buffers, feedback parameters, position."""
        return {
            "buffers": dict(self.buffers),
            "parameters": {name: p.detach() for name, p in self._owned().items()},
            "position": self.position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``'s value, keeping devices; refuse one of another rule."""
        if self.awaits_shapes and not self._ready:
            self.feedback_parameters.load(state["parameters"])
        own = self._owned()
        if self._ready and set(state["buffers"]) != set(self.buffers) or set(state["parameters"]) != set(own):
            raise UserError(f"this state belongs to another rule or model than {self.name}: its tensors are "
                            f"{sorted(state['buffers'])[:4]}, expected {sorted(self.buffers)[:4]}")  # fmt: skip
        where = next(iter(self._params.values())).device
        for name, value in state["buffers"].items():
            self.buffers[name] = value.to(where)
        with torch.no_grad():
            for name, value in state["parameters"].items():
                own[name].copy_(value)
        self.position = int(state["position"])

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the rule's feedback parameters, for the optimizer."""
        return (p for _, p in self.named_parameters())

    def _owned(self) -> dict[str, nn.Parameter]:
        return dict(self.feedback_parameters if self.awaits_shapes and not self._ready else self.named_parameters())

    def _all_parameters(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = dict(self.named_parameters())
        return self._params | own if own else self._params

    def _model_buffers(self) -> dict[str, Tensor]:
        # Looked up by the places found at construction: walking the module tree would cost a tenth of a small step.
        return {name: held[key] for name, held, key in self._buffer_places}
