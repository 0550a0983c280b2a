"""Find the samples that a backward pass may leave out: those without an error signal, where no op couples samples.

An update is a sum over samples, already divided by the size of the whole batch. A sample whose output error is zero adds
nothing to it, so leaving the sample out is exact up to the order of summation, unless an op on the way back mixes samples:
batch norm with the batch's statistics does, and so does every op whose ``Op.separable`` returns False.
"""

from dataclasses import dataclass

from torch import Tensor

from credit.engine.ops.base import Carried, Op, Run
from credit.engine.ops.norms import BatchNorm
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan


@dataclass(frozen=True)
class Separation:
    """The ops that carry samples along dim 0, and the first op that couples samples, for one shape of batch.

    Attributes:
        carried: by op index, which of its inputs have the samples along dim 0.
        coupling: the first op that couples samples, or hides where they are; None: samples may be left out.
    """

    carried: dict[int, Carried]
    coupling: Op | None


def separation(plan: Plan, run: Run, x: Tensor) -> Separation:
    """Return the separation of samples in a forward pass of x (B, ...), B >= 2; the pass uses up ``run`` and moves its buffers."""
    carries = {plan.entry: True}
    carried: dict[int, Carried] = {}
    passed = {op.index for op in plan.back}
    for op, inputs, out in plan.walk(run, x):
        held = tuple(carries[slot] for slot in op.inputs)
        carries[op.out] = any(held)
        if not any(held):
            # A rule's normalizer takes dim 0 of what arrives at a layer for the samples.
            if isinstance(op, Weighted) and op.index in passed:
                return Separation({}, op)
            continue
        if not op.separable(inputs, held, out):
            return Separation({}, op)
        carried[op.index] = held
    return Separation(carried, None if carries[plan.exit] else plan.back[0])


def batch_norm(plan: Plan) -> BatchNorm | None:
    """Return the first batch norm that uses the batch's statistics; None where there is none."""
    return next((op for op in plan.ops if isinstance(op, BatchNorm) and op.couples), None)
