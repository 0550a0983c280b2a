"""A program: inference as a list of instructions, and what carries them out. A `Recorder` writes it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from credit.engine.inference.segments import Segments, State
from credit.engine.ops.base import Op, Run, has_ref, resolve
from credit.engine.ops.pools import AdaptivePool, MaxPool
from credit.engine.ops.weighted import Weighted

SWITCHES = (MaxPool, AdaptivePool)
"""Ops whose adjoint depends on their last evaluation."""


class Actor(Protocol):
    """The interface of a rule's actor: its actions at the states and at the weights in one step.

    Attributes:
        factor: by which weights' updates are multiplied.
    """

    factor: float

    def start(self, work: "Work", state: State, live: bool) -> None:
        """Give a hidden state its first value, from ``work.values[state.pre]``."""

    def update(self, work: "Work", state: State, live: bool) -> None:
        """Renew a state from ``work.values[state.pre]`` and, where ``live``, ``work.arriving[state.out]``; send its signal."""

    def backproject(self, op: Weighted, run: Any, signal: Tensor) -> Tensor:
        """Backproject an error signal through an op's weights."""

    def arrive(self, op: Weighted, run: Any, signal: Tensor) -> None:
        """Receive the error signal that a weighted op's update is computed from."""


Move = Callable[[Any, "Work", State, bool], None]
"""A function of an actor's class, called with (actor, work, state, whether a signal reaches the state)."""


class Work:
    """A program's memory while it runs.

    Args:
        run: the step's arguments.
        slots: number of values of the plan.
        actor: what the rule does in this step.

    Attributes:
        values: by slot.
        arriving: by slot, the sum of the signals that its readers sent back.
        sent: by (op's index, which input), the signal sent there; a state's own is (its op's index, 0), the output's (-1, 0).
        updates: by parameter name.
        plus: by slot, values at the states' s+, where feedback takes the switches of max pools from there (see `Recorder`).
        switches: by the op's index, what a max pool kept of its evaluation at s+.
        registers: these by name, and what ops have saved, as instructions name what they read.
    """

    def __init__(self, run: Any, slots: int, actor: Actor) -> None:
        self.run, self.actor = run, actor
        self.plus: dict[int, Tensor] = {}
        self.switches: dict[int, Any] = {}
        self.values: list[Any] = [None] * slots
        self.arriving: list[Tensor | None] = [None] * slots
        self.sent: dict[tuple[int, int], Tensor] = {}
        self.updates: dict[str, Tensor] = {}
        self.registers: dict[str, Any] = {
            "values": self.values, "plus": self.plus, "arriving": self.arriving, "sent": self.sent,
            "switches": self.switches, "saved": run.saved,
        }  # fmt: skip

    def send(self, state: State, signal: Tensor) -> None:
        """Leave a state's signal for the maps below it; the input has none."""
        if state.pre >= 0:
            self.sent[-1 if state.op is None else state.op.index, 0] = signal


Register = tuple[str, Any]


@dataclass(eq=False)
class Instruction:
    """One thing to do.

    Attributes:
        do: called with the program's memory.
        reads: registers read: ("values", slot), ("plus", slot), ("arriving", slot), ("sent", edge), ("saved", op's index),
            ("switches", op's index).
        drops: registers whose last reader this is.
    """

    do: Callable[[Work], None]
    reads: tuple[Register, ...]
    drops: list[Register] = field(default_factory=list)


class Program:
    """Instructions in order; made by a `Recorder`.

    Attributes:
        unreached: trained ops whose output no state's signal reaches by this schedule.
    """

    def __init__(self, segments: Segments, instructions: list[Instruction], unreached: list[Op]) -> None:
        self.segments, self.instructions, self.unreached = segments, instructions, unreached
        seen: set[Register] = set()
        for instruction in reversed(instructions):
            instruction.drops = [register for register in set(instruction.reads) if register not in seen]
            seen.update(instruction.reads)

    def run(self, run: Run, x: Tensor, actor: Actor) -> Work:
        """Carry the instructions out on a batch x (B, ...) and return the memory, with all parameters' updates."""
        plan = self.segments.plan
        run.batch = x.shape[0]
        work = Work(run, plan.slots, actor)
        work.values[plan.entry] = x
        registers = work.registers
        for instruction in self.instructions:
            instruction.do(work)
            for kind, key in instruction.drops:
                registers[kind][key] = None
        for name in plan.learned:
            if name not in work.updates:
                work.updates[name] = run.params[name].new_zeros(run.params[name].shape)
        return work


# ---------------------------------------------------------------- what instructions do


def call(move: Move, state: State, live: bool, work: Work) -> None:
    """Let the rule act at a state."""
    move(work.actor, work, state, live)


def forward(op: Op, work: Work) -> None:
    """Evaluate an op."""
    values = work.values
    rest = resolve(op.extra, values) if has_ref(op.extra) else op.extra
    out = values[op.out] = op.forward(work.run, *[values[slot] for slot in op.inputs], *rest)
    if work.run.dtype is not None and isinstance(out, Tensor):
        work.run.dtypes[op.out] = out.dtype


def forward_at_plus(op: Op, work: Work) -> None:
    """Evaluate an op at s+, leaving what the others keep as it is."""
    aside = replace(work.run, saved=list(work.run.saved))
    rest = resolve(op.extra, work.values) if has_ref(op.extra) else op.extra
    work.plus[op.out] = op.forward(aside, *[work.plus.get(slot, work.values[slot]) for slot in op.inputs], *rest)
    if isinstance(op, SWITCHES):
        work.switches[op.index] = aside.saved[op.index]


def adjoint(op: Op, at_plus: bool, work: Work) -> None:
    """Send the signal at an op's output to its inputs; ``at_plus``: by the switches at s+."""
    signal = work.arriving[op.out]
    assert signal is not None
    if isinstance(op, Weighted):
        work.sent[op.index, 0] = work.actor.backproject(op, work.run, signal)
        return
    kept = work.run.saved[op.index]
    if at_plus:
        work.run.saved[op.index] = work.switches[op.index]
    for at, sent in enumerate(op.adjoint(work.run, signal)):
        if sent is not None:
            work.sent[op.index, at] = sent
    work.run.saved[op.index] = kept  # some adjoints drop it, and another may follow


def gather(slot: int, edges: tuple[tuple[int, int], ...], work: Work) -> None:
    """Add up the signals that were sent to a slot."""
    total = work.sent[edges[0]]
    for edge in edges[1:]:
        total = total + work.sent[edge]
    # A signal has the type of the value it is for; states are of full precision in between.
    work.arriving[slot] = total if work.run.dtype is None else total.to(work.run.dtypes.get(slot, total.dtype))


def learn(op: Op, factor: float, work: Work) -> None:
    """Add an op's updates, times ``factor``."""
    signal = work.arriving[op.out]
    assert signal is not None
    factor *= work.actor.factor
    if isinstance(op, Weighted):
        work.actor.arrive(op, work.run, signal)
        x = work.values[op.inputs[0]]
        x = x if work.run.dtype is None else x.to(work.run.dtype)
        if signal.numel() < op.weight(work.run).numel():  # the smaller of the two is multiplied
            signal, factor = signal * factor, 1.0
        made = op.updates(work.run, signal, x)
    else:
        made = op.updates(work.run, signal * factor)
        factor = 1.0
    for name, update in made:
        update = update if factor == 1 else update * factor
        # A shared parameter gets one update per use, summed.
        work.updates[name] = work.updates[name] + update if name in work.updates else update
