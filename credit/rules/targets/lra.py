"""Local representation alignment: every layer has a target, found from the errors of the layers it is wired to.

Legend: h_i what the layers below give node i, z_i = f(h_i) its activation, y_i its target, e_i its error neurons, d_i what it
receives, E_(j->i) the error synapses from j to i, beta and gamma as in the paper. With e_L = softmax - one-hot at the output:

    d_i = sum over its sources j of E_(j->i) e_j,   y_i = f(h_i - beta d_i) (Eq. 3),   e_i = z_i - y_i,
    W_i <- e_i z_(i-1)^T,   E_(j->i) <- gamma z_i e_j^T.

Sources: Ororbia, Mali, Kifer, Giles, Reducing the computational burden of deep learning with recursive local representation
alignment (rec-LRA), Algorithms 1 and 2; Ororbia and Mali 2019 (LRA-E), whose authors' code has the update of E used here: as
the paper prints it, E grows without bound. The paper's index slip (the pairing of E in its update) is read as in the sweep of
targets."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.rules.base import Computed
from credit.rules.outcome import InferenceDiverged
from credit.rules.state import RuleRun
from credit.rules.targets import synapses
from credit.rules.targets.aligning import Aligning
from credit.rules.targets.connectivity import connect
from credit.rules.targets.options import LraOptions
from credit.rules.targets.targeted import OUTPUT, TargetedRule
from credit.rules.traits import Traits

EXPLODED = 100.0
"""Times their first size: error synapses that have grown out of proportion."""
_UNBOUNDED = {
    "paper": "rule.error_update=paper, as printed, adds to E what E itself sent, E <- E (I + lr gamma e e^T)",
    "paper_alg1": "rule.error_update=paper_alg1, as printed, adds gamma e_i d_j^T to E, which makes the next e_i larger",
}


class LraRule(TargetedRule):
    """rec-LRA and LRA-E.

    Attributes:
        error_connectivity: the nodes whose errors each node receives.
        synapses: the maps from node to node, by the names of their weights; known from the first batch on.
        receivers: by node, the number of nodes that receive its error.
        awaited: by part of the network (see `Blocks`), the nodes whose errors its sweep begins with.
    """

    Options = LraOptions
    options: LraOptions
    name = "lra"
    growth_limit = EXPLODED

    def setup(self) -> None:
        chosen = self.options
        self._begin()
        depth = 1 if chosen.inner == "backprop" else chosen.depth
        self.error_connectivity = connect(self.plan, chosen.skip_gap, chosen.error_connectivity, depth, self.name)
        self.nodes = self.error_connectivity.nodes
        self.kappa = weights(chosen.kappa, [*(op.name for op in self.nodes), OUTPUT], type(self.model).__name__)
        self.blocks = self._cut(inside=chosen.inner == "backprop")
        self.by_name = {op.name: op for op in self.nodes}
        self._refuse_flat()
        self.synapses: dict[str, synapses.Synapse] = {}
        sent = [source for sources in self.error_connectivity.sources.values() for source in sources]
        self.receivers = {name: sent.count(name) for name in (*self.by_name, OUTPUT)}
        everyone = (*self.by_name, OUTPUT)
        self.awaited = {
            at: [name for name in everyone if self.start(name) in part.starts]
            for at, part in enumerate(self.blocks.parts)
        }

    def _refuse_flat(self) -> None:
        """Refuse activations whose derivative is zero everywhere where errors would have to pass it."""
        flat = next((op for op in self.plan.back if isinstance(op, Activate) and op.function.vjp is None), None)
        if flat is not None:
            raise UserError(
                f"rule '{self.name}' would send errors through the derivative of {flat.args['name']} at '{flat.name}' in "
                f"{type(self.model).__name__}, which is zero everywhere, so that nothing under it learnt; give it a target of "
                "its own: rule.inner=local, with rule.depth=null and every node in rule.error_connectivity"
            )

    @property
    def traits(self) -> Traits:
        """As of all rules with targets; blocks shared among threads are not compiled."""
        threads = (
            f"shares its blocks among threads (rule.workers={self.options.workers}), and a compiled step is one program: leave out "
            "trainer.compile, or write rule.workers=1"
        )
        return replace(super().traits, not_compiled=threads if self.options.workers > 1 else "")

    @property
    def feedback_settings(self) -> dict[str, float]:
        """The learning rate of error synapses."""
        return {} if self.options.error_lr is None else {"lr": self.options.error_lr}

    @property
    def _fixed(self) -> bool:
        return self.options.error_update == "fixed"

    # ------------------------------------------------------------ error synapses

    def prepare(self, x: Tensor) -> None:
        """Make the error synapses, as parameters, or as buffers where they are fixed."""
        shapes = self._shapes(x)
        like = next(iter(self._params.values()))
        for target, sources in self.error_connectivity.sources.items():
            for source in sources:
                name = self.weight_name(target, source)
                synapse = synapses.make(self.options.synapses, shapes[target], shapes[source], name, self.name)
                self.synapses[name] = synapse
                drawn = torch.randn(synapse.shape, generator=generator(self.seed, name), dtype=torch.float64)
                value = (self._std(synapse) * drawn).to(like)
                self._make(name, value)
        self._refuse_vectors(self.synapses.values())
        super().prepare(x)

    def _make(self, name: str, value: Tensor) -> None:
        if self._fixed:
            self.buffers.make(name, value)
        else:
            self.feedback_parameters.make(name, value, self.model)

    def _std(self, synapse: synapses.Synapse) -> float:
        given = self.options.error_std
        return 1 / math.sqrt(synapse.inputs) if given is None else given

    def _weight(self, run: RuleRun, name: str) -> Tensor:
        weight = (run.buffers if self._fixed else run.params)[name]
        return weight if run.dtype is None else weight.float()

    # ------------------------------------------------------------ the step

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        signal, loss = self.loss(logits if run.dtype is None else logits.float(), y)
        sizes = torch.linalg.vector_norm(signal.flatten(1), dim=1) * run.batch
        # Processes make their exchanges in one order, which threads do not keep.
        alone = type(draws) is Draws and run.across is None
        aligning = Aligning(self, run, keep=self._keep_errors, workers=self.options.workers if alone else 1)
        aligning.align(signal)
        if self.options.error_update.startswith("paper"):
            run.stats["inference.growth"] = self._growth(run).amax()
        reached = None if run.entry is None else run.entry * run.batch
        kept = aligning.kept(y, logits)
        return Computed(logits, loss, aligning.updates, sizes, run.stats, reached, None, *kept)

    def start(self, name: str) -> int:
        """Return the slot that a node's own signal begins at."""
        return self.plan.exit if name == OUTPUT else self.blocks.start(self.by_name[name])

    def carry(self, run: RuleRun, target: str, source: str, error: Tensor) -> Tensor:
        """Return what an error of ``source`` (B, ...) comes to at ``target``."""
        name = self.weight_name(target, source)
        return self.synapses[name].carry(self._weight(run, name), error, run.overwrite)

    @staticmethod
    def weight_name(target: str, source: str) -> str:
        """Return the name of a synapse's weight."""
        return f"error.{target}.{source}"

    # ------------------------------------------------------------ synapses that explode

    def _growth(self, run: RuleRun) -> Tensor:
        """Return how many times their first size the error synapses have, (synapses,), in the order of the connectivity."""
        return torch.stack([
            torch.linalg.vector_norm(run.params[name]) / (self._std(synapse) * math.sqrt(math.prod(synapse.shape)))
            for name, synapse in self.synapses.items()
        ])  # fmt: skip

    def tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Name the error synapses that have exploded.

        Raises:
            InferenceDiverged: saying why, and what to write instead.
        """
        if not self.options.error_update.startswith("paper"):
            return  # the others have no such bound to pass
        with torch.no_grad():
            growth = self._growth(self._run(self._all_parameters(), self.buffers, None))
        at = int(growth.argmax())
        if not float(growth[at]) <= EXPLODED:
            raise InferenceDiverged(
                f"error synapses '{list(self.synapses)[at]}'",
                f"they grew to {float(growth[at]):.2g} times their first size: {_UNBOUNDED[self.options.error_update]}, which "
                "has no bound; write rule.error_update=lra_e, or lower rule.error_lr",
            )


def weights(given: float | Sequence[float], names: Sequence[str], model: str) -> dict[str, float]:
    """Return every node's kappa by name.

    Raises:
        UserError: another number of them than of nodes.
    """
    values = [given] * len(names) if not isinstance(given, Sequence) else list(given)
    if len(values) != len(names):
        raise UserError(
            f"rule.kappa has {len(values)} values, but {model} has {len(names)} nodes with targets ({', '.join(names)}): give "
            f"{len(names)} values, or one number for all"
        )
    return dict(zip(names, map(float, values), strict=True))
