"""The backward pass: how an error signal is passed through each op of a plan."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Run, Signals
from credit.engine.ops.norms import Norm
from credit.engine.ops.weighted import Weighted

AddUpdates = Callable[[Iterable[tuple[str, Tensor]]], None]
"""Receives updates by parameter name; several of one parameter are summed."""
R = TypeVar("R", bound=Run)


def refuse_renamed(cls: type) -> None:
    """Refuse a class that overrides a method by an earlier name, under which nothing would call it."""
    if "cross" in vars(cls):
        raise UserError(
            f"{cls.__name__}.cross: the method that sends an error signal across weights is called backproject and takes the same "
            "arguments: rename it"
        )


class BackwardPass(Generic[R]):
    """Backprop, and what a rule overrides of it. Every method may overwrite an exclusive error signal.

    What a method has to put by for a later one belongs to the step and goes into its ``run``, of a class of the rule's own. A plan
    asks for ``keeps_output``, ``keeps`` and ``holds`` once, when it is built; the other methods are called at each step.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_renamed(cls)

    # Whether the rule reads the output error again during the backward pass, so that nothing may overwrite it.
    keeps_output = False

    def keeps(self, op: Activate) -> set[str]:
        """Return what ``gate`` needs of an activation: ``input``, ``output``."""
        return {op.function.keeps}

    def holds(self, op: Op) -> tuple[bool, bool]:
        """Return whether ``visit`` reads an op's (inputs, output) in ``run.held``, beside what the op keeps for its adjoint."""
        return False, False

    def visit(self, op: Op, run: R, signal: Tensor, add: AddUpdates) -> Signals:
        """Pass an error signal through one op: give its updates to ``add`` and return the error signals of its inputs.

        The methods below are what most rules change of it.
        """
        if isinstance(op, Weighted):
            signal = self.arrive(op, run, signal)
            add(op.updates(run, signal))
            shares = op.shares(run, signal)
            return (self.backproject(op, run, signal) if op.wants[0] else None, *shares)
        if isinstance(op, Activate):
            if op.trains:
                add(op.updates(run, signal))
            return (self.gate(op, run, signal),) if op.wants[0] else (None,)
        if isinstance(op, Norm):
            sent, made = op.both(run, signal)
            add(made)
            return (sent,)
        if op.trains:
            add(op.updates(run, signal))
        return op.adjoint(run, signal) if any(op.wants) else (None,) * len(op.wants)

    def arrive(self, op: Weighted, run: R, signal: Tensor) -> Tensor:
        """Change an error signal on its arrival at a weighted op, before the weights' update and its backprojection."""
        return signal

    def gate(self, op: Activate, run: R, signal: Tensor) -> Tensor:
        """Pass an error signal through an activation."""
        passed = op.adjoint(run, signal)[0]
        assert passed is not None
        return passed

    def backproject(self, op: Weighted, run: R, signal: Tensor) -> Tensor:
        """Backproject an error signal through the weights of an op to its input."""
        return op.back(run, signal, op.weight(run))


BACKPROP: BackwardPass[Any] = BackwardPass()
