"""States and segments: a plan seen as states at its activations, with linear maps between them.

Dual and equilibrium propagation give every activation a state of its own and need, between states, only maps that are linear
in what they carry: weights, convolutions, average pools, sums, views, norms that are frozen, and max pools by their switches.
"""

from dataclasses import dataclass, field

from torch import nn

from credit.core.errors import UserError
from credit.engine.ops.activations import MONOTONE, Activate
from credit.engine.ops.arithmetic import Add, Affine, Cat, Div, Mean, Mul
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.chance import Dropout
from credit.engine.ops.images import Resize
from credit.engine.ops.norms import BatchNorm, Norm
from credit.engine.ops.pools import AdaptivePool, AvgPool, MaxPool
from credit.engine.ops.shapes import Expand, FixedMap, Permute, Select, Shape, Split, Stack, Value, View
from credit.engine.ops.weighted import Embedding, Pad, Weighted
from credit.engine.plan import Plan

_SUMS = (Weighted, Pad, Resize, Add, Affine, Mean, Dropout, AvgPool, MaxPool, AdaptivePool)
_MOVES = (Cat, View, FixedMap, Permute, Select, Split, Stack, Expand, Value, Embedding)
_IN_ONE = (Mul, Div)  # linear in an operand where the other is a constant


@dataclass(eq=False)
class State:
    """One state of the network.

    Attributes:
        index: its number: hidden states and the output from 1, in order of execution; the input's is 0.
        op: its activation; None: the input, or an output without one.
        pre: slot of what it is a function of; -1 for the input.
        out: slot of its value; -1 for the output, whose value nothing reads.
        parents, children: numbers of the states that linear maps lead here from, and to.
    """

    index: int
    op: Activate | None
    pre: int
    out: int
    parents: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)


class Segments:
    """The states of a plan and the linear maps between them.

    Args:
        plan: whose ops, where error signals pass, must all be linear or activations.
        model: to name it in errors.
        rule: name of the rule that asks, for errors.
        with_input: whether the input is a state too (number 0).
        own_output: whether an activation that is the network's last op belongs to the output's state, s_L = f(a_L). Else that
            activation has a hidden state, from which an identity map leads to an output of its own.

    Attributes:
        states: in order; the last is the output.
        maker: op that makes a slot's value, where signals pass it.
        readers: by slot, (op, which of its inputs) of those that send a signal back to it.
        reached: by slot, the numbers of the states its value is made of.
        senders: by slot, the numbers of the states whose signals reach it.

    Raises:
        UserError: an op between states is not linear, or an activation is not monotone.
    """

    def __init__(
        self, plan: Plan, model: nn.Module, rule: str, *, with_input: bool = False, own_output: bool = False
    ) -> None:
        self.plan = plan
        self._model, self._rule = type(model).__name__, rule
        back = {op.index for op in plan.back}
        self.maker: dict[int, Op] = {op.out: op for op in plan.back}
        self._refuse_comparisons()
        self.readers: dict[int, list[tuple[Op, int]]] = {}
        for op in plan.ops:
            if op.index in back:
                self._refuse(op)
                for at, (slot, wanted) in enumerate(zip(op.inputs, op.wants, strict=True)):
                    if wanted:
                        self.readers.setdefault(slot, []).append((op, at))
        self.states = [State(0, None, -1, plan.entry)] if with_input else []
        hidden = [op for op in plan.ops if op.index in back and isinstance(op, Activate)]
        ends = hidden.pop() if own_output and hidden and hidden[-1].out == plan.exit else None
        if own_output:
            self._refuse_moved_output()
        self.states += [State(at, op, op.inputs[0], op.out) for at, op in enumerate(hidden, start=1)]
        self.states.append(State(len(hidden) + 1, ends, plan.exit if ends is None else ends.inputs[0], -1))
        self.by_number = {state.index: state for state in self.states}
        self.at_slot = {state.out: state for state in self.states if state.out >= 0}
        self.of_op = {state.op.index: state for state in self.states if state.op is not None}
        self._relate()

    @property
    def first(self) -> int:
        """Number of the first state."""
        return self.states[0].index

    @property
    def last(self) -> int:
        """Number of the output."""
        return self.states[-1].index

    def _relate(self) -> None:
        self.reached: dict[int, frozenset[int]] = {}
        for op in self.plan.ops:
            if op.out in self.maker:
                below: frozenset[int] = frozenset().union(*(self.numbers(slot) for slot in op.inputs))
                self.reached[op.out] = below
        for state in self.states:
            if state.pre >= 0:
                state.parents = set(self.numbers(state.pre))
                for parent in state.parents:
                    self.by_number[parent].children.add(state.index)
        self.senders: dict[int, frozenset[int]] = {self.plan.exit: frozenset({self.last})}
        for op in self.plan.back:
            own = self.of_op.get(op.index)
            numbers = frozenset({own.index}) if own is not None else self.senders.get(op.out, frozenset())
            for slot, wanted in zip(op.inputs, op.wants, strict=True):
                if wanted:
                    self.senders[slot] = self.senders.get(slot, frozenset()) | numbers

    def numbers(self, slot: int) -> frozenset[int]:
        """Return the numbers of the states that a slot's value is made of, through linear maps."""
        if slot in self.at_slot:
            return frozenset({self.at_slot[slot].index})
        return self.reached.get(slot, frozenset())

    # ------------------------------------------------------------ what cannot be

    def _refuse_moved_output(self) -> None:
        """Refuse an output that is an activation's values in another order or shape, which would be the activation's copy."""
        slot, moves = self.plan.exit, list[Op]()
        while isinstance(op := self.maker.get(slot), View | Permute | Select | Split):
            moves.append(op)
            slot = op.inputs[0]
        if moves and isinstance(op, Activate):
            raise UserError(
                f"rule '{self._rule}' nudges the state of the last activation, but between {op.describe()} in {self._model} and "
                f"its output stands {moves[-1].describe()}, so that the output would be a copy of that state and feed it: move it "
                "before the activation"
            )

    def _refuse_comparisons(self) -> None:
        """Refuse a comparison of values that move: what depends on it is not linear."""
        for op in self.plan.ops:
            moving = isinstance(op, Shape) and op.args.get("of_values") and slots_in(op.extra) & self.maker.keys()
            if moving:
                raise UserError(
                    f"rule '{self._rule}' needs linear maps between its states, but '{op.name}' in {self._model} compares values "
                    "that move with the states. Use an activation (nn.ReLU, nn.Hardtanh, ...) in its place, or rule=bp"
                )

    def _refuse(self, op: Op) -> None:
        where = f"{op.describe()} in {self._model}"
        if isinstance(op, Weighted) and op.operands:
            raise UserError(
                f"rule '{self._rule}' updates the weights between its states, but the {' and '.join(op.operands)} of {where} is "
                "computed from parameters in forward() (a standardised, masked or transposed weight), which has no update of its "
                "own. Use a parameter as it is, or a rule that sends derivatives (rule=bp, fa, lisp_margin, ...)"
            )
        if isinstance(op, Activate):
            if not op.monotone:
                raise UserError(
                    f"rule '{self._rule}' gives every activation a state, found from an energy whose gradient inverts the "
                    f"activation, but {op.args['name']} ({where}) falls somewhere, so it has none. Activations that rise "
                    f"everywhere: {', '.join(MONOTONE)}. Write arch.activation=relu"
                )
            return
        if isinstance(op, BatchNorm):
            if op.couples and not op.args["buffers"]:
                raise UserError(
                    f"rule '{self._rule}' needs linear maps between its states, but {where} keeps no running statistics "
                    "(track_running_stats=False) and normalises by each batch's own. Use one that keeps them and "
                    "rule.batchnorm=frozen, or arch.norm=none"
                )
            if op.couples:
                raise UserError(
                    f"rule '{self._rule}' needs linear maps between its states, but {where} normalises by the batch's own "
                    "statistics, which every state moves. Write arch.norm=none or arch.norm=frozen where the network has them, or "
                    "rule.batchnorm=frozen, which normalises by the running statistics and leaves them as they are"
                )
            return
        if isinstance(op, (*_SUMS, *_MOVES)):
            return
        if isinstance(op, _IN_ONE) and sum(op.wants) == 1 and (isinstance(op, Mul) or op.wants[0]):
            return
        if isinstance(op, Mul) and sum(op.wants) == 2 and any(isinstance(self.maker.get(s), Value) for s in op.inputs):
            raise UserError(
                f"rule '{self._rule}' needs linear maps between its states, but {where} multiplies by a parameter that learns, and "
                "a product of two things that move is not linear: freeze it (requires_grad_(False)), or use rule=bp"
            )
        why = "normalises each sample by its own statistics" if isinstance(op, Norm) else "is not linear"
        raise UserError(
            f"rule '{self._rule}' needs linear maps between its states (weights, convolutions, average and max pools, sums, views, "
            f"frozen batch norms), but {where} {why}. Use a network without it (arch=mlp, lenet5, vgg16, cifar_resnet with "
            "arch.norm=none), or rule=bp"
        )
