"""Stretches: a part of a plan from one value to another, evaluated once more on another input.

    plan = Plan(model, Capabilities(repeatable=True))
    stretch = Stretch(plan, below.out, above.out)
    plan.forward(run, x)
    again = stretch(run, x, moved)      # before a backward pass has dropped what the forward pass kept

It is the very function that the forward pass was: dropout takes the same masks, batch norm the statistics of the batch it has
seen. So nothing is drawn again and no running statistic moves a second time.
"""

from typing import Any

from torch import Tensor

from credit.engine.ops.base import Op, Run, resolve, slots_in
from credit.engine.ops.local import Local
from credit.engine.plan import Plan


class Stretch:
    """The ops that lead from one slot to another, which hangs on nothing else that moves.

    Args:
        plan: its ops.
        start: slot of the value to be replaced.
        end: slot of the value to be found.

    Attributes:
        ops: in order of execution. Shapes may be read of values below ``start``, whose ops are then among them.
    """

    def __init__(self, plan: Plan, start: int, end: int) -> None:
        self.plan, self.start, self.end = plan, start, end
        needed, self.ops = {end}, list[Op]()
        for op in reversed(plan.ops):
            if op.out in needed and op.out not in (start, plan.entry):
                self.ops.append(op)
                needed |= set(op.inputs) | slots_in(op.extra)
        self.ops.reverse()

    def __call__(self, run: Run, x: Tensor, value: Tensor) -> Tensor:
        """Return what the forward pass would have found at ``end`` with another value at ``start``.

        Args:
            run: of that forward pass, with all it has kept; it stays as it is.
            x: the batch it was given, (B, ...).
            value: (B, ...), shaped like the one it found at ``start``.
        """
        values: list[Any] = [None] * self.plan.slots
        values[self.plan.entry], values[self.start] = x, value
        once = self.plan.run(run.params, self._buffers(run), run.draws, run.dtype, run.train)
        once.overwrite, once.batch = run.overwrite, run.batch
        for op in self.ops:
            inputs = [values[slot] for slot in op.inputs]
            if op.remembers:
                values[op.out] = op.follow(run, *inputs)
            else:
                values[op.out] = op.forward(once, *inputs, *resolve(op.extra, values))
                once.saved[op.index] = None
        found: Tensor = values[self.end]
        return found

    def _buffers(self, run: Run) -> dict[str, Tensor]:
        """Return the run's buffers, with copies of those that local autograd's forwards may move."""
        moved = {name for op in self.ops if isinstance(op, Local) for name in op.args["buffers"].values()}
        return run.buffers | {name: run.buffers[name].clone() for name in moved} if moved else run.buffers
