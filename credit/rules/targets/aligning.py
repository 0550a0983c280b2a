"""One step's targets and errors of local representation alignment, from the output down (legend: `credit.rules.targets.lra`).

Errors are held over the batch's size B, as signals are. A part of the network is passed as soon as its errors are known and nobody
else needs them, so that no more of them are held at a time than the error connectivity needs.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from credit.engine.ops.activations import Activate
from credit.rules.state import RuleRun
from credit.rules.targets.targeted import OUTPUT

if TYPE_CHECKING:
    from credit.rules.targets.lra import LraRule


class Aligning:
    """The pass that follows a forward pass.

    Args:
        rule: whose error connectivity, synapses and options they are.
        run: the step's, after its forward pass.
        keep: whether errors and targets are kept, to be returned.
        workers: threads that parts are passed on, then all at the end.

    Attributes:
        updates: by parameter name.
        errors, targets: of ``keep``, per sample, by node.
    """

    def __init__(self, rule: "LraRule", run: RuleRun, *, keep: bool, workers: int) -> None:
        self.rule, self.run, self.keep, self.workers = rule, run, keep, workers
        self.updates: dict[str, Tensor] = {}
        self.errors: dict[str, Tensor] = {}
        self.targets: dict[str, Tensor] = {}
        self._over: dict[str, Tensor] = {}  # errors over B
        self._heard: dict[str, Tensor] = {}
        self._waiting = dict(rule.receivers)

    def align(self, signal: Tensor) -> None:
        """Find every node's error and all updates.

        Args:
            signal: the loss's gradient at the logits, (B, classes), over B.
        """
        rule, run = self.rule, self.run
        together = self.workers > 1 and len(rule.blocks.parts) > 1
        pending = dict(rule.awaited)
        self._put(OUTPUT, self._discrepancy(signal, OUTPUT, over=True))
        order = [OUTPUT, *rule.error_connectivity.order]
        for name in order:
            if name != OUTPUT:
                self._node(name)
            if together:
                continue
            for at in [at for at, names in pending.items() if all(self._free(one) for one in names)]:
                starts = self._starts(pending.pop(at))
                self.updates |= rule.plan.backward_from(run, starts, rule, rule.blocks.parts[at].portion)
        if together:
            starts = self._starts(order)
            self.updates |= rule.blocks.backward(run, starts, rule, workers=self.workers)

    def _free(self, name: str) -> bool:
        return name in self._over and (self._waiting.get(name, 0) == 0 or name == OUTPUT)

    def _starts(self, names: list[str]) -> dict[int, Tensor]:
        """Return errors by the slots they begin at; activations of the same pre-activation begin at the same."""
        starts: dict[int, Tensor] = {}
        for name in names:
            slot, error = self.rule.start(name), self._take(name)
            starts[slot] = starts[slot] + error if slot in starts else error
        return starts

    def _take(self, name: str) -> Tensor:
        """Return an error for a backward pass, which may write over it; a copy where it is still needed (the output's)."""
        return self._over[name].clone() if self._waiting.get(name, 0) else self._over.pop(name)

    def _put(self, name: str, error: Tensor) -> None:
        self._over[name] = error
        if self.keep:
            self.errors[name] = error * self.run.batch

    def _node(self, name: str) -> None:
        """Find a node's target and error, and what its synapses learn."""
        rule, run = self.rule, self.run
        op, sources = rule.by_name[name], rule.error_connectivity.sources[name]
        h, z = rule.values(run, op)
        d: Tensor | None = None
        for source in sources:
            sent = rule.carry(run, name, source, self._over[source])
            d = sent if d is None else d + sent
        assert d is not None
        target, delta = self._target(op, h, z, d)
        if self.keep:
            self.targets[name] = target
        self._put(name, self._discrepancy(delta, name, over=False))
        rule.drop(run, op)  # from here on the pre-activation is of no use, unless derivatives ask for it
        if rule.options.error_update == "paper_alg1":
            self._heard[name] = d
        for source in sources:
            self._learn(name, source, z, d)
            self._waiting[source] -= 1

    def _target(self, op: Activate, h: Tensor, z: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return a node's target y and z - y; y is written over where it is not kept."""
        function, reach = op.function, self.rule.options.beta * self.run.batch
        value = function.value_ or function.value
        if function.gap is None:
            target = value(torch.sub(h, d, alpha=reach), *op.options)
            return target, z - target
        # The difference of two near numbers would be rounding, once a chain of nodes has made d small.
        far = d * reach
        target = value(h - far, *op.options)
        gap = function.gap if self.keep or function.gap_ is None else function.gap_
        return target, gap(far, z, target, *op.options)

    def _discrepancy(self, delta: Tensor, name: str, *, over: bool) -> Tensor:
        """Return the gradient of kappa (||delta||_p ^ q) / q over B (Eq. 2): with p = q = 2 and kappa = 1, delta over B.

        Args:
            delta: z - y, of the output over B; of another node per sample, written over.
            name: the node.
            over: which of the two it is.
        """
        p, q, kappa = self.rule.options.p, self.rule.options.q, self.rule.kappa[name]
        factor = kappa if over else kappa / self.run.batch
        if p == q == 2:
            return delta if factor == 1 else delta * factor if over else delta.mul_(factor)
        if over:
            delta, factor = delta * self.run.batch, kappa / self.run.batch
        # In units of the sample's largest value, whose powers alone could leave single precision.
        each = [-1, *[1] * (delta.dim() - 1)]
        most = delta.flatten(1).abs().amax(1).view(each)
        unit = delta / torch.where(most > 0, most, 1.0)
        e = unit.sign() if p == 1 else unit.sign() * unit.abs().pow(p - 1)
        if p != q:
            size = torch.linalg.vector_norm(unit.flatten(1), p, dim=1).view(each)
            e = e * torch.where(size > 0, size.pow(q - p), 0.0)
        return e * (factor * most.pow(q - 1))

    def _learn(self, name: str, source: str, z: Tensor, d: Tensor) -> None:
        """Add the update of the synapse from ``source`` to ``name``."""
        rule, run, word = self.rule, self.run, self.rule.options.error_update
        if word == "fixed":
            return
        weight = rule.weight_name(name, source)
        synapse, factor = rule.synapses[weight], rule.options.gamma
        if word == "lra_e":
            update = synapse.product(z, self._over[source], run.overwrite)
        elif word == "paper":
            update, factor = synapse.product(d, self._over[source], run.overwrite), -factor * run.batch
        elif source == OUTPUT:
            update, factor = torch.zeros_like(run.params[weight]), 1.0
        else:
            update, factor = synapse.product(self._over[name], self._heard[source], run.overwrite), -factor * run.batch
        self.updates[weight] = update if factor == 1 else update.mul_(factor)

    def kept(self, y: Tensor, logits: Tensor) -> tuple[Any, Any]:
        """Return errors and targets by node in order of execution, per sample; None where they were not kept."""
        if not self.keep:
            return None, None
        self.targets[OUTPUT] = self.rule.loss.target(logits, y)
        names = [*self.rule.by_name, OUTPUT]
        return {name: self.errors[name] for name in names}, {name: self.targets[name] for name in names}
