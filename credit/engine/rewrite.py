"""Changes to a plan that leave its network's function as it is."""

from collections.abc import Callable

from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.pools import MaxPool
from credit.engine.plan import Plan, Sweeper


def pool_first(plan: Plan, never_falls: Callable[[Activate], bool]) -> list[str]:
    """Let max pools change places with the activations whose values they alone read; return those activations' names.

    The largest of several values of a function that never falls is its value at the largest: bit for bit the same network, with
    a quarter of the activations to compute where windows are 2x2.

    Args:
        plan: changed in place.
        never_falls: says of an activation whether it does so nowhere.
    """
    moved = []
    for op in list(plan.ops):
        pool = _only_reader(plan, op)
        if not (isinstance(op, Activate) and isinstance(pool, MaxPool) and never_falls(op)):
            continue
        before, between, after = op.inputs[0], op.out, pool.out
        pool.inputs, pool.out = (before,), between
        op.inputs, op.out = (between,), after
        at, to = plan.ops.index(op), plan.ops.index(pool)
        plan.ops[at], plan.ops[to] = pool, op
        moved.append(op.name)
    if moved:
        for at, op in enumerate(plan.ops):
            op.index = at
        plan.sweep_to_input(plan.to_input)
        plan.configure(Sweeper())
    return moved


def _only_reader(plan: Plan, op: Op) -> Op | None:
    readers = [other for other in plan.ops if op.out in other.inputs or op.out in slots_in(other.extra)]
    return readers[0] if len(readers) == 1 and op.out != plan.exit else None
