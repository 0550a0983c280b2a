"""Layer-wise feedback propagation (paper 2): a feedback given to the outputs is shared among the connections that made them.

Legend: a_i inputs and z_j outputs of a layer, r_j an output's feedback (positive: more of what it is), w_ji weights. The backward
pass carries ``-r / B``, so that updates come out as descent directions of the batch mean, as everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.backward import AddUpdates, BackwardPass
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Signals
from credit.engine.ops.spiking import Lif, Readout
from credit.engine.ops.surrogates import SLOPES
from credit.engine.ops.weighted import Weighted
from credit.rules.backward import normalizers
from credit.rules.base import Computed, Rule
from credit.rules.components import chosen_options, refuse_unread
from credit.rules.lfp import feedbacks, passage, relevance
from credit.rules.lfp.composite import assign
from credit.rules.lfp.crossing import Layer
from credit.rules.lfp.layers import counts_spikes, find_settled, nonnegative, rectified, silent_at_zero
from credit.rules.lfp.relevance import Relevance
from credit.rules.registry import fields, lookup, make, register
from credit.rules.shared import SharedOptions
from credit.rules.state import RuleRun

assert feedbacks and normalizers and relevance  # importing them registers their names
NOT_ZERO_AT_ZERO = ("step", "sign", "sigmoid", "hardsigmoid", "softplus")


@dataclass(frozen=True)
class LfpOptions(SharedOptions):
    """What belongs to the sweep of feedback itself.

    Attributes:
        relevance: how layers share feedback: a registered relevance rule, with options of its own.
        composite: other relevance rules for some layers: a selector (``linear``, ``conv``, ``first``, ``last``, a position
            counted from 0, or a pattern of names) to a rule's name; of several that fit, the later counts.
        feedback: the feedback function at the output; ``auto``: ``spiking`` where the logits are counts of spikes, else
            ``sigmoid`` (Eq. 7).
        normalizer: ``max_abs`` divides what arrives at each layer by its largest absolute value in the batch, in a spiking
            network at each time step, after adding what comes from the step's future (the authors' ``norm_backward``);
            ``auto``: on spiking networks (as in the paper), else ``none``.
        reduction: ``mean`` of the samples' updates, or their ``sum`` (an earlier version of the authors' code).
        dropout: ``pass``: a kept unit's feedback passes unchanged; ``gradient``: it is multiplied once more by mask / (1 - p),
            as in the authors' code.
        batchnorm: ``refuse``; ``epsilon``: one more layer under LFP-epsilon, the batch's statistics part of its map (the
            authors' code); ``folded``: one layer together with the weights before it.
        epsilon: the stabiliser of sums and averages too, whatever the layers' rule.
    """

    relevance: str = "epsilon"
    composite: dict[str, str] | None = None
    feedback: str = "auto"
    normalizer: Literal["auto", "none", "max_abs"] = "auto"
    reduction: Literal["mean", "sum"] = "mean"
    dropout: Literal["pass", "gradient"] = "pass"
    batchnorm: Literal["refuse", "epsilon", "folded"] = "refuse"
    epsilon: float = 1e-6


@register("rule", "lfp")
class LfpRule(Rule, BackwardPass[RuleRun]):
    """Feedback at the outputs, shared layer by layer (paper 2, Eqs. 2-13); updates have |w| in the place of w.

    Attributes:
        shares: each weighted op's relevance rule, by the op's place in the plan.
        settled: by a spiking neuron's or folded BatchNorm's place, the ops from there down to the layer it is one with.
        divided: those layers, whose signal was divided by their output already, further up.
        linear: the ops between, which that divided signal crosses by their adjoints.
        rectified: ops whose kept output was rectified in place, which loses nothing: there feedback is 0.
        nonnegative: slots of values that are never below 0.
        silent: slots of values that get no feedback where they are 0.
    """

    OPTIONS = LfpOptions
    name = "lfp"

    @classmethod
    def options(cls) -> dict[str, tuple[Any, Any]]:
        """Options of the rule and of every relevance rule and feedback function that could be chosen."""
        return super().options() | chosen_options(("relevance", "feedback"))

    def usual_clip_unit(self, options: Mapping[str, Any]) -> float | None:
        """0.06 (the paper's) on spiking networks, and where LFP-epsilon meets an activation that is not near 0 where z is.

        There a unit at its threshold hands on a whole feedback divided by nearly nothing.
        """
        words = set(assign(self.plan, options.get("relevance", "epsilon"), options.get("composite") or {}).values())
        jumps = any(isinstance(op, Activate) and op.args["name"] in NOT_ZERO_AT_ZERO for op in self.plan.back)
        spikes = any(isinstance(op, Lif) for op in self.plan.back)
        return 0.06 if spikes or (jumps and not words.isdisjoint(("zero", "epsilon"))) else None

    def setup(self, options: Mapping[str, Any]) -> None:
        self.choices: LfpOptions = make(self.OPTIONS, f"rule '{self.name}'", options)
        self.spiking = any(isinstance(op, Lif) for op in self.plan.back)
        if self.choices.epsilon <= 0:
            raise UserError(
                f"rule.epsilon={self.choices.epsilon:g} must be above 0: it keeps denominators from 0; the authors' is "
                "rule.epsilon=1e-6, and rule=lfp_0 is the rule without one"
            )
        self._choose(options)
        fold = self.choices.batchnorm == "folded"
        self.settled = find_settled(self.plan, fold)
        self.divided = {chain[-1].index for chain in self.settled.values()}
        self.linear = {op.index for chain in self.settled.values() for op in chain[:-1]}
        passage.refuse(self)
        self.silent = silent_at_zero(self.plan, bool(getattr(self.feedback, "silent_at_zero", False)))
        self.plan = self.plan.adapted(self)
        self.settled = find_settled(self.plan, fold)  # the ops of this plan
        self.rectified, self.nonnegative = rectified(self.plan), nonnegative(self.plan)
        self._refuse_unread_epsilon(options)
        self._note_frozen()
        self._note_surrogate()

    def _choose(self, options: Mapping[str, Any]) -> None:
        """Make the relevance rules, the feedback function and the normalizer that the options name."""
        words = assign(self.plan, self.choices.relevance, self.choices.composite or {})
        self._words = set(words.values())
        kinds = {word: lookup("relevance", word) for word in {self.choices.relevance, *words.values()}}
        name = self._feedback_name()
        feedback = lookup("feedback", name)
        self._refuse_output(feedback)
        refuse_unread(options, self, LfpOptions, {"relevance": kinds, "feedback": {name: feedback}})
        made = {word: make(cls, f"relevance '{word}'", options) for word, cls in kinds.items()}
        self.shares: dict[int, Relevance] = {at: made[word] for at, word in words.items()}
        self.feedback = make(feedback, f"feedback '{name}'", options)
        normalizer = self.choices.normalizer
        self.normalizer = lookup("normalizer", self._usual_normalizer() if normalizer == "auto" else normalizer)()

    def _refuse_output(self, feedback: Any) -> None:
        model = type(self.model).__name__
        if self.output_kind != "logits":
            raise UserError(
                f"rule '{self.name}' gives a feedback to each class's output, but {model} has one output, a probability; use a "
                "network with a logit for each class, or rule=bp"
            )
        if getattr(feedback, "needs_steps", False) and not counts_spikes(self.plan):
            some = any(isinstance(op, Readout) for op in self.plan.back)
            raise UserError(
                f"rule.feedback={self.choices.feedback} compares the spikes of each class with the number of steps, but "
                f"{'the logits of ' * some}{model} {'are no counts of spikes' if some else 'counts no spikes'}; write "
                "rule.feedback=sigmoid, or use arch=spiking_lenet"
            )

    def _refuse_unread_epsilon(self, options: Mapping[str, Any]) -> None:
        given, usual = self.choices.epsilon, LfpOptions.epsilon
        read = any("epsilon" in fields(type(rule)) for rule in self.shares.values())
        if given != usual and not read and not any(passage.stabilised_by(self, op) for op in self.plan.back):
            words = ", ".join(sorted({"rule.relevance=" + word for word in self._words}))
            raise UserError(
                f"rule.epsilon={given:g} would change nothing: {words} divides by no sum that it would keep from 0, and "
                f"{type(self.model).__name__} has no average, residual sum or BatchNorm in feedback's way; leave it out"
            )

    def _usual_normalizer(self) -> str:
        return "max_abs" if self.spiking else "none"

    def _feedback_name(self) -> str:
        if self.choices.feedback != "auto":
            return self.choices.feedback
        return "spiking" if counts_spikes(self.plan) else "sigmoid"

    def _note_surrogate(self) -> None:
        """Note a surrogate derivative that was chosen for the network and that feedback does not read."""
        usual = ("fast_sigmoid", SLOPES["fast_sigmoid"])
        units = next((op for op in self.plan.back if isinstance(op, Lif)), None)
        if units is None or (units.args["surrogate"], units.args["slope"]) == usual:
            return
        note = (
            f"unread: {units.describe()} has the surrogate derivative {units.args['surrogate']}, which LFP does not use"
        )
        if note not in self.notes:
            self.notes.append(note)

    def _note_frozen(self) -> None:
        params = {name: self._params[name] for name in self.plan.trainable}
        frozen = [name for name, p in params.items() if not bool(p.detach().any())]
        if frozen and not any(note.startswith("frozen:") for note in self.notes):
            more = f" and {len(frozen) - 6} more" if len(frozen) > 6 else ""
            self.notes.append(
                f"frozen: {', '.join(frozen[:6])}{more} are 0 everywhere, and layer-wise feedback propagation changes a parameter "
                "in proportion to its size, so they never move; initialise them away from 0 to train them "
                "(the scales of timm's ResNets: arch.zero_init_last=false)"
            )

    # ------------------------------------------------------------ the step

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        updates = self.plan.backward(run, self._output(run, logits, y), self)
        if self.choices.reduction == "sum":
            updates = {name: update * run.batch for name, update in updates.items()}
        loss, sizes = run.stats.pop("loss"), run.stats.pop("sizes")
        reached = None if run.entry is None else run.entry * -float(run.batch)
        return Computed(logits, loss, updates, sizes, run.stats, reached)

    def _output(self, run: RuleRun, logits: Tensor, y: Tensor) -> Tensor:
        logits = logits if self.dtype is None else logits.float()
        steps = {"steps": self._steps()} if getattr(self.feedback, "needs_steps", False) else {}
        r, run.stats["loss"] = self.feedback(logits, y, **steps)
        run.stats["sizes"] = torch.linalg.vector_norm(r, dim=1)
        signal: Tensor = r * (-1.0 / run.batch)
        return signal

    def _steps(self) -> int:
        return next(op.args["steps"] for op in self.plan.back if isinstance(op, Readout))

    def holds(self, op: Op) -> tuple[bool, bool]:
        return passage.holds(self, op)

    def keeps(self, op: Activate) -> set[str]:
        # A ReLU that is told something where it is 0 must not overwrite what it was made of.
        return set() if op.out in self.silent else {"input"}

    def visit(self, op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
        if isinstance(op, Weighted):
            return self._cross_layer(op, run, signal, add)
        return passage.PASSAGES[type(op)](self, op, run, signal, add)

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        signal = self.normalizer(op, run, signal)
        if self.watch:
            self.note_size(op, run, [signal])
        return signal

    def note_size(self, op: Weighted, run: RuleRun, signals: list[Tensor]) -> None:
        """Record the RMS of what arrived at a layer, over all time steps."""
        mean = torch.stack([signal.square().mean() for signal in signals]).mean()
        run.stats[op.name] = mean.sqrt() * run.batch

    def _cross_layer(self, op: Weighted, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
        layer = self.layer(op, run)
        if op.index in self.divided:
            updates, sent = layer.divided(signal, run.quotients.pop(op.index, None))
        else:
            r = self.arrive(op, run, signal)
            del signal
            own = op.exclusive and run.overwrite
            updates, sent = layer.shared(self.shares[op.index], r, run.held.pop(op.index)[1], own)
        add(updates.items())
        return (sent,)

    def layer(self, op: Weighted, run: RuleRun) -> Layer:
        """Return a layer of weights as relevance rules see it."""
        return Layer(op, run, op.inputs[0] in self.nonnegative, op.index in self.rectified)
