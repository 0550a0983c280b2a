"""Dual propagation (paper 3): every activation has two states that the output's nudge drives apart, and no gradients.

One inference finds the states: what a state sends below is its states' difference, what it sends above their mean. Weights then
learn from the product of the two. The schedules and the order of their updates are in `order`; the states in `credit.rules.dyads`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from credit.engine.draws import Draws
from credit.engine.ops.base import Run
from credit.engine.program import Program, Recorder
from credit.engine.rewrite import pool_first
from credit.engine.segments import MONOTONE, Segments, freeze
from credit.errors import UserError
from credit.rules import states
from credit.rules.components import chosen_options
from credit.rules.divergence import InferenceDiverged
from credit.rules.dyads import Dyad, Dyads, Inference
from credit.rules.registry import lookup, make, register
from credit.rules.rule import Computed, Rule, SharedOptions
from credit.streams import generator


@dataclass(frozen=True)
class DualOptions(SharedOptions):
    """What dual propagation leaves to choose.

    Attributes:
        variant: ``original`` (Eq. 2, 3), ``adjoint`` (DP^T, Eq. 19, 22) or ``lpom`` (alpha = 1, Eq. 45).
        alpha: weight of s+ in a unit's value, in [0, 1]; a list gives one to each layer, the output's last.
        beta: strength of the nudge, above 0; a list likewise (Eq. 12).
        loss: ``ce``, or ``mse``: 1/2 |s - y|^2.
        schedule: order of the states' updates: ``fwbw``, ``fw`` or ``random`` (see `order`).
        passes: how often it is gone through.
        nudge: the loss's gradient at the output's ``current`` prediction or at the one before any nudge (``frozen``), or the
            exact ``prox`` of least squares (Eq. 3).
        damped: stabilise the iterations (Eq. 50).
        power_iterations: of the damping's ``|W^T W|``.
        transport: what differences cross weights by.
        input_robustness: give the input a state too, ``E_0 = 1/2 |s_0 - x|^2``.
        pool_first: let max pools change places with the activation before them, which leaves the network as it is: the authors'
            order, in which a state stands for a window and not for each of its units.
        batchnorm: ``refuse``, or ``frozen``: in its running statistics, which steps then never move.
    """

    variant: Literal["original", "adjoint", "lpom"] = "original"
    alpha: float | Sequence[float] = 0.5
    beta: float | Sequence[float] = 0.01
    loss: Literal["ce", "mse"] = "ce"
    schedule: Literal["fwbw", "fw", "random"] = "fwbw"
    passes: int = 1
    nudge: Literal["current", "frozen", "prox"] = "current"
    damped: bool = False
    power_iterations: int = 5
    transport: str = "transpose"
    input_robustness: bool = False
    pool_first: bool = True
    batchnorm: Literal["refuse", "frozen"] = "refuse"


def order(schedule: str, passes: int, first: int, last: int, seeds: tuple[int, int] = (0, 0)) -> list[list[int]]:
    """Return the states' numbers in the order of their updates, by pass.

    ``fw``: first to last, again and again. ``fwbw``: last to the second, then (passes - 1) times up to the one below the last
    and down from the last, then the first: with one pass each state is renewed once, as a signal is sent back. ``random``:
    each pass an order of its own, drawn for (seed, step).
    """
    if schedule == "fw":
        return [list(range(first, last + 1)) for _ in range(passes)]
    if schedule == "random":
        source = generator(seeds[0], "dual.order", seeds[1])
        return [(torch.randperm(last + 1 - first, generator=source) + first).tolist() for _ in range(passes)]
    down = list(range(last, first - 1, -1))
    rounds = [down[:-1] if last > first else []]
    rounds += [[*range(first, last), *down] for _ in range(passes - 1)]
    rounds[-1] = [*rounds[-1], first]
    return rounds


@register("rule", "dual")
class DualRule(Rule):
    """Dual propagation and its relatives (paper 3, Eqs. 2, 3, 19, 22, 45, 50).

    Attributes:
        segments: the network's states and the linear maps between them.
        keep_states: whether steps tell both states of every unit (``Step.states``); settable.
    """

    OPTIONS = DualOptions
    name = "dual"

    @classmethod
    def options(cls) -> dict[str, tuple[Any, Any]]:
        """Options of the rule and of every transport that could be chosen."""
        return super().options() | chosen_options(("transport",))

    def setup(self, options: Mapping[str, Any]) -> None:
        self.choices: DualOptions = make(self.OPTIONS, f"rule '{self.name}'", options)
        self._keep_states = getattr(self, "_keep_states", False)
        states.refuse_probability(self)
        self._refuse_numbers()
        if self.choices.batchnorm == "frozen":
            freeze(self.plan)
        if self.choices.pool_first:
            pool_first(self.plan, MONOTONE)
        if self.choices.input_robustness and not self.plan.to_input:
            self.plan.sweep_to_input(True)
        self.segments = Segments(self.plan, self.model, self.name, with_input=self.choices.input_robustness)
        self.dyads = self._constants()
        self._refuse_nudge()
        self.transport = states.transport(self, options)
        self.learnt = states.feedback(self, self.transport)
        self._signal = lookup("signal", states.SIGNALS[self.choices.loss])()
        self._programs: dict[tuple[bool, bool], Program] = {}
        self._refuse_schedule()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the feedback weights that learn."""
        yield from self.learnt.items()

    def prepare(self, x: Tensor) -> None:
        self.learnt.to(x.device)  # the model was moved after the rule was made
        super().prepare(x)

    @property
    def reference(self) -> dict[str, Any]:
        """Backprop on the same loss."""
        return states.reference(self.choices.loss)

    @property
    def keep_states(self) -> bool:
        """Whether steps tell both states of every unit; settable."""
        return self._keep_states

    @keep_states.setter
    def keep_states(self, wanted: bool) -> None:
        if wanted and self._compiled is not None:
            raise UserError(
                f"rule '{self.name}' is compiled, and a compiled step does not tell its states; make it without compile=True"
            )
        self._keep_states = wanted

    # ------------------------------------------------------------ what cannot be

    def _refuse_numbers(self) -> None:
        chosen = self.choices
        if chosen.passes < 1:
            raise UserError(
                f"rule.passes={chosen.passes}: without a pass no state is nudged and nothing is learnt; write rule.passes=1 or more"
            )
        if chosen.damped and chosen.power_iterations < 1:
            raise UserError(
                f"rule.power_iterations={chosen.power_iterations}: the damping is found by power iteration; the paper's is 5"
            )
        if chosen.schedule == "random" and self._compiled is not None:
            raise UserError(
                "rule.schedule=random draws another order at every step, which a compiled step cannot; leave out trainer.compile, "
                "or write rule.schedule=fwbw"
            )

    def _constants(self) -> dict[int, Dyad]:
        numbers = [state.index for state in self.segments.states]
        count = self.segments.last  # hidden layers and the output; the input's state goes with the first
        alphas, betas = (self._each(name, count) for name in ("alpha", "beta"))
        for alpha in alphas:
            if not 0 <= alpha <= 1:
                raise UserError(
                    f"rule.alpha={alpha:g} is outside [0, 1]: it is the weight of s+ in a unit's value, that of s- being 1 - alpha"
                )
            if self.choices.variant == "lpom" and alpha != 1:
                raise UserError(
                    f"rule.alpha={alpha:g} is not lpom, which is dual propagation at alpha = 1 with s- in closed form (Eq. 45); "
                    "write rule.alpha=1, or rule=dp"
                )
        for beta in betas:
            if not 0 < beta < math.inf:
                raise UserError(
                    f"rule.beta={beta:g} must be above 0: it is the strength of the nudge, by which updates are divided; the paper "
                    "uses 0.01 to 1"
                )
        made = {}
        for number in numbers:
            alpha, beta = alphas[max(number, 1) - 1], betas[max(number, 1) - 1]
            up, down = (1 - alpha, alpha) if self.choices.variant == "adjoint" else (alpha, 1 - alpha)
            made[number] = Dyad(alpha, beta, up, down)
        return made

    def _each(self, name: str, count: int) -> list[float]:
        given = getattr(self.choices, name)
        if not isinstance(given, Sequence):
            return [float(given)] * count
        if len(given) != count:
            raise UserError(
                f"rule.{name} has {len(given)} values, but {type(self.model).__name__} has {count} layers with states (its "
                f"activations, then the output): give {count} values, or one number for all"
            )
        return [float(value) for value in given]

    def _refuse_nudge(self) -> None:
        if self.choices.nudge != "prox":
            return
        output = self.dyads[self.segments.last]
        if self.choices.variant == "adjoint":
            raise UserError(
                "rule.nudge=prox belongs to the original dual propagation (Eq. 3); DP^T's output is its loss's gradient (Eq. 22): "
                "write rule.nudge=current or frozen, or rule=dp"
            )
        if self.choices.loss != "mse":
            raise UserError(
                f"rule.nudge=prox is the exact minimiser of least squares, and rule.loss={self.choices.loss} has none in closed "
                "form; write rule.loss=mse, or rule.nudge=current, which is linear in the loss"
            )
        if output.down * output.beta >= 1:
            raise UserError(
                f"rule.nudge=prox with alpha={output.alpha:g} and beta={output.beta:g} diverges: s- is pushed away from the target "
                f"by (1 - alpha) beta = {output.down * output.beta:g} times the squared distance, but held by 1 times it, so that "
                "there is no minimum at 1 or above; lower rule.beta or raise rule.alpha, or write rule.nudge=current"
            )

    def _refuse_schedule(self) -> None:
        if self.choices.schedule == "random":
            return
        if (missing := self._recorded(False, False).unreached) and self.choices.schedule == "fw":
            last = self.segments.last
            needed = next(n for n in range(2, last + 2) if not self._recorded(False, False, passes=n).unreached)
            raise UserError(
                f"rule.schedule=fw with rule.passes={self.choices.passes} never reaches {missing[-1].describe()}: each pass takes "
                f"the output's nudge one layer down, so that {type(self.model).__name__} needs rule.passes={needed}; or write "
                "rule.schedule=fwbw, which needs one"
            )

    # ------------------------------------------------------------ the step

    def _recorded(self, keep: bool, marks: bool, *, passes: int | None = None, position: int = 0) -> Program:
        """Return the program of the schedule's updates, with a mark after each pass where asked for."""
        chosen, last = self.choices, self.segments.last
        rounds = order(chosen.schedule, passes or chosen.passes, self.segments.first, last, seeds=(self.seed, position))
        recorder = Recorder(self.segments, to_input=self.plan.to_input and not chosen.input_robustness)
        recorder.begin()
        closed = chosen.variant == "lpom"
        if chosen.damped:
            recorder.call("damp", last, everything=True)
        if marks:
            recorder.call("mark", last)
        left = [number for one in rounds for number in one]
        final: set[int] = set(range(self.segments.first, last + 1)) - set(left)
        for one in rounds:
            for number in one:
                if closed:
                    for child in sorted(self.segments.by_number[number].children, reverse=True):
                        recorder.compare(child)
                once = number == last and chosen.nudge == "frozen" and not keep and not closed
                recorder.update(number, always=chosen.damped and number != last, once=once)
                left.pop(0)
                if number not in left:
                    final.add(number)
                    recorder.settle(final, closed=closed)
            if marks:
                recorder.call("mark", last)
        return recorder.program()

    def _program(self, position: int | None) -> Program:
        if self.choices.schedule == "random":
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
        chosen = self.choices
        damping = chosen.power_iterations if chosen.damped else 0
        grown = chosen.passes > 1
        return Inference(self.segments, self.dyads, self._signal, chosen.nudge, self.transport, chosen.variant == "lpom",
                         damping, keep, grown, self.watch)  # fmt: skip

    def _run(self, params: dict[str, Tensor], buffers: dict[str, Tensor], draws: Any) -> Run:
        run = self.plan.run(params, buffers, draws, self.dtype)
        run.overwrite = isinstance(draws, Draws)
        return run

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        dyads = Dyads(self._inference(keep=self._keep_states), x, y)
        program = self._program(draws.position if isinstance(draws, Draws) else None)
        work = program.run(run, x, dyads)
        if self.choices.passes > 1:
            numbers, ratios = dyads.growth()
            run.stats["inference.growth"] = ratios.max() if numbers else ratios.new_zeros(())
        sizes = torch.linalg.vector_norm(dyads.signal, dim=1) * run.batch
        reached = work.arriving[self.plan.entry] if self.plan.to_input else None
        states = (
            [dyads.pairs[state.index] for state in self.segments.states if state.index] if self._keep_states else None
        )
        return Computed(dyads.logits, dyads.loss, work.updates, sizes, run.stats,
                        None if reached is None else reached * (dyads.factor * run.batch), states)  # fmt: skip

    def updates(self, x: Tensor, y: Tensor, buffers: dict[str, Tensor] | None = None) -> Computed:
        """Return what ``step`` would use (see `Rule.updates`).

        Raises:
            InferenceDiverged: the states have left for infinity (on a GPU the trainer looks, from time to time).
        """
        computed = super().updates(x, y, buffers)
        if states.has_grown(computed, x):
            self._tell_divergence(x, y)
        return computed

    def _tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Say which states have grown, unless the forward pass alone was not finite, which is told elsewhere."""
        if self.first_nonfinite(x) is not None:
            return
        dyads = self._infer(x, y, keep=False)
        numbers, ratios = dyads.growth()
        at = int(torch.nan_to_num(ratios, nan=torch.inf).argmax())
        op = self.segments.by_number[numbers[at]].op
        where = "the input" if op is None else op.describe()
        raise InferenceDiverged(where, self._why(float(ratios[at])))

    def _why(self, ratio: float) -> str:
        chosen = self.choices
        told = f"its states grew to {ratio:.1e} times their size before the nudge within rule.passes={chosen.passes}"
        if chosen.damped:
            return f"{told}, in spite of the damping; lower rule.beta or raise rule.power_iterations"
        if chosen.variant == "adjoint":
            return f"{told}; lower rule.beta, or rule.alpha, which is steadiest at 0"
        return (
            f"{told}: undamped, the fixed-point iterations of rule '{self.name}' are only steady at rule.alpha=0.5 (paper 3, "
            "Appendix G); write rule=dp_adjoint or rule=dp_damped, or rule.passes=1 with rule.schedule=fwbw"
        )

    def _infer(self, x: Tensor, y: Tensor, *, keep: bool, marks: bool = False) -> Dyads:
        """Go through the inference on copies of the model's buffers."""
        draws = Draws(self.seed, self.position, x.device)
        buffers = {name: value.clone() for name, value in self._model_buffers().items()} | self.buffers
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
        """
        self._check_batch(x, y)
        if not self._ready:
            self.prepare(x)
        return [float(value) for value in self._infer(x, y, keep=True, marks=True).residuals]
