"""What rules that give layers targets have in common: representation alignment and target propagation."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.backward import BackwardPass
from credit.engine.draws import Draws
from credit.engine.inference.blocks import Blocks, hidden
from credit.engine.ops.activations import Activate
from credit.engine.ops.weighted import Weighted
from credit.rules.base import Rule
from credit.rules.energy import states
from credit.rules.state import RuleRun, copies
from credit.rules.targets import synapses
from credit.rules.targets.options import LraOptions, TargetOptions
from credit.rules.traits import Traits

OUTPUT = "output"
"""What the network's output is called among the nodes."""


class TargetedRule(Rule, BackwardPass[RuleRun]):
    """Base of rules with targets at nodes: at activations, and at the output.

    Attributes:
        nodes: the activations that have a target of their own, in order of execution.
    """

    awaits_shapes = True
    options: LraOptions | TargetOptions
    nodes: list[Activate]

    @property
    def traits(self) -> Traits:
        """As of all rules with states; activations over time have no targets."""
        return states.traits(self, time_steps="gives activations targets")

    def _begin(self) -> None:
        """Refuse a network that has an activation of the output's name; make the loss."""
        if any(op.name == OUTPUT for op in hidden(self.plan)):
            raise UserError(
                f"rule '{self.name}' calls the network's output '{OUTPUT}', which is an activation's name in "
                f"{type(self.model).__name__}; give that module another name"
            )
        self._keep_errors = getattr(self, "_keep_errors", False)
        self.loss = states.TaskLoss(self)

    @property
    def reference(self) -> dict[str, Any]:
        """Backprop on the same loss."""
        return states.reference(self)

    @property
    def keep_errors(self) -> bool:
        """Whether steps return every node's error and target; settable."""
        return self._keep_errors

    @keep_errors.setter
    def keep_errors(self, wanted: bool) -> None:
        if wanted:
            self.refuse_compiled("return its errors")
        self._keep_errors = wanted

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        """Leave a signal as it is; record its size where that is watched."""
        if self.watch:
            run.stats[op.name] = signal.square().mean().sqrt() * run.batch
        return signal

    def _makes_updates(self) -> bool:
        return True

    def _refuse_vectors(self, made: Iterable[synapses.Synapse]) -> None:
        """Refuse ``rule.synapses=conv`` where every synapse is dense all the same."""
        if self.options.synapses == "conv" and all(isinstance(one, synapses.Dense) for one in made):
            raise UserError(
                f"rule.synapses=conv would change nothing: the nodes of {type(self.model).__name__} are vectors, which have no "
                "positions to share weights among; leave it out"
            )

    def keeps(self, op: Activate) -> set[str]:
        """A node's h and z, and what its derivative needs."""
        return {"input", "output"} if self.is_node(op) else {op.function.keeps}

    def is_node(self, op: Activate) -> bool:
        """Whether an activation, of any plan of the network, has a target of its own."""
        return any(op.name == node.name for node in self.nodes)

    def _cut(self, *, inside: bool, received: Iterable[Activate] = ()) -> Blocks:
        """Cut the plan at the nodes, which are then those of the cut plan, and return its blocks."""
        blocks = Blocks(self.plan, self.nodes, self, inside=inside, received=received)
        self.plan, self.nodes = blocks.plan, blocks.ops
        return blocks

    def drop(self, run: RuleRun, op: Activate) -> None:
        """Drop a node's h and z where no derivative needs them."""
        h, z = op.load(run)
        passed = op.index in self.plan.cuts and self.plan.cuts[op.index]
        keeps = op.function.keeps if passed else ""
        op.save(run, (h if keeps == "input" else None, z if keeps == "output" else None))

    def values(self, run: RuleRun, op: Activate) -> tuple[Tensor, Tensor]:
        """Return a node's h and z, (B, ...), in the precision of targets."""
        h, z = op.pre(run), op.post(run)
        return (h, z) if run.dtype is None else (h.float(), z.float())

    def _shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all nodes' values on such a batch, without its size."""
        weight = next(iter(self._params.values()))
        if x.dtype != weight.dtype and not self.plan.takes_tokens:
            raise UserError(
                f"rule '{self.name}' was given an example of {x.dtype}, but the model's parameters are "
                f"{weight.dtype}; convert one of them"
            )
        buffers = copies(self._model_buffers())
        with torch.no_grad():
            run = self._run(self.effective_params(), buffers, Draws(self.seed, self.position, x.device))
            logits = self.plan.forward(run, x)
            found = {op.name: tuple(op.post(run).shape[1:]) for op in self.nodes}
        return found | {OUTPUT: tuple(logits.shape[1:])}
