"""Rewrites: changes of a traced network's ops, made on the copies that a plan is built from."""

from collections.abc import Iterable

from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.norms import BatchNorm
from credit.engine.ops.pools import MaxPool


def freeze_norms(ops: Iterable[Op]) -> None:
    """Make batch norms use their running statistics, which steps then never move."""
    for op in ops:
        if isinstance(op, BatchNorm):
            op.args["frozen"] = True


def pool_first(ops: list[Op], exit: int) -> None:
    """Let max pools change places with the monotone activations whose values they alone read.

    The largest of several values of a function that never falls is its value at the largest: bit for bit the same network, with
    a quarter of the activations to compute where windows are 2x2.

    Args:
        ops: in order of execution; changed in place.
        exit: slot of the network's output.
    """
    for op in list(ops):
        if not isinstance(op, Activate) or not op.monotone or op.out == exit:
            continue
        readers = [other for other in ops if op.out in other.inputs or op.out in slots_in(other.extra)]
        if len(readers) != 1 or not isinstance(readers[0], MaxPool):
            continue
        pool = readers[0]
        before, between, after = op.inputs[0], op.out, pool.out
        pool.inputs, pool.out = (before,), between
        op.inputs, op.out = (between,), after
        at, to = ops.index(op), ops.index(pool)
        ops[at], ops[to] = pool, op
