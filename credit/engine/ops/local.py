"""Local autograd: one op that has no row in the table, differentiated by itself when the rule's user opts in.

The op is run again with autograd inside the adjoint, so nothing of it is kept but its inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Op, Run, Signals


@dataclass(frozen=True)
class Arg:
    """Marks in a call's arguments the place of the op's tensor number ``at``."""

    at: int


def fill(value: Any, tensors: list[Any]) -> Any:
    """Put tensors in the marked places of nested arguments."""
    if isinstance(value, Arg):
        return tensors[value.at]
    if isinstance(value, tuple | list):
        return type(value)(fill(item, tensors) for item in value)
    return {key: fill(item, tensors) for key, item in value.items()} if isinstance(value, dict) else value


class Local(Op):
    """Any deterministic function of tensors; ``args``: ``call`` (tensors by role, *args, **kwargs), ``extra``: (args, kwargs).

    The tensors by role are the parameters and, from ``args["buffers"]``, the buffers, which only the forward may move.
    Any function or leaf module that the table lacks takes this road.
    """

    kind: ClassVar[str] = "local"
    # Autograd may return a view of the signal, or an expanded one, and the call a view of its input.
    expands: ClassVar[bool] = True
    fresh: ClassVar[bool] = False

    def forward(self, run: Run, *values: Any) -> Any:
        self.save(run, values)
        buffers = {role: run.buffers[name] for role, name in self.args["buffers"].items()}
        # Neither compilation nor mapping knows versions.
        given = [value for value in values[:-2] if isinstance(value, Tensor)] if run.overwrite else []
        versions = [value._version for value in given]
        out = self._value(values, self._params(run) | buffers)
        if any(value._version != version for value, version in zip(given, versions, strict=True)):
            raise UserError(
                f"{self.describe()} changes one of its inputs in place, and local autograd runs it twice a step. Use a module "
                "that has the changed tensor as a buffer of its own (nn.BatchNorm2d for F.batch_norm), or an op that returns a "
                "new tensor"
            )
        return out

    def _value(self, values: tuple[Any, ...], params: dict[str, Tensor]) -> Tensor:
        args, kwargs = fill(values[-2:], list(values[:-2]))
        out: Tensor = self.args["call"](params, *args, **kwargs)
        return out

    def _params(self, run: Run) -> dict[str, Tensor]:
        return {role: run.params[name] for role, name in self.params.items()}

    def _grads(self, run: Run, signal: Tensor, leaves: list[str | int]) -> list[Tensor]:
        """Gradients for inputs (by position) and parameters (by role); zeros where the result does not depend on one."""
        values = self.load(run)
        params = self._params(run)
        given = {leaf: (values[leaf] if isinstance(leaf, int) else params[leaf]).detach() for leaf in leaves}
        with torch.enable_grad():
            at = {leaf: tensor.requires_grad_() for leaf, tensor in given.items() if tensor.is_floating_point()}
            # The forward has moved statistics already (torch counts no version for F.batch_norm's).
            own = {id(value) for value in run.buffers.values()}
            kept = (value.clone() if id(value) in own else value for value in values[:-2])
            inputs = tuple(at.get(place, value) for place, value in enumerate(kept))
            buffers = {role: run.buffers[name].clone() for role, name in self.args["buffers"].items()}
            named = {role: at.get(role, p) for role, p in params.items()} | buffers
            out = self._value((*inputs, *values[-2:]), named)
        grads: dict[str | int, Tensor | None] = {}
        if out.requires_grad and at:
            made = torch.autograd.grad(out, list(at.values()), signal.to(out.dtype), allow_unused=True)
            grads = dict(zip(at, made, strict=True))
        # A comparison's bool result has a signal too: zero, of the kind that signals are.
        return [
            signal.new_zeros(tensor.shape) if (grad := grads.get(leaf)) is None else grad
            for leaf, tensor in given.items()
        ]

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        wanted: list[str | int] = [place for place, want in enumerate(self.wants) if want]
        sent: list[Tensor | None] = [None] * len(self.inputs)
        for place, grad in zip(wanted, self._grads(run, signal, wanted), strict=True):
            sent[int(place)] = grad
        return tuple(sent)

    def updates(self, run: Run, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        roles: list[str | int] = [role for role, name in self.params.items() if name in self.trains]
        if roles:
            for role, grad in zip(roles, self._grads(run, signal, roles), strict=True):
                yield self.params[str(role)], grad
