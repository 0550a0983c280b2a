"""Inference as a list of instructions: what has to be computed anew when states change, and no more.

A recorder plays a schedule of state updates through beforehand, on time stamps instead of tensors. It notes a forward
evaluation only where what it reads has changed, an adjoint only where a signal has, and after a state's last update the weights'
updates that are settled by it. The list depends on the schedule alone, so a step can be compiled or mapped over seeds.

    recorder = Recorder(segments)
    recorder.begin()                          # one forward pass
    recorder.update(3); recorder.update(2)    # states by number
    recorder.settle({1, 2, 3})                # no more changes: the weights' updates
    program = recorder.program()
    updates = program.run(run, x, actor)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from credit.engine.ops.base import Op, Run, has_ref, resolve, slots_in
from credit.engine.ops.pools import AdaptivePool, MaxPool
from credit.engine.ops.shapes import Value
from credit.engine.ops.weighted import Weighted
from credit.engine.segments import Segments, State

_SWITCHES = (MaxPool, AdaptivePool)  # whose adjoint depends on their last evaluation
_DEAD = -1  # the stamp of a signal that no state has sent yet


class Work:
    """A program's memory while it runs.

    Attributes:
        run: the step's arguments.
        values: by slot.
        arriving: by slot, the sum of the signals that its readers sent back.
        sent: by (op's index, which input), the signal sent there; a state's own is (its op's index, 0), the output's (-1, 0).
        updates: by parameter name.
    """

    def __init__(self, run: Run, slots: int) -> None:
        self.run = run
        self.values: list[Any] = [None] * slots
        self.arriving: list[Tensor | None] = [None] * slots
        self.sent: dict[tuple[int, int], Tensor] = {}
        self.updates: dict[str, Tensor] = {}

    def send(self, state: State, signal: Tensor) -> None:
        """Leave a state's signal for the maps below it; the input has none."""
        if state.pre >= 0:
            self.sent[_edge(state)] = signal


class Actor(Protocol):
    """What a rule does at the states and at the weights; further methods are called by the names given to ``Recorder.call``.

    Attributes:
        factor: by which weights' updates are multiplied.
    """

    factor: float

    def start(self, work: Work, state: State, live: bool) -> None:
        """Give a hidden state its first value, from ``work.values[state.pre]``."""

    def update(self, work: Work, state: State, live: bool) -> None:
        """Renew a state from ``work.values[state.pre]`` and, where ``live``, ``work.arriving[state.out]``; send its signal."""

    def cross(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        """Send a signal across an op's weights."""

    def arrive(self, op: Weighted, run: Run, signal: Tensor) -> None:
        """See the signal that a weighted op's update is made of."""


def _edge(state: State) -> tuple[int, int]:
    return (-1 if state.op is None else state.op.index, 0)


Register = tuple[Any, ...]


@dataclass(eq=False)
class Instruction:
    """One thing to do.

    Attributes:
        do: ``forward``, ``adjoint``, ``gather``, ``call`` or ``updates``.
        target: an op; of ``gather`` a slot; of ``call`` a state.
        rest: of ``gather`` the edges; of ``call`` (method, live); of ``updates`` their factor.
        reads: registers read: ("values", slot), ("arriving", slot), ("sent", edge), ("saved", op's index).
        drops: registers whose last reader this is.
    """

    do: str
    target: Any
    rest: Any
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
        work = Work(run, plan.slots)
        work.values[plan.entry] = x
        for step in self.instructions:
            if step.do == "forward":
                self._forward(work, step.target)
            elif step.do == "adjoint":
                self._adjoint(work, step.target, actor)
            elif step.do == "gather":
                self._gather(work, step.target, step.rest)
            elif step.do == "call":
                method, live = step.rest
                getattr(actor, method)(work, step.target, live)
            else:
                self._updates(work, step.target, step.rest, actor)
            for register in step.drops:
                _drop(work, register)
        for name in plan.trainable:
            if name not in work.updates:
                work.updates[name] = run.params[name].new_zeros(run.params[name].shape)
        return work

    def _forward(self, work: Work, op: Op) -> None:
        values = work.values
        rest = resolve(op.extra, values) if has_ref(op.extra) else op.extra
        out = values[op.out] = op.forward(work.run, *[values[slot] for slot in op.inputs], *rest)
        if work.run.dtype is not None and isinstance(out, Tensor):
            work.run.dtypes[op.out] = out.dtype

    def _adjoint(self, work: Work, op: Op, actor: Actor) -> None:
        signal = work.arriving[op.out]
        assert signal is not None
        if isinstance(op, Weighted):
            work.sent[op.index, 0] = actor.cross(op, work.run, signal)
            return
        kept = work.run.saved[op.index]
        for at, sent in enumerate(op.adjoint(work.run, signal)):
            if sent is not None:
                work.sent[op.index, at] = sent
        work.run.saved[op.index] = kept  # some adjoints drop it, and another may follow

    def _gather(self, work: Work, slot: int, edges: tuple[tuple[int, int], ...]) -> None:
        total = work.sent[edges[0]]
        for edge in edges[1:]:
            total = total + work.sent[edge]
        # A signal has the type of the value it is for; states are of full precision in between.
        work.arriving[slot] = total if work.run.dtype is None else total.to(work.run.dtypes.get(slot, total.dtype))

    def _updates(self, work: Work, op: Op, factor: float, actor: Actor) -> None:
        signal = work.arriving[op.out]
        assert signal is not None
        factor *= actor.factor
        if isinstance(op, Weighted):
            actor.arrive(op, work.run, signal)
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


def _drop(work: Work, register: Register) -> None:
    kind, key = register
    if kind == "values":
        work.values[key] = None
    elif kind == "arriving":
        work.arriving[key] = None
    elif kind == "sent":
        work.sent.pop(key, None)
    else:
        work.run.saved[key] = None


class Recorder:
    """Plays a schedule through and notes what it takes.

    Args:
        segments: the states and the maps between them.
        to_input: whether the signal at the network's input is asked for at the end.
    """

    def __init__(self, segments: Segments, *, to_input: bool = False) -> None:
        self._segments, self._plan, self._to_input = segments, segments.plan, to_input
        self._notes: list[Instruction] = []
        self._clock = 0
        self._moved = dict.fromkeys(segments.by_number, 0)  # when a state's value changed
        self._spoke = dict.fromkeys(segments.by_number, _DEAD)  # when its signal did
        self._evaluated: dict[int, int] = {op.index: 0 for op in segments.maker.values()}
        self._crossed: dict[int, int] = {}
        self._gathered: dict[int, Any] = {}
        self._seen: dict[int, Any] = {}
        self._compared: dict[int, tuple[int, int]] = {}
        self._trained = [op for op in self._plan.back if op.trains]

    # ------------------------------------------------------------ what schedules say

    def begin(self) -> None:
        """One forward pass; every state starts there."""
        for op in self._plan.ops:
            if op.index in self._segments.of_op:
                self.call("start", self._segments.of_op[op.index].index)
            else:
                self._note("forward", op, None, self._inputs(op))

    def update(self, number: int, *, always: bool = False, once: bool = False, still: bool = False) -> None:
        """Renew a state, where what it is a function of has changed.

        Args:
            number: the state.
            always: it also depends on its own last value.
            once: only the first time (an output that keeps its nudge).
            still: no signal moves its value, which only follows the states below.
        """
        live = self.need(number)
        self.renew(number, live, always=always, once=once, still=still)

    def evaluate(self, number: int) -> None:
        """Bring what the maps below give a state up to date."""
        state = self._segments.by_number[number]
        if state.pre >= 0:
            self._value(state.pre)

    def need(self, number: int) -> bool:
        """Bring all that a state is a function of up to date; return whether a signal reaches it."""
        self.evaluate(number)
        state = self._segments.by_number[number]
        return state.out >= 0 and self._signal(state.out) != _DEAD

    def renew(
        self, number: int, live: bool, *, always: bool = False, once: bool = False, still: bool = False,
        method: str = "update",
    ) -> None:  # fmt: skip
        """Renew a state from what `need` brought, where that has changed; ``method`` is the actor's."""
        state = self._segments.by_number[number]
        below = 0 if state.pre < 0 else self._stamp(state.pre)
        seen = (below, self._gathered.get(state.out) if live else None)
        # A hidden state starts as the activation of what it is a function of, the output without any nudge.
        before = self._seen.get(number, None if state.out < 0 else (0, None))
        again = always and (live or state.out < 0)
        if (seen == before and not again) or (once and before is not None):
            return
        self._seen[number] = seen
        self.call(method, number, live=live)
        self._spoke[number] = self._clock = self._clock + 1
        if not still or below > self._moved[number]:
            self._moved[number] = self._clock
        if not live and state.out >= 0:
            self._spoke[number] = _DEAD

    def compare(self, number: int) -> None:
        """Renew what a state sends below, but not its value: its prediction has changed (LPOM's closed form)."""
        state = self._segments.by_number[number]
        if self._spoke[number] == _DEAD:
            return
        key = self._value(state.pre), self._moved[number]
        if self._compared.get(number) != key:
            self._compared[number] = key
            self.call("compare", number)
            self._spoke[number] = self._clock = self._clock + 1

    def speak(self) -> None:
        """Say that all states send signals from the start."""
        self._spoke = dict.fromkeys(self._spoke, 0)

    def reset(self, method: str) -> None:
        """Note a call of the actor's ``method`` for every state, which gives it another value."""
        for number in self._moved:
            self.call(method, number)
            self._moved[number] = self._spoke[number] = self._clock = self._clock + 1

    def call(self, method: str, number: int, *, live: bool = False, everything: bool = False) -> None:
        """Note a call of the actor's ``method(work, state, live)``; it may read what states read, or ``everything``."""
        state = self._segments.by_number[number]
        reads: list[Register] = [("values", state.pre)] if state.pre >= 0 else [("values", state.out)]
        if live and state.out >= 0:
            reads.append(("arriving", state.out))
        if everything:
            reads += [("values", slot) for slot in range(self._plan.slots)]
            reads += [("saved", op.index) for op in self._plan.ops]
        self._note("call", state, (method, live), reads)

    def settle(self, final: Iterable[int], *, closed: bool = False) -> None:
        """Note the updates of those weights that no change of a state will touch any more.

        Args:
            final: the states that do not change again.
            closed: whether children are compared once more with their predictions (`compare`).
        """
        known = set(final)
        for op in list(self._trained):
            above = self._segments.heard.get(op.out, frozenset())
            # All that its children are made of: predictions and switches are those of the states as they stay.
            below = frozenset().union(*(self._segments.by_number[number].parents for number in above))
            if above | below <= known:
                if closed:
                    for number in sorted(above, reverse=True):
                        self.compare(number)
                self._trained.remove(op)
                self.learn(op)

    def learn(self, op: Op, factor: float = 1.0) -> bool:
        """Note an op's updates at the states as they are, switches too; return whether a signal reaches it."""
        self._switch(op.out)
        if self._signal(op.out) == _DEAD:
            return False
        for slot in op.inputs:
            self._value(slot)
        if not isinstance(op, Weighted | Value):
            self._value(op.out)
        reads = [("arriving", op.out), *(("values", slot) for slot in op.inputs), ("saved", op.index)]
        self._note("updates", op, factor, reads)
        return True

    def _switch(self, slot: int) -> None:
        """Bring the switches up to date that stand between a slot and the states above it."""
        for op, _ in self._segments.readers.get(slot, ()):
            if op.index not in self._segments.of_op:
                if isinstance(op, _SWITCHES):
                    self._value(op.out)
                self._switch(op.out)

    def program(self) -> Program:
        """Return the instructions; states that were not settled leave their weights' updates at zero."""
        if self._to_input:
            self._signal(self._plan.entry)
        told = {step.target for step in self._notes if step.do == "updates"}
        missing = [op for op in self._plan.back if op.trains and op not in told]
        return Program(self._segments, self._notes, missing)

    # ------------------------------------------------------------ what that takes

    def _note(self, do: str, target: Any, rest: Any, reads: Iterable[Register]) -> None:
        self._notes.append(Instruction(do, target, rest, tuple(reads)))

    def _inputs(self, op: Op) -> list[Register]:
        return [("values", slot) for slot in (*op.inputs, *slots_in(op.extra))]

    def _stamp(self, slot: int) -> int:
        """When a slot's value last changed, were all evaluated that stands below it."""
        if slot in self._segments.at_slot:
            return self._moved[self._segments.at_slot[slot].index]
        op = self._segments.maker.get(slot)
        return 0 if op is None else max((self._stamp(below) for below in op.inputs), default=0)

    def _value(self, slot: int) -> int:
        """Bring a slot's value up to date; return its stamp."""
        op = self._segments.maker.get(slot)
        if slot in self._segments.at_slot or op is None:
            return self._stamp(slot)
        stamp = max((self._value(below) for below in op.inputs), default=0)
        if stamp > self._evaluated[op.index]:
            self._note("forward", op, None, self._inputs(op))
            self._evaluated[op.index] = stamp
        return stamp

    def _signal(self, slot: int) -> int:
        """Bring the sum of the signals that reach a slot up to date; return its stamp."""
        edges, newest = [], _DEAD
        if slot == self._plan.exit and self._spoke[self._segments.last] != _DEAD:
            newest = self._spoke[self._segments.last]
            edges.append(((-1, 0), newest))
        for op, at in self._segments.readers.get(slot, ()):
            state = self._segments.of_op.get(op.index)
            stamp = self._spoke[state.index] if state is not None else self._sent(op)
            if stamp != _DEAD:
                edges.append(((op.index, at), stamp))
                newest = max(newest, stamp)
        if edges and self._gathered.get(slot) != tuple(edges):
            self._gathered[slot] = tuple(edges)
            names = tuple(edge for edge, _ in edges)
            self._note("gather", slot, names, [("sent", edge) for edge in names])
        return newest

    def _sent(self, op: Op) -> int:
        """Bring what an op sends to its inputs up to date; return its stamp."""
        stamp = self._signal(op.out)
        if stamp == _DEAD:
            return _DEAD
        if isinstance(op, _SWITCHES):
            stamp = max(stamp, self._evaluated[op.index])
        if stamp > self._crossed.get(op.index, _DEAD):
            self._note("adjoint", op, None, [("arriving", op.out), ("saved", op.index)])
            self._crossed[op.index] = stamp
        return stamp
