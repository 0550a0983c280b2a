"""Reach: what is computed from parameters alone, and where the error signal is multiplied by such values.

Feedback weights take the place of the weights of `Weighted` ops. Every other product of the error signal with parameters is left
to its adjoint, that is to backprop; `unreached` finds those products.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from credit.engine.ops.arithmetic import Div, MatMul, Mul
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.local import Local
from credit.engine.ops.shapes import Shape, Value
from credit.engine.ops.weighted import Weighted

if TYPE_CHECKING:
    from credit.engine.plan import Plan


def constants(ops: Iterable[Op], parameters: Collection[str]) -> dict[int, frozenset[str]]:
    """Return the slots whose values do not depend on the network's input, each with the parameters it is computed from.

    Args:
        ops: in order of execution.
        parameters: names of the network's parameters, those of shared ones too.

    Returns:
        names of parameters by slot; none for a buffer, a constant or a value read from shapes.
    """
    found: dict[int, frozenset[str]] = {}
    compared: set[int] = set()  # slots of comparisons of values that depend on the input
    for op in ops:
        read = {*op.inputs, *slots_in(op.extra)}
        if isinstance(op, Shape):
            compares = op.args.get("of_values") and not all(slot in found for slot in read)
            if compares or read & compared:
                compared.add(op.out)
            else:
                found[op.out] = frozenset()
        elif isinstance(op, Value):
            found[op.out] = frozenset({op.args["tensor"]} & set(parameters))
        elif read and all(slot in found for slot in read):
            found[op.out] = frozenset(op.params.values()).union(*(found[slot] for slot in read))
    return found


def computed(plan: "Plan") -> dict[int, frozenset[str]]:
    """Return `constants` of a plan."""
    return constants(plan.ops, plan.alias)


def unreached(plan: "Plan") -> list[Op]:
    """Return the ops that multiply the error signal by parameters and have no weight that feedback weights could replace.

    These are, where the signal goes on to a value that depends on the network's input: matrix products with a value computed from
    parameters alone; elementwise products with one made of a parameter that has two or more dimensions larger than 1 (an outer
    product or a matrix product written out); and ops of local autograd with parameters of two or more dimensions, their own (a
    recurrent module) or among their operands (bilinear). Scales and norms with one gain a channel are not among them.
    """
    known = computed(plan)
    shapes = {name: tuple(parameter.shape) for name, parameter in plan.parameters.items()}
    back = {op.index for op in plan.back}

    def several(names: Iterable[str], least: int) -> bool:
        return any(sum(size >= least for size in shapes[name]) >= 2 for name in names)

    def multiplies(op: Op) -> bool:
        fixed = [known[slot] for slot in op.inputs if slot in known]
        operands = frozenset().union(*fixed)
        if isinstance(op, MatMul):
            return bool(operands)
        if isinstance(op, Mul | Div):
            return several(operands, 2)
        return isinstance(op, Local) and several(operands.union(op.params.values()), 1)

    def passed(op: Op) -> bool:
        return any(want and slot not in known for slot, want in zip(op.inputs, op.wants, strict=True))

    return [
        op for op in plan.ops if op.index in back and not isinstance(op, Weighted) and passed(op) and multiplies(op)
    ]
