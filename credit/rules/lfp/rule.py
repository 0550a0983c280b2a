"""Layer-wise feedback propagation (paper 2): a feedback given to the outputs is shared among the connections that made them.

Legend: a_i inputs and z_j outputs of a layer, r_j an output's feedback (positive: more of what it is), w_ji weights. The backward
pass carries ``-r / B``, so that updates come out as descent directions of the batch mean, as everywhere.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from credit.core import registry
from credit.core.errors import UserError
from credit.core.options import of_class, written
from credit.engine.backward import AddUpdates, BackwardPass
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Signals
from credit.engine.ops.spiking import Readout
from credit.engine.ops.surrogates import SLOPES
from credit.engine.ops.weighted import Weighted
from credit.rules.base import Computed, Rule
from credit.rules.lfp import passage
from credit.rules.lfp.composite import assign
from credit.rules.lfp.crossing import Layer
from credit.rules.lfp.layers import find_settled, nonnegative, rectified, silent_at_zero, without_input
from credit.rules.lfp.options import LfpOptions
from credit.rules.lfp.relevance import Relevance
from credit.rules.state import RuleRun
from credit.rules.traits import Traits, counts_spikes, promises, units_over_time

NOT_ZERO_AT_ZERO = ("step", "sign", "sigmoid", "hardsigmoid", "softplus")


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
        weights: slots of values that no input reaches.
    """

    Options = LfpOptions
    options: LfpOptions
    name = "lfp"

    @property
    def traits(self) -> Traits:
        """Of one output a class; a sum over the batch does not add up as a mean does."""
        why = "gives a feedback to each class's output"
        refuses = dict.fromkeys(("probability", "numbers", "mixtures"), why)
        return Traits(refuses=refuses, shares=self.options.reduction == "mean")

    def usual_clip_unit(self) -> float | None:
        """0.06 (the paper's) on spiking networks, and where LFP-epsilon meets an activation that is not near 0 where z is.

        There a unit at its threshold hands on a whole feedback divided by nearly nothing.
        """
        words = set(assign(self.plan, self.options.relevance, self.options.composite or {}).values())
        jumps = any(isinstance(op, Activate) and op.args["name"] in NOT_ZERO_AT_ZERO for op in self.plan.back)
        return 0.06 if units_over_time(self.plan) or (jumps and not words.isdisjoint(("zero", "epsilon"))) else None

    def setup(self) -> None:
        self.spiking = units_over_time(self.plan) is not None
        self._choose()
        fold = self.options.batchnorm == "folded"
        self.settled = find_settled(self.plan, fold)
        self.divided = {chain[-1].index for chain in self.settled.values()}
        self.linear = {op.index for chain in self.settled.values() for op in chain[:-1]}
        passage.refuse(self)
        self.silent = silent_at_zero(self.plan, promises(self.feedback, "silent_at_zero"))
        self.plan = self.plan.adapted(self)
        self.settled = find_settled(self.plan, fold)  # the ops of this plan
        self.rectified, self.nonnegative = rectified(self.plan), nonnegative(self.plan)
        self.weights = without_input(self.plan)
        self._refuse_unread_epsilon()
        self._note_frozen()
        self._note_surrogate()

    def _choose(self) -> None:
        """Choose the relevance rules, the feedback function and the normalizer by the options and the network."""
        composite = self.options.composite or {}
        words = assign(self.plan, self.options.relevance, composite)
        self._words = set(words.values())
        made = {word: self.components[f"composite.{selector}"] for selector, word in composite.items()}
        made[self.options.relevance] = self.components["relevance"]
        self._refuse_unread(made)
        self.shares: dict[int, Relevance] = {at: made[word] for at, word in words.items()}
        usual = "spiking" if counts_spikes(self.plan) else "sigmoid"
        chosen = self.components.get("feedback")
        self.feedback = registry.find("feedback", usual).load()() if chosen is None else chosen
        normalizer = self.options.normalizer
        usual = "max_abs" if self.spiking else "none"
        self.normalizer = registry.find("normalizer", usual if normalizer == "auto" else normalizer).load()()

    def _refuse_unread(self, made: Mapping[str, Relevance]) -> None:
        """Refuse an option of a relevance rule that the composite names and that no layer of this network takes."""
        read = {self.options.relevance, *self._words}
        options = {word: of_class(registry.find("relevance", word).options) for word in made}
        known = set(of_class(LfpOptions)).union(*(options[word] for word in read))
        for word in made.keys() - read:
            for name, option in options[word].items():
                if name not in known and getattr(made[word], name) != option.default:
                    raise UserError(
                        f"rule.{name}={written(getattr(made[word], name))} would change nothing: no layer of "
                        f"{type(self.model).__name__} takes rule.relevance={word}"
                    )

    def _refuse_unread_epsilon(self) -> None:
        given, usual = self.options.epsilon, LfpOptions.epsilon
        read = any(hasattr(rule, "epsilon") for rule in self.shares.values())
        if given != usual and not read and not any(passage.stabilised_by(self, op) for op in self.plan.back):
            words = ", ".join(sorted({"rule.relevance=" + word for word in self._words}))
            raise UserError(
                f"rule.epsilon={given:g} would change nothing: {words} divides by no sum that it would keep from 0, and "
                f"{type(self.model).__name__} has no average, residual sum or BatchNorm in feedback's way; leave it out"
            )

    def _note_surrogate(self) -> None:
        """Note a surrogate derivative that was chosen for the network and that feedback does not read."""
        usual = ("fast_sigmoid", SLOPES["fast_sigmoid"])
        units = units_over_time(self.plan)
        if units is None or (units.args["surrogate"], units.args["slope"]) == usual:
            return
        note = (
            f"unread: {units.describe()} has the surrogate derivative {units.args['surrogate']}, which LFP does not use"
        )
        if note not in self.notes:
            self.notes.append(note)

    def _note_frozen(self) -> None:
        params = self.effective_params()
        frozen = [name for name in self.plan.learned if not bool(params[name].detach().any())]
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
        if self.options.reduction == "sum":
            updates = {name: update * run.batch for name, update in updates.items()}
        loss, sizes = run.stats.pop("loss"), run.stats.pop("sizes")
        reached = None if run.entry is None else run.entry * -float(run.batch)
        return Computed(logits, loss, updates, sizes, run.stats, reached)

    def _output(self, run: RuleRun, logits: Tensor, y: Tensor) -> Tensor:
        logits = logits if self.dtype is None else logits.float()
        steps = {"steps": self._steps()} if getattr(self.feedback, "needs_steps", False) else {}
        r, run.stats["loss"] = self.task.score(self.feedback, logits, y, **steps)
        run.stats["sizes"] = torch.linalg.vector_norm(r.flatten(1), dim=1)
        return r * (-1.0 / logits.shape[: 1 + self.task.positions].numel())

    def _steps(self) -> int:
        return next(op.args["steps"] for op in self.plan.back if isinstance(op, Readout))

    def holds(self, op: Op) -> tuple[bool, bool]:
        return passage.holds(self, op)

    def keeps(self, op: Activate) -> set[str]:
        # A ReLU that receives feedback where it is 0 must not overwrite what it was made of.
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
