"""The base class of ops: one op is a node of the plan, with its forward, its adjoint and its parameters' updates.

The error signal at an op's output is shaped like that output. Under backprop it equals the derivative of the batch-mean
loss. A rule changes how the error signal is computed; the bookkeeping is the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

Signals = tuple[Tensor | None, ...]
Carried = tuple[bool, ...]


class Rows:
    """The samples of a backward pass whose error signal is not zero; the other samples change no update.

    Args:
        index: their places in the batch, ascending.
        carried: by op index, which of the op's inputs have the samples along dim 0; ops without samples are absent.

    Attributes:
        count: number of these samples.
    """

    def __init__(self, index: Tensor, carried: "dict[int, Carried]") -> None:
        self.index, self.carried, self.count = index, carried, index.shape[0]
        self._last: tuple[Tensor, Tensor] | None = None

    def take(self, value: Tensor) -> Tensor:
        """Return these samples' part of a tensor (B, ...)."""
        # An activation's result and the next layer's input are one tensor, met twice in a row.
        if self._last is None or self._last[0] is not value:
            self._last = value, value.index_select(0, self.index)
        return self._last[1]

    def shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape that ``take`` gives a tensor of this shape."""
        return torch.Size((self.count, *shape[1:]))

    def stand_in(self, value: Tensor) -> Tensor:
        """Return a tensor like ``take``'s where only its shape is read."""
        return value[: self.count]


class Across(Protocol):
    """The shares of one batch, each computed by a process of its own."""

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all shares, which call this in the same order with the same shape."""


@dataclass
class Run:
    """The state of one step: its arguments, and the values saved for the adjoints. A rule adds fields in a subclass.

    Attributes:
        params: parameters by name.
        buffers: buffers by name; BatchNorm's running statistics are updated in place.
        draws: where random numbers come from (see ``credit.engine.draws``); None: dropout is off.
        dtype: computation type of the weighted ops; None leaves every tensor as it is.
        saved: by op index, what its adjoint needs; dropped as the backward pass goes on.
        batch: number of samples.
        rows: the samples that the backward pass goes on with; None: all.
        train: whether dropout drops and BatchNorm uses the batch's statistics.
        overwrite: whether error signals may be overwritten by ops that ``torch.func.vmap`` cannot map.
        held: by op index, (inputs, output) of the ops whose values the rule asked for (``BackwardPass.holds``).
        entry: the error signal at the network's input, where the plan computes it.
        arrived: by slot, the signals that reached the activations where a cut plan receives them (see `credit.engine.plan.Cuts`).
        dtypes: by slot, the type of the value there, which its signal has too; empty where ``dtype`` is None.
        across: the shares of the batch over which BatchNorm takes its statistics; None: over the samples of this run.
    """

    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    draws: Any
    dtype: torch.dtype | None = None
    saved: list[Any] = field(default_factory=list)
    batch: int = 0
    train: bool = True
    overwrite: bool = True
    dtypes: dict[int, torch.dtype] = field(default_factory=dict)
    rows: Rows | None = None
    held: dict[int, tuple[tuple[Any, ...], Any]] = field(default_factory=dict)
    entry: Tensor | None = None
    arrived: dict[int, Tensor] = field(default_factory=dict)
    across: Across | None = None

    @property
    def present(self) -> int:
        """Return the number of samples in an error signal."""
        return self.batch if self.rows is None else self.rows.count


@dataclass(frozen=True)
class Ref:
    """Stands in an op's arguments for the value of a slot."""

    slot: int


@dataclass(eq=False)
class Op:
    """One node of the plan.

    Attributes:
        name: the module's path or the traced node's name, unique in the plan.
        inputs: slots of the tensors it reads.
        args: constants that describe it.
        extra: what ``forward`` takes after the tensors; a ``Ref`` among them is a value computed from shapes.
        params: parameter name by role, for example ``{"weight": "fc1.weight"}``.
        out: slot of its result.
        index: its place in the plan.
        wants: by input, whether a signal has to be sent there.
        trains: names of those parameters that are trainable.
        exclusive: whether the signal arriving here may be overwritten.
        overwrite: whether the forward may overwrite its input.
        steps: time steps in the rows of its result, (steps * batch, ...), in a spiking network; else 1.
        stops: whether no gradient passes it or reaches its parameters, as under ``torch.no_grad()``.
    """

    kind: ClassVar[str] = "op"
    # The adjoint hands on the arriving tensor itself, or a view of it.
    aliases: ClassVar[bool] = False
    # The adjoint's result may be a stride-0 view, which must not be written to.
    expands: ClassVar[bool] = False
    # The result is a new tensor that the op does not keep for its adjoint, so the next op may overwrite it.
    fresh: ClassVar[bool] = True
    # The forward draws, or moves statistics: another input is to be sent through what it drew or found, by ``follow``.
    remembers: ClassVar[bool] = False

    name: str
    inputs: tuple[int, ...]
    args: dict[str, Any] = field(default_factory=dict)
    extra: tuple[Any, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    out: int = -1
    index: int = -1
    wants: tuple[bool, ...] = ()
    trains: tuple[str, ...] = ()
    exclusive: bool = False
    overwrite: bool = False
    steps: int = 1
    stops: bool = False

    def forward(self, run: Run, *inputs: Any) -> Any:
        """Return the result, leaving in ``run.saved[self.index]`` what the adjoint needs."""
        raise AssertionError(f"{self.kind} has no forward")

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        """Return the error signal of each input (None where ``wants`` says so)."""
        raise AssertionError(f"{self.kind} has no adjoint")

    def updates(self, run: Run, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (parameter name, descent direction) for each trainable parameter."""
        return iter(())

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        """Return whether a sample's share of the adjoint and of the updates depends on that sample alone, found along dim 0.

        Args:
            inputs: what ``forward`` was given, a batch of two or more samples.
            carried: which of the input tensors have the samples along dim 0 (one at least).
            out: what ``forward`` returned.
        """
        return False  # an op that has not said so couples samples

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        """Return what ``forward`` saved, for some samples alone; called where ``separable`` holds."""
        raise AssertionError(f"{self.kind} cannot leave samples out")

    def follow(self, run: Run, value: Tensor) -> Tensor:
        """Send another tensor, shaped like the input, through what the forward pass of ``run`` has kept."""
        raise AssertionError(f"{self.kind} follows nothing")

    def stats(self) -> tuple[str, ...]:
        """Names of the buffers this op writes to during training."""
        return ()

    def save(self, run: Run, value: Any) -> None:
        run.saved[self.index] = value

    def load(self, run: Run) -> Any:
        return run.saved[self.index]

    def describe(self) -> str:
        return f"{self.kind} '{self.name}'"


def leads(out: Any, *inputs: Tensor) -> bool:
    """Return whether a result has as many entries along dim 0 as the inputs that carry the samples."""
    return isinstance(out, Tensor) and out.dim() > 0 and all(out.shape[0] == x.shape[0] for x in inputs)


def broadcasts(operands: tuple[Any, ...], carried: Carried, out: Tensor) -> bool:
    """Return whether a broadcasting op keeps the samples along dim 0, each operand without samples being shared by all."""
    for at, operand in enumerate(operands):
        if at < len(carried) and carried[at]:
            if operand.dim() != out.dim() or operand.shape[0] != out.shape[0]:
                return False
        elif isinstance(operand, Tensor) and operand.dim() == out.dim() and operand.shape[0] != 1:
            return False
    return True


def sum_to(signal: Tensor, shape: torch.Size) -> Tensor:
    """Sum an error signal to the shape of a broadcast operand: the adjoint of broadcasting."""
    return signal if signal.shape == shape else signal.sum_to_size(shape)


def resolve(value: Any, values: list[Any]) -> Any:
    """Replace every ``Ref`` in a nested argument by the slot's value."""
    if isinstance(value, Ref):
        return values[value.slot]
    if isinstance(value, tuple | list):
        return type(value)(resolve(item, values) for item in value)
    if isinstance(value, slice):
        return slice(*(resolve(part, values) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: resolve(item, values) for key, item in value.items()}
    return value


def has_ref(value: Any) -> bool:
    """Return whether a nested argument contains a ``Ref``."""
    if isinstance(value, Ref):
        return True
    if isinstance(value, tuple | list):
        return any(has_ref(item) for item in value)
    if isinstance(value, slice):
        return has_ref((value.start, value.stop, value.step))
    if isinstance(value, dict):
        return has_ref(tuple(value.values()))
    return False


def slots_in(value: Any) -> set[int]:
    """Return the slots of every ``Ref`` in a nested argument."""
    if isinstance(value, Ref):
        return {value.slot}
    if isinstance(value, tuple | list):
        return {slot for item in value for slot in slots_in(item)}
    if isinstance(value, slice):
        return slots_in((value.start, value.stop, value.step))
    if isinstance(value, dict):
        return slots_in(tuple(value.values()))
    return set()
