"""Target propagation and difference target propagation: every layer gets a target, sent down by maps that learn to invert it.

Legend: z_l activations that everything after them is computed from (nodes), F_l the network from z_{l-1} to z_l, G_l the feedback
map back (`credit.rules.targets.feedback_maps`), t_l targets, L a sample's loss, B the batch size.

    t_{L-1} = z_{L-1} - target_step dL/dz_{L-1}                          or t_L, of the logits, likewise (first_target=logits)
    t_{l-1} = G_l(t_l)                                                   target propagation
    t_{l-1} = z_{l-1} + G_l(t_l) - G_l(z_l)                              with difference

and the parameters of F_l get the derivative of |F_l(z_{l-1}) - t_l|^2, a sum over units and a mean over the batch, by backprop
inside F_l. Source: Lee, Zhang, Fischer and Bengio 2015 (arXiv 1412.7525), Eqs. 8, 11, 15; with ``logits`` and ``l_drl`` Ernoult
et al. 2022 (arXiv 2201.13415). All updates of a step are made with the parameters it begins with, feedback's too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.inference.blocks import bottlenecks, hidden, learning
from credit.engine.inference.subgraph import Stretch
from credit.engine.ops.activations import Activate
from credit.engine.plan import Plan
from credit.rules.outcome import Computed
from credit.rules.state import RuleRun
from credit.rules.targets import synapses
from credit.rules.targets.feedback_maps import FeedbackMap
from credit.rules.targets.options import TargetOptions
from credit.rules.targets.targeted import OUTPUT, TargetedRule
from credit.rules.traits import Traits


class TargetPropagationRule(TargetedRule):
    """Target propagation, difference target propagation and its parallel variant.

    Attributes:
        nodes: the activations that get targets, in order of execution.
        maps: the feedback maps, from the output down; empty until shapes are known.
    """

    Options = TargetOptions
    options: TargetOptions
    name = "target_propagation"

    def setup(self) -> None:
        self._begin()
        self.nodes = learning(self.plan, bottlenecks(self.plan))
        refuse_network(self.options, self.plan, self.nodes, self.model, self.name)
        penultimate = self.options.first_target == "penultimate"
        # Feedback goes through F once more, whose drop-out and statistics are to be the forward pass's.
        self.plan = self.plan.adapted(repeatable=True)
        self._blocks = self._cut(inside=True, received=self.nodes[-1:] if penultimate else ())
        self._received = self.nodes[-1] if penultimate else None
        refuse_flat(self.plan, self.model, self.name, self._received)
        self.maps: list[FeedbackMap] = []
        if self.options.feedback_steps > 1 and not any(note.startswith("feedback takes") for note in self.notes):
            self.notes.append(
                f"feedback takes {self.options.feedback_steps} steps of SGD a batch, handed over as their sum: plain SGD of rate "
                f"{self.options.feedback_lr:g} makes exactly them, an optimizer that rescales (Adam) does not"
            )

    @property
    def traits(self) -> Traits:
        """As of all rules with targets; several steps of feedback a batch depend on the whole batch."""
        return replace(super().traits, shares=self.options.feedback_steps == 1)

    @property
    def feedback_settings(self) -> dict[str, float]:
        """The feedback maps' learning rate, where it is not the network's."""
        return {} if self.options.feedback_lr is None else {"lr": self.options.feedback_lr}

    @property
    def keep_input_signal(self) -> bool:
        """Never: what a layer below the first node learns from is its own distance to a target, not the output's loss."""
        return False

    @keep_input_signal.setter
    def keep_input_signal(self, wanted: bool) -> None:
        if wanted:
            raise UserError(
                f"rule '{self.name}' sends targets from activation to activation and no signal on to the network's input: "
                "use rule=bp for the loss's gradient there"
            )

    # ------------------------------------------------------------ feedback

    def prepare(self, x: Tensor) -> None:
        """Make the feedback maps and their parameters (see `Rule.prepare`)."""
        like = next(iter(self._params.values())).detach()
        self.maps = self._make_maps(x)
        for one in self.maps:
            for name, value in one.begin(like, self.seed).items():
                self.feedback_parameters.make(name, value, self.model)
        self._refuse_vectors(one.synapse for one in self.maps)
        super().prepare(x)

    def _make_maps(self, x: Tensor) -> list[FeedbackMap]:
        shapes = self._shapes(x)
        uppers = [(op.name, op.out) for op in self.nodes[1:]]
        if self.options.first_target == "logits":
            uppers.append((OUTPUT, self.plan.exit))
        made = []
        for lower, (upper, slot) in zip(self.nodes, uppers, strict=False):
            where = f"feedback.{lower.name}.{upper}"
            synapse = synapses.make(self.options.synapses, shapes[lower.name], shapes[upper], where, self.name)
            made.append(FeedbackMap(lower, upper, Stretch(self.plan, lower.out, slot), synapse))
        return made[::-1]

    # ------------------------------------------------------------ the step

    def keeps(self, op: Activate) -> set[str]:
        """A node's z, and what derivatives need."""
        return {op.function.keeps, "output"} if self.is_node(op) else {op.function.keeps}

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        found = {op.name: op.post(run) for op in self.nodes} | {OUTPUT: logits}
        updates: dict[str, Tensor] = {}
        for one in self.maps:  # before the backward passes drop what the forward pass has kept
            updates |= one.learn(self.options, run, x, found[one.lower.name], found[one.upper])
        if run.dtype is not None:
            found = {name: value.float() for name, value in found.items()}
        signal, loss = self.loss(found[OUTPUT], y)
        sizes = torch.linalg.vector_norm(signal.flatten(1), dim=1) * run.batch
        errors = self._first(run, signal, updates)
        self._send(run, found, errors)
        share = 2.0 / run.batch
        starts = {op.out: errors[op.name] * share for op in self.nodes}
        if OUTPUT in errors:
            starts[self.plan.exit] = errors[OUTPUT] * share
        for name, update in self._blocks.backward(run, starts, self).items():
            # One that the head and a layer share has two.
            updates[name] = updates[name] + update if name in updates else update
        done = Computed(logits, loss, updates, sizes, run.stats)
        if self._keep_errors:
            done.errors = {name: errors[name] for name in found if name in errors}
            done.targets = {name: found[name] - error for name, error in done.errors.items()}
        return done

    def _first(self, run: RuleRun, signal: Tensor, updates: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return by how much the first node misses its target, and let the head learn where it learns from the loss.

        Args:
            run: of the forward pass.
            signal: derivative of the batch's mean loss by the logits; may be written over.
            updates: gets the head's.
        """
        step = self.options.target_step * run.batch
        if self._received is None:
            return {OUTPUT: signal * step}
        updates |= self.plan.backward_from(run, {self.plan.exit: signal}, self)
        arrived = run.arrived.pop(self._received.out)
        return {self._received.name: arrived.to(signal.dtype) * step}

    def _send(self, run: RuleRun, found: dict[str, Tensor], errors: dict[str, Tensor]) -> None:
        """Send targets down: add to ``errors``, z_l - t_l by name, those of the nodes below the first."""
        for one in self.maps:
            own, above, missed = one.parameters(run.params), found[one.upper], errors[one.upper]
            if self.options.difference:
                errors[one.lower.name] = one.difference(run, own, above, missed)
            else:
                errors[one.lower.name] = found[one.lower.name] - one.answer(run, own, above - missed).value


def refuse_network(chosen: TargetOptions, plan: Plan, nodes: Sequence[Activate], model: nn.Module, rule: str) -> None:
    """Refuse a network without activations for targets to be at; called before the plan is cut."""
    name = type(model).__name__
    if not nodes:
        inside = [op.name for op in hidden(plan)]
        why = (
            f"all of its activations ({', '.join(inside[:4])}{', ...' * (len(inside) > 4)}) stand on branches that others lead past"
            if inside
            else "it has no hidden activation that something learns below"
        )
        raise UserError(
            f"rule '{rule}' gives targets to activations that everything after them is computed from, but {name} has none: {why}. "
            "Use a chain of layers or of blocks (arch=mlp, lenet5, cifar_resnet), or rule=bp"
        )
    if len(nodes) == 1 and chosen.first_target == "penultimate":
        raise UserError(
            f"rule '{rule}' needs two activations in a chain, but {name} has '{nodes[0].name}' alone: the loss's gradient makes "
            "its target, so that no feedback map takes part and this is backprop. Write rule.first_target=logits, which gets there "
            "from the output, use a deeper network, or rule=bp"
        )


def refuse_flat(plan: Plan, model: nn.Module, rule: str, heard: Activate | None) -> None:
    """Refuse activations whose derivative is zero everywhere where a layer's loss has to pass them; called on the cut plan."""
    for op in plan.back:
        if not isinstance(op, Activate) or op.function.vjp is not None or not op.wants[0]:
            continue
        where = f"{op.args['name']} at '{op.name}' in {type(model).__name__}"
        if heard is not None and op.index > heard.index:
            raise UserError(
                f"rule '{rule}' takes the target of '{heard.name}' from the loss's gradient there, but that has to pass "
                f"{where}, whose derivative is zero everywhere; write rule.first_target=logits"
            )
        raise UserError(
            f"rule '{rule}' trains a layer by its squared distance to a target, whose derivative has to pass {where}, which is "
            "zero everywhere. Rules that train such networks: rec_lra, ste, lisp. To send discrete values between layers, as "
            "Lee et al. do, put the activation behind a smooth one (linear, tanh, sign)"
        )
