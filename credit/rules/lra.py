"""Local representation alignment: every layer has a target, found from the errors of the layers it is wired to.

Legend: h_i what the layers below give node i, z_i = f(h_i) its activation, y_i its target, e_i its error neurons, d_i what it
hears, E_(j->i) the error synapses from j to i, beta and gamma as in the paper. With e_L = softmax - one-hot at the output:

    d_i = sum over its sources j of E_(j->i) e_j,   y_i = f(h_i - beta d_i) (Eq. 3),   e_i = z_i - y_i,
    W_i <- e_i z_(i-1)^T,   E_(j->i) <- gamma z_i e_j^T.

Sources: Ororbia, Mali, Kifer, Giles, Reducing the computational burden of deep learning with recursive local representation
alignment (rec-LRA), Algorithms 1 and 2; Ororbia and Mali 2019 (LRA-E), whose authors' code has the update of E used here: as
the paper prints it, E grows without bound. The paper's index slip (the pairing of E in its update) is read as in the sweep of
targets."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from credit.engine.blocks import Blocks
from credit.engine.draws import Draws
from credit.engine.ops.base import Run
from credit.rules import synapses
from credit.rules.divergence import InferenceDiverged
from credit.rules.lra_options import LraOptions, refuse_numbers, weights
from credit.rules.registry import make, register
from credit.rules.rule import Computed
from credit.rules.states import GROWN, has_grown
from credit.rules.targeted import OUTPUT, TargetedRule
from credit.rules.wiring import wire
from credit.streams import generator

EXPLODED = 100.0
"""Times their first size: error synapses that have grown out of proportion."""


@register("rule", "lra")
class LraRule(TargetedRule):
    """rec-LRA and LRA-E.

    Attributes:
        wiring: which node hears which.
        synapses: the maps from node to node, by the names of their weights; known from the first batch on.
    """

    OPTIONS = LraOptions
    name = "lra"

    def setup(self, options: Mapping[str, Any]) -> None:
        self.choices: LraOptions = make(self.OPTIONS, f"rule '{self.name}'", options)
        chosen = self.choices
        refuse_numbers(chosen, compiled=self._compiled is not None)
        self._begin()
        depth = 1 if chosen.inner == "backprop" else chosen.depth
        self.wiring = wire(self.plan, chosen.skip_gap, chosen.wiring, depth, self.name)
        self.nodes = self.wiring.nodes
        self._by_name = {op.name: op for op in self.nodes}
        self.kappa = weights(chosen.kappa, [*self._by_name, OUTPUT], type(self.model).__name__)
        self._refuse_flat()
        self.blocks = Blocks(self.plan, self.nodes, self, inside=chosen.inner == "backprop")
        self.synapses: dict[str, synapses.Synapse] = {}

    def _refuse_flat(self) -> None:
        """Refuse derivatives that are zero everywhere where errors have to pass them."""

    @property
    def own_settings(self) -> dict[str, float]:
        """The learning rate of error synapses."""
        return {} if self.choices.error_lr is None else {"lr": self.choices.error_lr}

    @property
    def _fixed(self) -> bool:
        return self.choices.error_update == "fixed"

    # ------------------------------------------------------------ error synapses

    def prepare(self, x: Tensor) -> None:
        """Make the error synapses, as parameters, or as buffers where they are fixed."""
        shapes = self._shapes(x)
        like = next(iter(self._params.values()))
        for target, sources in self.wiring.sources.items():
            for source in sources:
                name = _name(target, source)
                synapse = synapses.make(self.choices.synapses, shapes[target], shapes[source], name, self.name)
                self.synapses[name] = synapse
                drawn = torch.randn(synapse.shape, generator=generator(self.seed, name), dtype=torch.float64)
                value = (self._std(synapse) * drawn).to(like)
                (self.buffers if self._fixed else self.learnt).make(name, value)
        super().prepare(x)

    def _std(self, synapse: synapses.Synapse) -> float:
        given = self.choices.error_std
        return 1 / math.sqrt(synapse.inputs) if given is None else given

    def _weight(self, run: Run, name: str) -> Tensor:
        weight = (run.buffers if self._fixed else run.params)[name]
        return weight if run.dtype is None else weight.float()

    # ------------------------------------------------------------ the step

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        signal, loss = self.signal(logits if run.dtype is None else logits.float(), y)
        sizes = torch.linalg.vector_norm(signal, dim=1) * run.batch
        errors, targets, updates = self._errors(run, signal)
        kept = self._told(errors, targets, logits, y, run.batch) if self._keep_errors else (None, None)
        starts = {self.blocks.start(op): errors[op.name] for op in self.nodes} | {self.plan.exit: errors[OUTPUT]}
        del errors  # theirs are the sweep's to write over
        workers = self.choices.workers if type(draws) is Draws else 1
        updates |= self.blocks.sweep(run, starts, self, workers=workers)
        reached = None if run.entry is None else run.entry * run.batch
        return Computed(logits, loss, updates, sizes, run.stats, reached, None, *kept)

    def _errors(self, run: Run, signal: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Return every node's error over B and its target, by name, and the synapses' updates.

        Args:
            run: after the forward pass.
            signal: the loss's gradient at the logits, (B, classes), over B.
        """
        chosen, count = self.choices, run.batch
        heard: dict[str, Tensor] = {}
        errors = {OUTPUT: self._discrepancy(signal, OUTPUT, 1.0, count)}
        targets: dict[str, Tensor] = {}
        updates: dict[str, Tensor] = {}
        for node in self.wiring.order:
            h, z = self._values(run, self._by_name[node])
            d: Tensor | None = None
            for source in self.wiring.sources[node]:
                name = _name(node, source)
                sent = self.synapses[name].carry(self._weight(run, name), errors[source], run.overwrite)
                d = sent if d is None else d + sent
            assert d is not None
            heard[node] = d
            op = self._by_name[node]
            targets[node] = op.function.value(torch.sub(h, d, alpha=chosen.beta * count), *op.options)
            errors[node] = self._discrepancy(z - targets[node], node, 1 / count, 1.0)
            if not self._keep_errors:
                del targets[node]
            for source in () if self._fixed else self.wiring.sources[node]:
                updates |= self._learn(run, node, source, z, errors, heard)
        if chosen.error_update.startswith("paper"):
            run.stats["inference.growth"] = self._growth(run).amax() * (GROWN / EXPLODED)
        return errors, targets, updates

    def _discrepancy(self, delta: Tensor, node: str, scale: float, unit: float) -> Tensor:
        """Return the gradient of kappa (||delta||_p ^ q) / q over B (Eq. 2): with p = q = 2 and kappa = 1, delta over B.

        Args:
            delta: z - y, (B, ...), written over.
            node: its name.
            scale: what turns the gradient, which is homogeneous in delta for p = q = 2 alone, into one over B.
            unit: what delta has to be multiplied with to be that of one sample.
        """
        p, q, kappa = self.choices.p, self.choices.q, self.kappa[node]
        if p == q == 2:
            return delta if scale * kappa == 1 else delta.mul_(scale * kappa)
        delta = delta * unit
        e = delta.sign() if p == 1 else delta.sign() * delta.abs().pow(p - 1)
        if p != q:
            size = torch.linalg.vector_norm(delta.flatten(1), p, dim=1).view(-1, *[1] * (delta.dim() - 1))
            e = e * torch.where(size > 0, size.pow(q - p), 0.0)
        return e.mul_(scale * kappa / unit)

    def _learn(
        self, run: Run, node: str, source: str, z: Tensor, errors: dict[str, Tensor], heard: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the update of the synapse from ``source`` to ``node``."""
        chosen, name = self.choices, _name(node, source)
        synapse, factor = self.synapses[name], chosen.gamma
        if chosen.error_update == "lra_e":
            update = synapse.product(z, errors[source], run.overwrite)
        elif chosen.error_update == "paper":
            update, factor = synapse.product(heard[node], errors[source], run.overwrite), -factor * run.batch
        elif source == OUTPUT:
            return {name: torch.zeros_like(run.params[name])}
        else:
            update, factor = synapse.product(errors[node], heard[source], run.overwrite), -factor * run.batch
        return {name: update if factor == 1 else update.mul_(factor)}

    def _told(
        self, errors: dict[str, Tensor], targets: dict[str, Tensor], logits: Tensor, y: Tensor, count: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return copies of errors and targets for `Step`: per sample, in order of execution."""
        names = [*self._by_name, OUTPUT]
        targets = targets | {OUTPUT: torch.nn.functional.one_hot(y, logits.shape[1]).to(logits.dtype)}
        return {name: errors[name] * count for name in names}, {name: targets[name] for name in names}

    # ------------------------------------------------------------ synapses that explode

    def _growth(self, run: Run) -> Tensor:
        """Return how many times their first size the error synapses have, (synapses,), in the wiring's order."""
        return torch.stack([
            torch.linalg.vector_norm(run.params[name]) / (self._std(synapse) * math.sqrt(math.prod(synapse.shape)))
            for name, synapse in self.synapses.items()
        ])  # fmt: skip

    def updates(self, x: Tensor, y: Tensor, buffers: dict[str, Tensor] | None = None) -> Computed:
        """Return what ``step`` would use (see `Rule.updates`).

        Raises:
            InferenceDiverged: error synapses have exploded (on a GPU the trainer looks, from time to time).
        """
        computed = super().updates(x, y, buffers)
        if has_grown(computed, x):
            self.tell_divergence(x, y)
        return computed

    def tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Name the error synapses that have exploded.

        Raises:
            InferenceDiverged: saying why, and what to write instead.
        """
        growth = self._growth(self.plan.run(self._all_parameters(), self.buffers, None))
        at = int(growth.argmax())
        if not float(growth[at]) <= EXPLODED:
            raise InferenceDiverged(
                f"error synapses '{list(self.synapses)[at]}'",
                f"they grew to {float(growth[at]):.2g} times their first size: rule.error_update={self.choices.error_update}, "
                "as printed, adds to E what E itself sent, E <- E (I + lr gamma e e^T), which has no bound; write "
                "rule.error_update=lra_e, or lower rule.error_lr",
            )


def _name(target: str, source: str) -> str:
    return f"error.{target}.{source}"
