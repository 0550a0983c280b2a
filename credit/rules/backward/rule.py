"""Rules of one backward pass: loss, gate, feedback weights and normalizer are four choices, and a rule is their product."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.activity import Separation, batch_norm, separation
from credit.engine.backward import AddUpdates, BackwardPass
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Rows, Signals
from credit.engine.ops.weighted import Conv, Weighted
from credit.rules.backward import gains, learned_feedback, reach
from credit.rules.backward.options import BackwardOptions
from credit.rules.base import Computed, Rule
from credit.rules.state import RuleRun, copies
from credit.rules.traits import FEEDBACK, GATE, NORMALIZER, Traits, of_component, summed_output, units_over_time

_COMPONENTS = ("loss", "gate", "feedback_weights", "normalizer")
# Share of active samples up to which a sparse backward pass is the faster one, its gathers included.
PAYS = 0.75


class BackwardRule(Rule, BackwardPass[RuleRun]):
    """One forward pass, one backward pass. See ``BackwardOptions`` and the registered components.

    Attributes:
        sparse: whether steps look for samples without a signal, to leave them out.
    """

    Options = BackwardOptions
    options: BackwardOptions
    name = "sweep"

    @property
    def traits(self) -> Traits:
        """Methods of a subclass's own are treated as components that declare nothing."""
        own = {"gate": GATE, "arrive": NORMALIZER, "backproject": FEEDBACK}
        refuses = [why for name, why in own.items() if getattr(type(self), name) is not getattr(BackwardRule, name)]
        return Traits(refuses=refuses[0] if refuses else {}, shares=True)

    def setup(self) -> None:
        self.loss, self.gating, self.feedback_weights, self.normalizer = (self.components[name] for name in _COMPONENTS)
        self.keeps_output = self.feedback_weights.direct
        self.plan = self.plan.adapted(self)
        stepwise = "summed_steps" in of_component(self.loss, "loss").needs
        self.readout = summed_output(self.plan) if stepwise else None
        reach.check(self, self.feedback_weights)
        self._separations: dict[torch.Size, Separation] = {}
        self.sparse = self._may_skip()
        self.feedback_parameters = learned_feedback.attach(self, self.feedback_weights, self._crossed())
        if not (self.feedback_weights.direct or self.feedback_weights.learns):
            self._make_feedback([op for op in self._crossed() if not op.operands])

    def _makes_updates(self) -> bool:
        return type(self).compute is BackwardRule.compute

    # ------------------------------------------------------------ satisfied samples

    def _may_skip(self) -> bool:
        """Whether steps look for samples to leave out; refuse ``sparse=true`` where they never could."""
        wanted = self.options.sparse
        if wanted is False:
            return False
        if (why := self._never_skips()) is None:
            return wanted is True or of_component(self.loss, "loss").sparse
        if wanted is True:
            raise UserError(
                f"rule.sparse=true leaves satisfied samples out of the backward pass, but {why}; write rule.sparse=auto, which "
                "is dense there"
            )
        return False

    def _never_skips(self) -> str | None:
        if self.plan.to_input:
            return "every sample's signal is asked for at the input"
        if (units := units_over_time(self.plan)) is not None:
            return f"from {_where(units, self.model)} on a sample has a row for every time step"
        if (norm := batch_norm(self.plan)) is not None:
            return f"{_where(norm, self.model)} normalises by the batch's statistics, through which every sample acts on all"
        if self.compiled:
            return "a compiled step has one shape for every batch"
        for family in _COMPONENTS[1:]:
            if not of_component(self.components[family], family).per_sample:
                word = getattr(self.options, family)
                return f"rule.{family}={word} does not declare traits = credit.Traits(per_sample=True), or not with these options"
        for method in ("visit", "arrive", "gate", "backproject"):
            if getattr(type(self), method) is not getattr(BackwardRule, method):
                return f"rule '{self.name}' has a '{method}' of its own, which may mix samples"
        return None

    def _active(self, run: RuleRun, x: Tensor, signal: Tensor) -> Tensor:
        """Return the signal of the samples that have one, noted in ``run.rows``; all of it where nothing is left out."""
        forced, batch = self.options.sparse is True, x.shape[0]
        if batch < 2 or (x.device.type != "cpu" and not forced):
            return signal
        if self.share is not None and of_component(self.normalizer, "normalizer").largest:
            return (
                signal  # processes exchange the largest value at each layer, also those whose samples are all satisfied
            )
        index = signal.flatten(1).any(1).nonzero().squeeze(1)
        count = index.shape[0]
        # With no signal at all nothing arrives anywhere, so a watched step goes through the backward pass for its zeros.
        pays = count < batch and (count <= PAYS * batch or forced) and not (count == 0 and self.watch)
        # What is forced is refused at the first batch where it cannot be; else only a step that gains looks.
        found = self._separations.get(x.shape)
        if found is None and (pays or forced):
            found = self._separations[x.shape] = self._separate(x)
        if found is None or found.coupling is not None or not pays:
            return signal
        run.rows = Rows(index, found.carried)
        signal = signal.index_select(0, index)
        if self.keeps_output:
            run.error = signal
        return signal

    def _separate(self, x: Tensor) -> Separation:
        run = self._run(
            self.effective_params(), copies(self._model_buffers()), Draws(self.seed, self.position, x.device)
        )
        found = separation(self.plan, run, x)
        if found.coupling is not None and self.options.sparse is True:
            raise UserError(
                f"rule.sparse=true leaves satisfied samples out of the backward pass, but {_where(found.coupling, self.model)} "
                "mixes samples, or is not known not to; write rule.sparse=auto, which is dense there"
            )
        return found

    # ------------------------------------------------------------ feedback

    def prepare(self, x: Tensor) -> None:
        """Make the feedback matrices that need shapes, unless they were set or loaded already."""
        crossed = [op for op in self._crossed() if self.feedback_weights.direct or op.operands]
        if self.feedback_weights.replaces and crossed:
            run = self._run(
                self.effective_params(), copies(self._model_buffers()), Draws(self.seed, self.position, x.device)
            )
            with torch.no_grad():
                logits = self.plan.forward(run, gains.inputs(x, self.seed))
                self._make_feedback(crossed, run, logits)
        super().prepare(x)

    def _crossed(self) -> list[Weighted]:
        return [op for op in self.plan.back if isinstance(op, Weighted) and op.wants[0]]

    def _make_feedback(self, ops: Sequence[Weighted], run: RuleRun | None = None, logits: Tensor | None = None) -> None:
        """Make the matrices of some ops; those that need shapes, or whose weight is computed, after a forward pass (``run``)."""
        needed, weights = [], self.effective_params()
        for op in ops:
            if "weight" in op.params:
                weight = weights[op.params["weight"]].detach()
            else:
                assert run is not None
                weight = op.weight(run).to(next(iter(self._params.values())).dtype)
            needed.append((op, weight, None if run is None else op.input_shape(run)))
        found = (
            gains.Gains(self).measure(run, logits)
            if self.feedback_weights.direct and run and logits is not None
            else {}
        )
        for op, weight, shape in needed:
            errors, shape = (0, shape) if logits is None or shape is None else self._sent(op, shape, logits.shape)
            for name, value in self.feedback_weights.feedback(op, weight, shape, errors, self.seed).items():
                gain = found.get(op.name)
                self.buffers.make(name, value if gain is None else self.feedback_weights.rescaled(value, gain, errors))

    def _sent(self, op: Weighted, shape: torch.Size, outputs: torch.Size) -> tuple[int, torch.Size]:
        """Return how many output errors direct feedback sends to an op's input, and that input's shape (B, ...).

        Of outputs at positions (B, T, V) each position's V errors are sent to the same position of an input (B, T, ...), so that no
        error reaches another position, and all T * V to an input of another shape.
        """
        rank = 1 + self.task.positions
        if len(shape) > rank > 1 and shape[:rank] == outputs[:rank] and not isinstance(op, Conv):
            return outputs[rank:].numel(), torch.Size((shape[0], *shape[rank:]))
        return outputs[1:].numel(), shape

    # ------------------------------------------------------------ the step

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        # The signal is handed over, not held here, so that its memory is free during the backward pass.
        if self.sparse and type(draws) is Draws:
            updates = self.plan.backward(run, self._active(run, x, self._output(run, logits, y)), self)
        else:
            updates = self.plan.backward(run, self._output(run, logits, y), self)
        loss, sizes = run.stats.pop("loss"), run.stats.pop("sizes")
        reached = None if run.entry is None else run.entry * run.batch
        return Computed(logits, loss, updates, sizes, run.stats, reached)

    def _output(self, run: RuleRun, logits: Tensor, y: Tensor) -> Tensor:
        """Return the output signal, leaving the loss and the signal's size per sample in ``run.stats``."""
        if self.readout is not None:
            spikes = self.readout.spikes(run)
            logits, y = spikes.flatten(0, 1), y.repeat(len(spikes))
        signal, run.stats["loss"] = self.task.score(self.loss, logits if self.dtype is None else logits.float(), y)
        steps = signal.shape[0] != run.batch  # of a spiking network: (steps * B, classes)
        rows = signal.unflatten(0, (-1, run.batch)).transpose(0, 1) if steps else signal
        run.stats["sizes"] = torch.linalg.vector_norm(rows.flatten(1), dim=1) * run.batch
        if self.keeps_output:
            run.error = signal
        return signal

    def visit(self, op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
        # A signal that scores steps begins at the readout's input.
        return (signal,) if op is self.readout else super().visit(op, run, signal, add)

    def keeps(self, op: Activate) -> set[str]:
        kept: set[str] = self.gating.keeps(op)
        return kept

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        signal = self.normalizer(op, run, signal)
        if self.options.signal_dropout:
            keep = 1 - self.options.signal_dropout
            # The whole batch's draw, so that leaving samples out changes nothing.
            shape = tuple(signal.shape) if run.rows is None else (run.batch, *signal.shape[1:])
            mask = run.draws.get(f"signal_dropout.{op.name}", "uniform", shape, signal.dtype, True) < keep
            signal = signal * (mask if run.rows is None else mask[run.rows.index]) / keep
        if self.watch:
            run.stats[op.name] = (signal.square().mean() * (run.present / run.batch)).sqrt() * run.batch
        return signal

    def gate(self, op: Activate, run: RuleRun, signal: Tensor) -> Tensor:
        passed: Tensor = self.gating(op, run, signal)
        return passed

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        sent: Tensor = self.feedback_weights.backproject(op, run, signal)
        return sent


def _where(op: Op, model: nn.Module) -> str:
    return f"{op.describe()} in {type(model).__name__}"
