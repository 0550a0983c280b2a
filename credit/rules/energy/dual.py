"""Dual propagation (paper 3): every activation has two states that the output's nudge drives apart, and no gradients.

One inference finds the states: what a state sends below is its states' difference, what it sends above their mean. Weights then
learn from the product of the two. What can be chosen is in `credit.rules.energy.options`, the states are in
`credit.rules.energy.dyads`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.draws import Draws
from credit.engine.inference.program import Program
from credit.engine.inference.recorder import Recorder
from credit.engine.inference.segments import Segments
from credit.engine.ops.pools import AdaptivePool, MaxPool
from credit.rules.base import Computed, Rule
from credit.rules.energy import states
from credit.rules.energy.dyads import Dyads, Inference, constants
from credit.rules.energy.options import DualOptions
from credit.rules.energy.schedules import order
from credit.rules.outcome import InferenceDiverged
from credit.rules.state import copies
from credit.rules.traits import Traits

PROJECTIONS = ("relu", "relu6", "hardtanh", "identity")


class DualRule(Rule):
    """Dual propagation and its relatives (paper 3, Eqs. 2, 3, 19, 22, 45, 50).

    Attributes:
        segments: the network's states and the linear maps between them.
        keep_states: whether steps return both states of every unit (``Step.states``); settable.
    """

    Options = DualOptions
    options: DualOptions
    name = "dual"

    def setup(self) -> None:
        self._keep_states = getattr(self, "_keep_states", False)
        states.refuse_local(self)
        self.plan = self.plan.adapted(
            to_input=self.plan.to_input or self.options.input_robustness,
            frozen_norms=self.options.batchnorm == "frozen",
            pool_first=self.options.pool_first,
        )
        self.segments = Segments(self.plan, self.model, self.name, with_input=self.options.input_robustness)
        self.dyads = constants(self.options, self.segments, type(self.model).__name__)
        refuse_damping(self.options, self.segments, type(self.model).__name__)
        refuse_switches(self.options, self.segments, type(self.model).__name__)
        states.note_no_hidden(self)
        self.feedback_weights = states.feedback_weights(self, self.options.feedback_weights)
        self.feedback_parameters = states.make_feedback(self, self.feedback_weights)
        self.loss = states.TaskLoss(self)
        self._programs: dict[tuple[bool, bool], Program] = {}
        self._refuse_schedule()

    @property
    def traits(self) -> Traits:
        """As of all rules with states; a schedule drawn anew at each step is not compiled."""
        random = (
            "draws another order at every step (rule.schedule=random), which a compiled step cannot: leave out trainer.compile, or "
            "write rule.schedule=fwbw"
        )
        return replace(states.traits(self), not_compiled=random if self.options.schedule == "random" else "")

    @property
    def freezes_norms(self) -> bool:
        """As ``rule.batchnorm=frozen`` says."""
        return self.options.batchnorm == "frozen"

    @property
    def reference(self) -> dict[str, Any]:
        """Backprop on the same loss."""
        return states.reference(self)

    @property
    def keep_states(self) -> bool:
        """Whether steps return both states of every unit; settable."""
        return self._keep_states

    @keep_states.setter
    def keep_states(self, wanted: bool) -> None:
        if wanted:
            self.refuse_compiled("return its states")
        self._keep_states = wanted

    @property
    def keep_input_signal(self) -> bool:
        """Whether steps return the error signal at the network's input; settable where the input has no state of its own."""
        return self.plan.to_input and not self.options.input_robustness

    @keep_input_signal.setter
    def keep_input_signal(self, wanted: bool) -> None:
        if wanted and self.options.input_robustness:
            raise UserError(
                "rule.input_robustness=true: the input has a state of its own, moved by the error signal that reaches it; leave "
                "it out to get the signal at the input"
            )
        if not self.options.input_robustness:
            Rule.keep_input_signal.fset(self, wanted)  # type: ignore[attr-defined]  # mypy knows no setter of a property

    @property
    def _at_plus(self) -> bool:
        return self.options.switches == "plus"

    # ------------------------------------------------------------ schedules

    def _refuse_schedule(self) -> None:
        if self.options.schedule == "random":
            count = self.segments.last + 1 - self.segments.first
            if self.options.passes < count and not any(note.startswith("random order:") for note in self.notes):
                self.notes.append(
                    f"random order: rule.passes={self.options.passes} reach the first of {count} states by luck alone, and layers "
                    f"that a step does not reach learn nothing of it; rule.passes={count} are sure to"
                )
            return
        if (missing := self._recorded(False, False).unreached) and self.options.schedule == "fw":
            last = self.segments.last
            needed = next(n for n in range(2, last + 2) if not self._recorded(False, False, passes=n).unreached)
            raise UserError(
                f"rule.schedule=fw with rule.passes={self.options.passes} never reaches {missing[-1].describe()}: each pass takes "
                f"the output's nudge one layer down, so that {type(self.model).__name__} needs rule.passes={needed}; or write "
                "rule.schedule=fwbw, which needs one"
            )

    # ------------------------------------------------------------ the step

    def _recorded(self, keep: bool, marks: bool, *, passes: int | None = None, position: int = 0) -> Program:
        """Return the program of the schedule's updates, with a mark after each pass where asked for."""
        chosen, last = self.options, self.segments.last
        rounds = order(chosen.schedule, passes or chosen.passes, self.segments.first, last, seeds=(self.seed, position))
        recorder = Recorder(self.segments, Dyads, to_input=self.keep_input_signal, at_plus=self._at_plus)
        recorder.begin()
        closed = chosen.variant == "lpom"
        if chosen.damped:
            recorder.call(Dyads.damp, last, everything=True)
        if marks:
            recorder.call(Dyads.mark, last)
        left = [number for one in rounds for number in one]
        final: set[int] = set(range(self.segments.first, last + 1)) - set(left)
        for one in rounds:
            for number in one:
                if closed:
                    for child in sorted(self.segments.by_number[number].children, reverse=True):
                        recorder.compare(child, Dyads.compare)
                once = number == last and chosen.nudge == "frozen" and not keep and not closed
                damped = chosen.damped and number != last
                recorder.update(number, always=damped, once=once, still=self.dyads[number].still and not damped)
                left.pop(0)
                if number not in left:
                    final.add(number)
                    recorder.settle(final, compare=Dyads.compare if closed else None)
            if marks:
                recorder.call(Dyads.mark, last)
        if closed and (keep or self.keep_input_signal):
            for number in range(1, last + 1):
                recorder.compare(number, Dyads.compare)
        return recorder.program()

    def _program(self, position: int | None) -> Program:
        if self.options.schedule == "random":
            if position is None:
                raise UserError(
                    f"rule '{self.name}' with rule.schedule=random draws another order at every step, which a step that is mapped "
                    "over seeds cannot: write rule.schedule=fwbw, or trainer.replicate=processes"
                )
            return self._recorded(self._keep_states, False, position=position)
        key = (self._keep_states, self.plan.to_input)
        if key not in self._programs:
            self._programs[key] = self._recorded(self._keep_states, False)
        return self._programs[key]

    def _inference(self, *, keep: bool) -> Inference:
        chosen = self.options
        iterations = chosen.power_iterations if chosen.damped else 0
        grown = chosen.passes > 1
        return Inference(self.segments, self.dyads, self.loss, chosen.nudge, self.feedback_weights, self._at_plus,
                         chosen.variant == "lpom", iterations, chosen.damping, keep, grown, self.watch)  # fmt: skip

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        dyads = Dyads(self._inference(keep=self._keep_states), x, y)
        program = self._program(draws.position if isinstance(draws, Draws) else None)
        work = program.run(run, x, dyads)
        if self.options.passes > 1:
            dyads.stats["inference.growth"] = dyads.growth()[1].max()
        sizes = torch.linalg.vector_norm(dyads.signal, dim=1) * run.batch
        reached = work.arriving[self.plan.entry] if self.keep_input_signal else None
        states = (
            [dyads.pairs[state.index] for state in self.segments.states if state.index] if self._keep_states else None
        )
        return Computed(dyads.logits, dyads.loss, work.updates, sizes, dyads.stats,
                        None if reached is None else reached * (dyads.factor * run.batch), states)  # fmt: skip

    def tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Return which states have grown, unless the forward pass alone is not finite, which is reported elsewhere.

        Raises:
            InferenceDiverged: naming the op and what to write instead.
        """
        if self.first_nonfinite(x) is not None:
            return
        dyads = self._infer(x, y, keep=False)
        numbers, ratios = dyads.growth()
        if not numbers:
            return
        at = int(torch.nan_to_num(ratios, nan=torch.inf).argmax())
        if not float(ratios[at]) <= self.growth_limit:
            op = self.segments.by_number[numbers[at]].op
            assert op is not None
            raise InferenceDiverged(op.describe(), self._why(float(ratios[at])))

    def _why(self, ratio: float) -> str:
        chosen = self.options
        grew = (
            f"grew to {ratio:.1e} times their size before the nudge"
            if ratio < float("inf")
            else "left the finite numbers"
        )
        told = f"its states {grew} within rule.passes={chosen.passes}"
        if chosen.variant == "lpom" and not chosen.damped:
            return f"{told}; write rule.damped=true, or lower rule.beta"
        if chosen.damped:
            return f"{told}, in spite of the damping; lower rule.beta or optimizer.lr, or write rule=dp_adjoint"
        if chosen.variant == "adjoint" or set(_numbers(chosen.alpha)) == {0.5}:
            return f"{told}; lower optimizer.lr or rule.beta" + "; alpha 0 is steadiest" * (chosen.variant == "adjoint")
        return (
            f"{told}: undamped, the fixed-point iterations of rule '{self.name}' are only steady at rule.alpha=0.5 (paper 3, "
            "Appendix G); write rule=dp_adjoint or rule=dp_damped, or rule.passes=1 with rule.schedule=fwbw"
        )

    def _infer(self, x: Tensor, y: Tensor, *, keep: bool, marks: bool = False) -> Dyads:
        """Go through the inference on copies of the model's buffers."""
        draws = Draws(self.seed, self.position, x.device)
        buffers = copies(self._model_buffers()) | self.buffers
        run = self._run(self._all_parameters(), buffers, draws)
        dyads = Dyads(self._inference(keep=keep), x, y)
        with torch.no_grad():
            self._recorded(keep, marks, position=self.position).run(run, x, dyads)
        return dyads

    def residuals(self, x: Tensor, y: Tensor) -> list[float]:
        """Return, for each pass of the inference on a batch, by how much it moved the states.

        Args:
            x, y: as for ``step``; nothing is changed.

        Returns:
            ``|s^p - s^(p-1)| / |s^p|`` by pass p, over s+ and s- of all units; before the first, both are the forward pass's.

        Raises:
            InferenceDiverged: the states leave the finite numbers.
        """
        self._check_batch(x, y)
        if not self._ready:
            self.prepare(x)
        moved = [float(value) for value in self._infer(x, y, keep=True, marks=True).residuals]
        if not all(map(math.isfinite, moved)):
            self.tell_divergence(x, y)
        return moved


def _numbers(value: float | Sequence[float]) -> list[float]:
    return list(value) if isinstance(value, Sequence) else [value]


def refuse_damping(chosen: DualOptions, segments: Segments, model: str) -> None:
    """Refuse damped iterations where they would settle elsewhere: Eq. 50 holds for activations that project on a set."""
    for state in segments.states if chosen.damped else ():
        if state.op is not None and state.op.args["name"] not in PROJECTIONS:
            raise UserError(
                f"rule.damped=true cannot take {state.op.args['name']} at '{state.op.name}' in {model}: Eq. 50 weighs a state with "
                "its activation's input, which leaves the resting point where it is only if the activation leaves its own "
                f"values as they are. Those that do: {', '.join(PROJECTIONS)}. Write arch.activation=relu, or rule.damped=false"
            )


def refuse_switches(chosen: DualOptions, segments: Segments, model: str) -> None:
    """Refuse a choice of switches where no max pool stands between states."""
    if chosen.switches == "plus" and not any(
        (isinstance(op, MaxPool) or (isinstance(op, AdaptivePool) and op.args["mode"] == "max"))
        and segments.numbers(op.out)
        for op in segments.plan.back
    ):
        raise UserError(
            f"rule.switches=plus would change nothing: no max pool of {model} stands between states; leave it out"
        )
