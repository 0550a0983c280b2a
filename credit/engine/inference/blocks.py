"""Blocks: a plan cut at some of its activations, into segments whose updates have nothing to do with each other.

    blocks = Blocks(plan, bottlenecks(plan), rule, inside=False)       # signals stop at the activations' outputs
    starts = {blocks.start(op): error for op in blocks.ops}            # and begin there again, with a value of their own
    updates = blocks.backward(run, starts | {plan.exit: signal}, rule)

Rules of local targets (representation alignment, target propagation) give every such activation a target; between them they
send signals as backprop does. Parts of the plan that no signal connects can be passed side by side.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Barrier
from typing import Any, cast

import torch
from torch import Tensor

from credit.engine.backward import BackwardPass, R
from credit.engine.ops.activations import Activate
from credit.engine.ops.shapes import Shape
from credit.engine.plan import Cuts, Plan, Portion


@dataclass(frozen=True)
class Part:
    """A connected part of a cut plan.

    Attributes:
        starts: slots that signals begin at here.
        portion: its ops, in the order of a backward pass.
    """

    starts: frozenset[int]
    portion: Portion


def hidden(plan: Plan) -> list[Activate]:
    """Return the activations that a signal of the plan, uncut, goes through, in order of execution; not one that is the output."""
    back = {op.index for op in plan.back}
    return [op for op in plan.ops if isinstance(op, Activate) and op.index in back and op.out != plan.exit]


def bottlenecks(plan: Plan) -> list[Activate]:
    """Return those of the `hidden` activations whose output everything after them is computed from.

    All of a chain; in a residual network those between its blocks.
    """
    carries, last = {plan.entry}, {plan.entry: -1}
    for op in plan.ops:
        used = [slot for slot in op.inputs if slot in carries and not isinstance(op, Shape)]
        for slot in used:
            last[slot] = op.index
        if used:
            carries.add(op.out)
            last[op.out] = op.index
    last[plan.exit] = len(plan.ops)
    made = {op.out: op.index for op in plan.ops}
    found = []
    for op in hidden(plan):
        before = (slot for slot in carries if made.get(slot, -1) < op.index)
        if all(last[slot] <= op.index for slot in before):
            found.append(op)
    return found


def learning(plan: Plan, ops: Sequence[Activate]) -> list[Activate]:
    """Return those of some activations under which something learns before the next one below is reached."""
    fed, chosen = set(), {op.index for op in ops}
    kept: list[Activate] = []
    for op in plan.ops:
        if any(slot in fed for slot in op.inputs) or op.trains:
            fed.add(op.out)
        if op.index in chosen and isinstance(op, Activate):
            if op.inputs[0] in fed:
                kept.append(op)
            fed.discard(op.out)
    return kept


class Blocks:
    """A plan cut at activations.

    Args:
        plan: where to cut; it stays as it is.
        ops: its activations, in order of execution.
        backward: the rule.
        inside: their signals begin at their outputs and pass the activation's derivative; else at their inputs.
        received: those of them that receive the signal that arrives from above (``run.arrived``).

    Attributes:
        plan: the cut plan.
        ops: the activations there.
        parts: connected parts of the plan, from the output down.
    """

    def __init__(
        self,
        plan: Plan,
        ops: Sequence[Activate],
        backward: BackwardPass[Any],
        *,
        inside: bool,
        received: Iterable[Activate] = (),
    ) -> None:
        cuts = Cuts(tuple(op.name for op in ops), inside, tuple(op.name for op in received))
        self.plan, self.inside = plan.adapted(backward, cuts=cuts), inside
        self.ops = [cast(Activate, self.plan.ops[op.index]) for op in ops]
        self.parts = self._parts()

    def start(self, op: Activate) -> int:
        """Return the slot that an activation's own signal begins at."""
        return op.out if self.inside else op.inputs[0]

    def _parts(self) -> list[Part]:
        group: dict[int, int] = {}

        def root(slot: int) -> int:
            while group.setdefault(slot, slot) != slot:
                slot = group[slot]
            return slot

        cut = {op.out for op in self.ops}
        tied: dict[str, int] = {}
        for op in self.plan.back:
            # What comes out of a cut activation connects nothing: above it signals stop, and below it is its own start.
            slots = [slot for slot, want in zip(op.inputs, op.wants, strict=True) if want and slot not in cut]
            for slot in slots:
                group[root(slot)] = root(op.out)
            for name in op.trains:  # uses of one parameter make one update
                group[root(tied.setdefault(name, op.out))] = root(op.out)
        made: dict[int, tuple[set[int], set[int]]] = {}
        for op in self.plan.back:
            made.setdefault(root(op.out), (set(), set()))[1].add(op.index)
        for slot in [self.plan.exit, *(self.start(op) for op in self.ops)]:
            if root(slot) in made:
                made[root(slot)][0].add(slot)
        return [Part(frozenset(starts), self.plan.portion(ops)) for starts, ops in made.values()]

    def backward(
        self, run: R, starts: dict[int, Tensor], backward: BackwardPass[R], *, workers: int = 1
    ) -> dict[str, Tensor]:
        """Make the backward pass of every part and return all updates.

        Args:
            run: the step's, after its forward pass.
            starts: signals by the slots they begin at; taken out of the dict, may be written over.
            backward: the rule.
            workers: threads that parts are shared among; on the CPU each computes on its share of torch's own threads.
        """
        if workers < 2 or len(self.parts) < 2 or self.plan.to_input:
            return self.plan.backward_from(run, starts, backward)

        def one(part: Part) -> dict[str, Tensor]:
            with torch.no_grad():  # a setting of the thread
                mine = {slot: starts[slot] for slot in part.starts if slot in starts}
                return self.plan.backward_from(run, mine, backward, part.portion)

        done = list(_pool(workers, max(1, torch.get_num_threads() // workers)).map(one, self.parts))
        return {name: update for updates in done for name, update in updates.items()}


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Return workers that each compute on so many threads."""
    usual, begun = torch.get_num_threads(), Barrier(workers)

    def begin() -> None:
        torch.set_num_threads(threads)
        begun.wait()

    pool = ThreadPoolExecutor(workers, initializer=begin)
    list(pool.map(abs, range(workers)))
    torch.set_num_threads(usual)  # torch takes the last word also as that of threads still to come
    return pool
