"""Inference noted as instructions: what has to be computed anew when states change, and no more.

A recorder plays a schedule of state updates through beforehand, on time stamps instead of tensors. It notes a forward
evaluation only where what it reads has changed, an adjoint only where a signal has, and after a state's last update the weights'
updates that are settled by it. The list depends on the schedule alone, so a step can be compiled or mapped over seeds.

    recorder = Recorder(segments, Dyads)      # the class of the actors that the program is given
    recorder.begin()                          # one forward pass
    recorder.update(3); recorder.update(2)    # states by number
    recorder.settle({1, 2, 3})                # no more changes: the weights' updates
    program = recorder.program()
    updates = program.run(run, x, actor).updates
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from credit.engine.inference import program
from credit.engine.inference.program import SWITCHES, Actor, Instruction, Move, Program, Register, Work
from credit.engine.inference.segments import Segments
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.shapes import Value
from credit.engine.ops.weighted import Weighted

_DEAD = -1  # the stamp of a signal that no state has sent yet


class Recorder:
    """Plays a schedule through and notes what it takes.

    Args:
        segments: the states and the maps between them.
        actor: the class whose functions give states their values.
        to_input: whether the signal at the network's input is asked for at the end.
        at_plus: whether feedback into a state takes the switches of max pools at the states' s+, which the actor leaves in
            ``work.plus``; else, and for weights' updates always, those of the last evaluation.
    """

    def __init__(
        self, segments: Segments, actor: type[Actor], *, to_input: bool = False, at_plus: bool = False
    ) -> None:
        self._start, self._update = actor.start, actor.update
        self._at_plus, self._feeding = at_plus, False
        self._plus_moved = dict.fromkeys(segments.by_number, 0)  # when a state's s+ changed
        self._plus_evaluated: dict[int, int] = {op.index: _DEAD for op in segments.maker.values()}
        self._segments, self._plan, self._to_input = segments, segments.plan, to_input
        self._notes: list[Instruction] = []
        self._clock = 0
        self._moved = dict.fromkeys(segments.by_number, 0)  # when a state's value changed
        self._signalled = dict.fromkeys(segments.by_number, _DEAD)  # when its signal did
        self._evaluated: dict[int, int] = {op.index: 0 for op in segments.maker.values()}
        self._crossed: dict[int, tuple[int, bool]] = {}
        self._pooled = self._below_switches()
        self._gathered: dict[int, Any] = {}
        self._seen: dict[int, Any] = {}
        self._compared: dict[int, tuple[int, int]] = {}
        self._trained = [op for op in self._plan.back if op.trains]
        self._reached: set[Op] = set()  # those whose updates are noted

    # ------------------------------------------------------------ what a schedule calls

    def begin(self) -> None:
        """One forward pass; every state starts there."""
        for op in self._plan.ops:
            if op.index in self._segments.of_op:
                self.call(self._start, self._segments.of_op[op.index].index)
            else:
                self._note(partial(program.forward, op), self._inputs(op))

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
        self._feeding = self._at_plus
        live = state.out >= 0 and self._signal(state.out) != _DEAD
        self._feeding = False
        return live

    def renew(
        self, number: int, live: bool, *, always: bool = False, once: bool = False, still: bool = False,
        move: Move | None = None,
    ) -> None:  # fmt: skip
        """Renew a state from what `need` brought, where that has changed, by ``move`` or else the actor's ``update``."""
        state = self._segments.by_number[number]
        below = 0 if state.pre < 0 else self._stamp(state.pre)
        seen = (below, self._gathered.get(state.out) if live else None)
        # A hidden state starts as the activation of what it is a function of, the output without any nudge.
        before = self._seen.get(number, None if state.out < 0 else (0, None))
        again = always and (live or state.out < 0 or number in self._seen)
        if (seen == before and not again) or (once and before is not None):
            return
        self._seen[number] = seen
        self.call(move or self._update, number, live=live)
        self._signalled[number] = self._plus_moved[number] = self._clock = self._clock + 1
        if not still or below > self._moved[number]:
            self._moved[number] = self._clock
        if not live and state.out >= 0:
            self._signalled[number] = _DEAD

    def compare(self, number: int, move: Move) -> None:
        """Renew by ``move`` what a state sends below, but not its value: its prediction has changed (LPOM's closed form)."""
        state = self._segments.by_number[number]
        if self._signalled[number] == _DEAD:
            return
        key = self._value(state.pre), self._moved[number]
        if self._compared.get(number) != key:
            self._compared[number] = key
            self.call(move, number)
            self._signalled[number] = self._clock = self._clock + 1

    def signal_all(self) -> None:
        """Let all states send signals from the start."""
        self._signalled = dict.fromkeys(self._signalled, 0)

    def reset(self, move: Move) -> None:
        """Note a call of ``move`` for every state, which gives it another value."""
        for number in self._moved:
            self.call(move, number)
            self._moved[number] = self._signalled[number] = self._clock = self._clock + 1

    def call(self, move: Move, number: int, *, live: bool = False, everything: bool = False) -> None:
        """Note a call of a function of the actor's class at a state; it may read what states read, or ``everything``."""
        state = self._segments.by_number[number]
        reads: list[Register] = [("values", state.pre)] if state.pre >= 0 else [("values", state.out)]
        if live and state.out >= 0:
            reads.append(("arriving", state.out))
        if everything:
            reads += [("values", slot) for slot in range(self._plan.slots)]
            reads += [("saved", op.index) for op in self._plan.ops]
        self._note(partial(program.call, move, state, live), reads)

    def settle(self, final: Iterable[int], *, compare: Move | None = None) -> None:
        """Note the updates of those weights that no change of a state will touch any more.

        Args:
            final: the states that do not change again.
            compare: by what children are compared once more with their predictions (`compare`).
        """
        known = set(final)
        for op in list(self._trained):
            above = self._segments.senders.get(op.out, frozenset())
            # All that its children are made of: predictions and switches are those of the states as they stay.
            below = frozenset().union(*(self._segments.by_number[number].parents for number in above))
            if above | below <= known:
                if compare is not None:
                    for number in sorted(above, reverse=True):
                        self.compare(number, compare)
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
        self._note(partial(program.learn, op, factor), reads)
        self._reached.add(op)
        return True

    def _switch(self, slot: int) -> None:
        """Bring the switches up to date that stand between a slot and the states above it."""
        for op, _ in self._segments.readers.get(slot, ()):
            if op.index not in self._segments.of_op:
                if isinstance(op, SWITCHES):
                    self._value(op.out)
                self._switch(op.out)

    def program(self) -> Program:
        """Return the instructions; states that were not settled leave their weights' updates at zero."""
        if self._to_input:
            self._signal(self._plan.entry)
        missing = [op for op in self._plan.back if op.trains and op not in self._reached]
        return Program(self._segments, self._notes, missing)

    # ------------------------------------------------------------ what that takes

    def _note(self, do: Callable[[Work], None], reads: Iterable[Register]) -> None:
        self._notes.append(Instruction(do, tuple(reads)))

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
            self._note(partial(program.forward, op), self._inputs(op))
            self._evaluated[op.index] = stamp
        return stamp

    def _signal(self, slot: int) -> int:
        """Bring the sum of the signals that reach a slot up to date; return its stamp."""
        edges, newest = [], _DEAD
        if slot == self._plan.exit and self._signalled[self._segments.last] != _DEAD:
            newest = self._signalled[self._segments.last]
            edges.append(((-1, 0), newest))
        for op, at in self._segments.readers.get(slot, ()):
            state = self._segments.of_op.get(op.index)
            stamp = self._signalled[state.index] if state is not None else self._sent(op)
            if stamp != _DEAD:
                edges.append(((op.index, at), stamp))
                newest = max(newest, stamp)
        by_plus = self._feeding and slot in self._pooled
        if edges and self._gathered.get(slot) != (*edges, by_plus):
            self._gathered[slot] = (*edges, by_plus)
            names = tuple(edge for edge, _ in edges)
            self._note(partial(program.gather, slot, names), [("sent", edge) for edge in names])
        return newest

    def _sent(self, op: Op) -> int:
        """Bring what an op sends to its inputs up to date; return its stamp."""
        stamp = self._signal(op.out)
        if stamp == _DEAD:
            return _DEAD
        own = isinstance(op, SWITCHES)
        by_plus = self._feeding and any(slot in self._pooled for slot in op.inputs)
        if own:
            stamp = max(stamp, self._plus(op.out) if by_plus else self._evaluated[op.index])
        if self._crossed.get(op.index) != (stamp, by_plus):
            kept = ("switches" if own and by_plus else "saved", op.index)
            self._note(partial(program.adjoint, op, own and by_plus), [("arriving", op.out), ("saved", op.index), kept])
            self._crossed[op.index] = stamp, by_plus
        return stamp

    def _below_switches(self) -> set[int]:
        """Return the slots whose signals have come through a max pool since the states above."""
        found: set[int] = set()
        for op in self._plan.back:
            if op.index not in self._segments.of_op and (isinstance(op, SWITCHES) or op.out in found):
                found.update(op.inputs)
        return found

    def _plus(self, slot: int) -> int:
        """Bring a slot's value at s+ up to date; return its stamp."""
        if slot in self._segments.at_slot:
            return self._plus_moved[self._segments.at_slot[slot].index]
        op = self._segments.maker.get(slot)
        if op is None:
            return 0
        stamp = max((self._plus(below) for below in op.inputs), default=0)
        if stamp > self._plus_evaluated[op.index]:
            reads = [*self._inputs(op), *(("plus", below) for below in op.inputs)]
            self._note(partial(program.forward_at_plus, op), reads)
            self._plus_evaluated[op.index] = stamp
        return stamp
