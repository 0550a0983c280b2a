"""What a relevance rule reads off a plan: where values cannot be negative, and which layers are one with what follows them."""

from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.arithmetic import Add, Affine, Cat, Mean
from credit.engine.ops.base import Op
from credit.engine.ops.chance import Dropout
from credit.engine.ops.norms import BatchNorm
from credit.engine.ops.pools import AdaptivePool, AvgPool, MaxPool
from credit.engine.ops.shapes import Expand, Permute, Select, Split, Stack, View
from credit.engine.ops.spiking import Lif, Readout
from credit.engine.ops.weighted import Pad, Weighted
from credit.engine.plan import Plan

_NEVER_BELOW_ZERO = ("relu", "relu6", "sigmoid", "hardsigmoid", "softplus", "step")
_KEEP_SIGNS = (MaxPool, AvgPool, AdaptivePool, View, Permute, Select, Split, Expand, Stack, Dropout, Mean, Cat)
_ZERO_AT_ZERO = ("relu", "leaky_relu", "relu6", "elu", "tanh", "identity", "gelu", "silu", "sign")
# An input's feedback is a multiple of the input; or that of the output it went to.
_BY_CONTRIBUTION = (Weighted, BatchNorm, AvgPool, Add, Affine, Mean, Readout)
_ROUTES = (MaxPool, AdaptivePool, View, Permute, Select, Split, Expand, Stack, Cat, Pad, Dropout)
# What may stand between a layer of weights and a spiking neuron: linear, or routing, in the weights' units.
BETWEEN = (MaxPool, AvgPool, AdaptivePool, View, Dropout)


def nonnegative(plan: Plan) -> set[int]:
    """Return the slots whose values are never below 0, whatever the input."""
    sure: set[int] = set()
    for op in plan.ops:
        if isinstance(op, Activate):
            never = op.args["name"] in _NEVER_BELOW_ZERO
        elif isinstance(op, Lif):
            never = True
        elif isinstance(op, Add):
            never = op.args.get("factor", 1) >= 0 and sure.issuperset(op.inputs)
        else:
            never = isinstance(op, _KEEP_SIGNS) and sure.issuperset(op.inputs)
        if never:
            sure.add(op.out)
    return sure


def without_input(plan: Plan) -> set[int]:
    """Return the slots of values that are computed from parameters and constants alone."""
    sure: set[int] = set()
    for op in plan.ops:
        if sure.issuperset(op.inputs):
            sure.add(op.out)
    return sure


def rectified(plan: Plan) -> set[int]:
    """Return the places of the ops whose result a ReLU overwrites: what is kept of it is the ReLU's own."""
    makers = {op.out: op.index for op in plan.ops}
    return {
        makers[op.inputs[0]]
        for op in plan.ops
        if isinstance(op, Activate)
        and op.args["name"] == "relu"
        and op.overwrite
        and "input" not in op.keeps
        and op.inputs[0] in makers
    }


def silent_at_zero(plan: Plan, logits: bool) -> set[int]:
    """Return the slots of values that surely get no feedback where they are 0; ``logits``: whether logits of 0 get none."""
    readers: dict[int, list[Op]] = {}
    for op in plan.back:
        for slot in op.inputs:
            readers.setdefault(slot, []).append(op)
    sure: set[int] = set()

    def silent(op: Op) -> bool:
        if isinstance(op, Activate):
            return op.out in sure and op.args["name"] in _ZERO_AT_ZERO
        average = isinstance(op, AdaptivePool) and op.args["mode"] == "avg"
        return average or isinstance(op, _BY_CONTRIBUTION) or (isinstance(op, _ROUTES) and op.out in sure)

    for op in plan.back:
        if (op.out != plan.exit or logits) and all(silent(reader) for reader in readers.get(op.out, [])):
            sure.add(op.out)
    return sure


def above(plan: Plan, op: Op) -> list[Op]:
    """Return what stands between a spiking neuron or a BatchNorm and the layer of weights it is one with, that layer last.

    Raises:
        UserError: there is no such layer, or its result has other readers.
    """
    readers: dict[int, int] = {}
    for reader in plan.ops:
        for slot in reader.inputs:
            readers[slot] = readers.get(slot, 0) + 1
    makers = {maker.out: maker for maker in plan.ops}
    chain: list[Op] = []
    slot = op.inputs[0]
    while (maker := makers.get(slot)) is not None and readers[slot] == 1:
        chain.append(maker)
        if isinstance(maker, Weighted):
            return chain
        if isinstance(op, BatchNorm) or not isinstance(maker, BETWEEN):
            break
        slot = maker.inputs[0]
    model = type(plan.model).__name__
    if isinstance(op, BatchNorm):
        raise UserError(
            f"rule.batchnorm=folded makes a BatchNorm one with the layer before it, but {op.describe()} in {model} does not follow "
            "a linear or convolutional layer of which it is the only reader; write rule.batchnorm=epsilon"
        )
    raise UserError(
        f"{op.describe()} in {model} must follow a layer with weights of which it is the only reader (pools, dropout and "
        "reshaping may stand between): its membrane shares feedback with that layer's contributions"
    )


def find_settled(plan: Plan, fold: bool) -> dict[int, list[Op]]:
    """Return what is in the units of a layer's quotient because something further up divided already.

    Args:
        plan: the traced network.
        fold: whether BatchNorms are folded into the layer before them.

    Returns:
        by the place of each spiking neuron (and BatchNorm), the ops from there down to its layer.
    """
    return {
        op.index: above(plan, op)
        for op in plan.back
        if isinstance(op, Lif) and op.wants[0] or (fold and isinstance(op, BatchNorm))
    }
