"""The sweep family: output signal, gate, transport and normalizer are four choices, and a rule is their product."""

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

import torch
from torch import Tensor, nn

from credit.core import registry
from credit.core.errors import UserError
from credit.core.options import of_class
from credit.engine.activity import Separation, batch_norm, separation
from credit.engine.backward import AddUpdates, BackwardPass
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Rows, Signals
from credit.engine.ops.spiking import Lif, Readout
from credit.engine.ops.weighted import Weighted
from credit.rules.backward import adversarial, feedback_weights, gains, reach
from credit.rules.backward.options import SweepOptions
from credit.rules.base import Computed, Rule
from credit.rules.state import RuleRun, copies

_COMPONENTS = ("loss", "gate", "feedback_weights", "normalizer")
# Share of active samples up to which a sparse sweep is the faster one, its gathers included.
PAYS = 0.75


class SweepRule(Rule, BackwardPass[RuleRun]):
    """One forward pass, one signal sent back. See ``SweepOptions`` and the registered components.

    Attributes:
        sparse: whether steps look for samples without a signal, to leave them out.
    """

    Options = SweepOptions
    options: SweepOptions
    name = "sweep"

    def setup(self) -> None:
        self.signal, self.gating, self.transport, self.normalizer = (self.components[name] for name in _COMPONENTS)
        self.keeps_output = self.transport.direct
        self.plan = self.plan.adapted(self)
        self._refuse_output()
        self._refuse_spiking()
        self.readout = self._summed_output()
        self._refuse_activations()
        reach.check(self, self.transport)
        self.attack = adversarial.make(self.plan, self.options.fgsm_epsilon, self.options.adversarial_share)
        self._separations: dict[torch.Size, Separation] = {}
        self.sparse = self._may_skip()
        self.learnt = feedback_weights.attach(self, self.transport, self._crossed())
        if not (self.transport.direct or self.transport.learns):
            self._make_feedback([op for op in self._crossed() if not op.operands])

    def _refuse_output(self) -> None:
        """Refuse a signal that cannot score what the model returns."""
        if self.output_kind == "logits":
            return
        word, model = self.options.loss, type(self.model).__name__
        losses = {one.name: one.load() for one in registry.registered("loss")}
        able = {name: cls for name, cls in losses.items() if hasattr(cls, "of_probability")}
        if word not in able:
            raise UserError(
                f"rule '{self.name}' compares the logits of classes (rule.loss={word}), but {model} gives one number, the "
                f"probability of class 1. Signals that take it: {', '.join(able)}. Write rule=bp, which has rule.loss=ce"
            )
        makes = next(op for op in self.plan.ops if op.out == self.plan.exit)
        if why := self.signal.unfit(makes):
            others = ", ".join(f"rule.loss={name}" for name, cls in able.items() if cls().unfit(makes) is None)
            raise UserError(f"rule.loss={word} cannot score the output of {model}: {why}. Write {others}")
        if getattr(self.normalizer, "needs_several", False):
            raise UserError(
                f"rule.normalizer={self.options.normalizer} brings every sample's signal to one size, but the output of {model} is "
                "one number: only its sign would be left, which is the label's whatever the answer. Write rule.normalizer=none"
            )

    def _refuse_spiking(self) -> None:
        """Refuse what has no meaning for units over time, whose values are (steps * batch, ...) and whose gate is their own."""
        units = next((op for op in self.plan.ops if isinstance(op, Lif)), None)
        if units is None:
            return
        told = f"{units.describe()} in {type(self.model).__name__}"
        if self.options.gate != "derivative":
            raise UserError(
                f"rule.gate={self.options.gate} says what multiplies a signal at an activation, but {told} is a unit over time, "
                "whose signal passes the surrogate derivative of every step and the membrane's past. Write rule.gate=derivative "
                "(rule=bp, fa, usf, frsf, brsf), or an LFP rule"
            )
        if self.transport.direct:
            raise UserError(
                f"rule.feedback_weights={self.options.feedback_weights} sends the output error, one row an image, straight to "
                f"every layer, but from {told} on there are {units.args['steps']} rows an image, one a time step. Write "
                "rule.feedback_weights=transpose (rule=bp) or fixed_random (rule=fa)"
            )
        if getattr(self.normalizer, "not_over_time", False):
            raise UserError(
                f"rule.normalizer={self.options.normalizer} acts on a signal that arrives at a layer once, but from {told} on a "
                f"layer gets one at each of {units.args['steps']} time steps, its own future part of it, and surrogate "
                "derivatives pass on what was not normalised. Write rule.normalizer=none, or use an LFP rule, whose max_abs "
                "divides inside the units' recursion"
            )

    def _summed_output(self) -> Readout | None:
        """Return the readout whose steps the signal scores, where it scores steps; refuse a network without one."""
        if not getattr(self.signal, "over_time", False):
            return None
        readout = next((op for op in self.plan.ops if isinstance(op, Readout) and op.out == self.plan.exit), None)
        model, word = type(self.model).__name__, self.options.loss
        if readout is None:
            raise UserError(
                f"rule.loss={word} scores the output at each time step, but the logits of {model} are not a sum over time steps: "
                "end the network with SpikeCount (arch=spiking_lenet, spiking_mlp), or write rule.loss=ce"
            )
        if self.options.fgsm_epsilon is not None:
            raise UserError(
                f"rule.fgsm_epsilon={self.options.fgsm_epsilon:g} follows the gradient of one score an image, but "
                f"rule.loss={word} scores every time step: write rule.loss=ce, or rule.fgsm_epsilon=null"
            )
        return readout

    def _refuse_activations(self) -> None:
        gated = [op for op in self.plan.ops if isinstance(op, Activate) and any(op.wants)]
        if not gated and getattr(self.gating, "needs_activations", False):
            raise UserError(
                f"rule.gate={self.options.gate} would change nothing: no signal meets an activation in "
                f"{type(self.model).__name__}. Use a network that has one (a linear one with arch.activation=identity), or "
                "rule=bp"
            )
        for op in gated:
            if (
                self._compiled is not None
                and (bound := getattr(self.gating, "eager_only", None))
                and (why := bound(op))
            ):
                raise UserError(why)
            if why := self.gating.refusal(op):
                able = [
                    one.name
                    for one in registry.registered("gate")
                    if all(option.default is not MISSING for option in of_class(one.options).values())
                    and one.load()().refusal(op) is None
                ]
                raise UserError(
                    f"rule.gate={self.options.gate} cannot take {op.args['name']} at '{op.name}' in "
                    f"{type(self.model).__name__}: {why}. "
                    f"Gates that take it: {', '.join(able)}"
                )

    def _makes_updates(self) -> bool:
        return type(self).compute is SweepRule.compute

    # ------------------------------------------------------------ satisfied samples

    def _may_skip(self) -> bool:
        """Whether steps look for samples to leave out; refuse ``sparse=true`` where they never could."""
        wanted = self.options.sparse
        if wanted is False:
            return False
        if (why := self._never_skips()) is None:
            return wanted is True or _skips(self.signal)
        if wanted is True:
            raise UserError(
                f"rule.sparse=true leaves satisfied samples out of the sweep, but {why}; write rule.sparse=auto, which "
                "is dense there"
            )
        return False

    def _never_skips(self) -> str | None:
        if self.plan.to_input:
            return "every sample's signal is asked for at the input"
        if (units := next((op for op in self.plan.ops if isinstance(op, Lif)), None)) is not None:
            return f"from {_where(units, self.model)} on a sample has a row for every time step"
        if (norm := batch_norm(self.plan)) is not None:
            return f"{_where(norm, self.model)} normalises by the batch's statistics, through which every sample acts on all"
        if self._compiled is not None:
            return "a compiled step has one shape for every batch"
        for family in _COMPONENTS[1:]:
            if not _skips(self.components[family]):
                word = getattr(self.options, family)
                return f"rule.{family}={word} does not say 'skips = True' in its class, or not with these options"
        for method in ("arrive", "gate", "backproject"):
            if getattr(type(self), method) is not getattr(SweepRule, method):
                return f"rule '{self.name}' has a '{method}' of its own, which may mix samples"
        return None

    def _active(self, run: RuleRun, x: Tensor, signal: Tensor) -> Tensor:
        """Return the signal of the samples that have one, noted in ``run.rows``; all of it where nothing is left out."""
        forced, batch = self.options.sparse is True, x.shape[0]
        if batch < 2 or (x.device.type != "cpu" and not forced):
            return signal
        index = signal.any(1).nonzero().squeeze(1)
        count = index.shape[0]
        # With no signal at all nothing arrives anywhere, so a watched step is swept for its zeros.
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
        run = self._run(self._params, copies(self._model_buffers()), Draws(self.seed, self.position, x.device))
        found = separation(self.plan, run, x)
        if found.coupling is not None and self.options.sparse is True:
            raise UserError(
                f"rule.sparse=true leaves satisfied samples out of the sweep, but {_where(found.coupling, self.model)} "
                "mixes samples, or is not known not to; write rule.sparse=auto, which is dense there"
            )
        return found

    # ------------------------------------------------------------ feedback

    def prepare(self, x: Tensor) -> None:
        """Make the feedback matrices that need shapes, unless they were set or loaded already."""
        crossed = [op for op in self._crossed() if self.transport.direct or op.operands]
        if self.transport.replaces and crossed:
            run = self._run(self._params, copies(self._model_buffers()), Draws(self.seed, self.position, x.device))
            with torch.no_grad():
                logits = self.plan.forward(run, gains.inputs(x, self.seed))
                self._make_feedback(crossed, run, logits)
        super().prepare(x)

    def _crossed(self) -> list[Weighted]:
        return [op for op in self.plan.back if isinstance(op, Weighted) and op.wants[0]]

    def _make_feedback(self, ops: Sequence[Weighted], run: RuleRun | None = None, logits: Tensor | None = None) -> None:
        """Make the matrices of some ops; those that need shapes, or whose weight is computed, after a forward pass (``run``)."""
        classes, needed = 0 if logits is None else logits.shape[1], []
        for op in ops:
            if "weight" in op.params:
                weight = self._params[op.params["weight"]].detach()
            else:
                assert run is not None
                weight = op.weight(run).to(next(iter(self._params.values())).dtype)
            needed.append((op, weight, None if run is None else op.input_shape(run)))
        found = gains.Gains(self).measure(run, logits) if self.transport.direct and run and logits is not None else {}
        for op, weight, shape in needed:
            for name, value in self.transport.feedback(op, weight, shape, classes, self.seed).items():
                gain = found.get(op.name)
                self.buffers.make(name, value if gain is None else self.transport.rescaled(value, gain, classes))

    # ------------------------------------------------------------ the step

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        if self.attack is not None:
            attacked = self._run(params, buffers, draws, self.attack.plan)
            x = self.attack(attacked, x, lambda run, logits: self._output(run, logits, y))
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        # The signal is handed over, not held here, so that its memory is free while the sweep goes on.
        if self.sparse and type(draws) is Draws:
            updates = self.plan.backward(run, self._active(run, x, self._output(run, logits, y)), self)
        else:
            updates = self.plan.backward(run, self._output(run, logits, y), self)
        loss, sizes = run.stats.pop("loss"), run.stats.pop("sizes")
        reached = None if run.entry is None else run.entry * run.batch
        return Computed(logits, loss, updates, sizes, run.stats, reached)

    def _output(self, run: RuleRun, logits: Tensor, y: Tensor) -> Tensor:
        """Return the output signal, leaving the loss and the signal's size per sample in ``run.stats``."""
        score = self.signal
        if self.output_kind == "probability":
            if logits.shape[1:] != (1,):
                raise ValueError("a probability is one column")  # told better by batch_checks.explain
            score = self.signal.of_probability
        if self.readout is not None:
            spikes = self.readout.spikes(run)
            logits, y = spikes.flatten(0, 1), y.repeat(len(spikes))
        signal: Tensor
        signal, run.stats["loss"] = score(logits if self.dtype is None else logits.float(), y)
        steps = signal.shape[0] != run.batch  # of a spiking network: (steps * B, classes)
        rows = signal.unflatten(0, (-1, run.batch)).transpose(0, 1).flatten(1) if steps else signal
        run.stats["sizes"] = torch.linalg.vector_norm(rows, dim=1) * run.batch
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
            mask = run.draws.get(f"signal_dropout.{op.name}", "uniform", shape, signal.dtype) < keep
            signal = signal * (mask if run.rows is None else mask[run.rows.index]) / keep
        if self.watch:
            run.stats[op.name] = (signal.square().mean() * (run.present / run.batch)).sqrt() * run.batch
        return signal

    def gate(self, op: Activate, run: RuleRun, signal: Tensor) -> Tensor:
        passed: Tensor = self.gating(op, run, signal)
        return passed

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        sent: Tensor = self.transport.backproject(op, run, signal)
        return sent


def _skips(component: Any) -> bool:
    # Asked of its own class: what a parent says need not hold for it.
    return "skips" in vars(type(component)) and bool(component.skips)


def _where(op: Op, model: nn.Module) -> str:
    return f"{op.describe()} in {type(model).__name__}"
