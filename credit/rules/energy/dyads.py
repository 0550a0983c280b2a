"""The dyads of dual propagation: two states a unit, nudged apart by what comes down, and what they send on (paper 3).

Legend: a_k what the maps below give a state, s+ and s- its two states, sbar = alpha s+ + (1 - alpha) s- its value for the maps
above, delta = s+ - s-, f its activation, l the loss, beta the nudge's strength. The signal carried is ``-delta_k`` times
``beta / beta_k``, beta the output's; divided by ``beta B`` it is a descent direction of the batch mean, as weights are given it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.inference.program import Work
from credit.engine.inference.segments import Segments, State
from credit.engine.ops.weighted import Weighted
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.energy import states
from credit.rules.energy.damping import spectral, strength
from credit.rules.energy.options import DualOptions
from credit.rules.state import RuleRun

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Dyad:
    """The constants of one state.

    Attributes:
        alpha: weight of s+ in its value.
        beta: strength of its nudge.
        up, down: shares of the feedback that nudge s+ and s-: alpha and 1 - alpha (Eq. 2), or the other way round (Eq. 19).
    """

    alpha: float
    beta: float
    up: float
    down: float

    @property
    def still(self) -> bool:
        """Whether its value is the side that feedback leaves where it is."""
        return (self.alpha == 1 and self.up == 0) or (self.alpha == 0 and self.down == 0)


def constants(options: DualOptions, segments: Segments, model: str) -> dict[int, Dyad]:
    """Return every state's constants by its number; the input's are those of the first layer."""
    alphas = _each("alpha", options.alpha, segments.last, model)
    betas = _each("beta", options.beta, segments.last, model)
    made = {}
    for number in segments.by_number:
        alpha, beta = alphas[max(number, 1) - 1], betas[max(number, 1) - 1]
        up, down = (1 - alpha, alpha) if options.variant == "adjoint" else (alpha, 1 - alpha)
        made[number] = Dyad(alpha, beta, up, down)
    return made


def _each(name: str, given: float | Sequence[float], count: int, model: str) -> list[float]:
    if not isinstance(given, Sequence):
        return [float(given)] * count
    if len(given) != count:
        raise UserError(
            f"rule.{name} has {len(given)} values, but {model} has {count} layers with states (its "
            f"activations, then the output): give {count} values, or one number for all"
        )
    return [float(value) for value in given]


@dataclass(frozen=True)
class Inference:
    """What a rule has settled before a step.

    Attributes:
        segments: the network.
        dyads: constants by state number.
        loss: the loss: (logits, labels) -> (its gradient over B, its mean).
        nudge: ``current``, ``frozen`` or ``prox``.
        weights: those that feedback crosses layers by.
        at_plus: feedback takes the switches of max pools at s+, not at the value.
        closed: LPOM: only s+ is a state, s- is the prediction of those below.
        iterations: power iterations of the damping (Eq. 50); 0: no damping.
        damping: its form, ``norm`` or ``half_excess``.
        keep: whether both states of every unit are kept.
        grown: whether growth is measured, as iterated inference asks for.
        watch: whether signals are measured at the weights.
    """

    segments: Segments
    dyads: Mapping[int, Dyad]
    loss: Any
    nudge: str
    weights: FeedbackWeights
    at_plus: bool
    closed: bool
    iterations: int
    damping: str
    keep: bool
    grown: bool
    watch: bool


class Dyads:
    """One step's states (an `Actor`).

    Args:
        inference: what the rule has settled.
        x: batch (B, ...); y: labels (B,).

    Attributes:
        factor: what makes the signals carried descent directions of the batch mean.
        pairs: by state number, (s+, s-), where they are kept.
        logits: the network's prediction, before any nudge.
        loss: its loss; signal: the loss's gradient there, over B.
        stats: statistics of the signals, by name.
        residuals: by pass, the states' change against their size, where a program marks passes.
    """

    logits: Tensor
    loss: Tensor
    signal: Tensor

    def __init__(self, inference: Inference, x: Tensor, y: Tensor) -> None:
        self.inference, self.x, self.y = inference, x, y
        self.pairs: dict[int, Pair] = {}
        self.residuals: list[Tensor] = []
        self.stats: dict[str, Tensor] = {}
        self._begun: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._damping: dict[int, Tensor] = {}
        self._last: dict[int, Pair] = {}
        self._gaps: dict[int, Tensor] = {}  # s- - s+ of damped states
        self._keeps = inference.keep or inference.iterations > 0 or inference.closed or inference.at_plus
        self._nudged = False
        # f(a) by state, with the a it was made of: of states that one side's nudge leaves as they are.
        self._still: dict[int, tuple[Tensor, Tensor]] = {}
        self.unit = inference.dyads[inference.segments.last].beta
        self.factor = 1.0 / (self.unit * x.shape[0])

    # ------------------------------------------------------------ states

    def start(self, work: Work, state: State, live: bool) -> None:
        a = self._before(work, state)
        value = states.activation(state, a)
        work.values[state.out] = value
        dyad = self.inference.dyads[state.index]
        if not (dyad.up and dyad.down):
            self._still[state.index] = a, value
        if self._keeps:
            self.pairs[state.index] = value, value
        if self.inference.grown:
            self._begun[state.index] = torch.linalg.vector_norm(value)
            self._values[state.index] = value

    def update(self, work: Work, state: State, live: bool) -> None:
        if state.out < 0:
            self._output(work, state)
            return
        a, dyad = self._before(work, state), self.inference.dyads[state.index]
        arriving = work.arriving[state.out] if live else None
        if arriving is None and state.index not in self._damping:
            plus = minus = value = states.activation(state, a)
        else:
            scale = dyad.beta / self.unit
            shift = torch.zeros_like(a) if arriving is None else arriving.to(a.dtype)
            shift = shift if scale == 1 else shift * scale
            plus = self._nudge(state, a, shift, -dyad.up, 0)
            minus = plus if self.inference.closed else self._nudge(state, a, shift, dyad.down, 1)
            value = plus
            if not self.inference.closed:
                value, gap = self._parted(state, plus, minus, shift)
                work.send(state, gap if scale == 1 else gap * (1 / scale))
        work.values[state.out] = value
        if self.inference.at_plus:
            work.plus[state.out] = plus
        if self._keeps:
            self.pairs[state.index] = plus, minus
        if self.inference.grown:
            self._values[state.index] = value

    def _parted(self, state: State, plus: Tensor, minus: Tensor, shift: Tensor) -> Pair:
        """Return a state's value ``alpha s+ + (1 - alpha) s-`` and ``s- - s+``, over s- and s+ where nothing else reads them.

        Args:
            state: which.
            plus, minus: s+ and s-, f of two numbers that lie ``shift`` apart.
            shift: the feedback; a difference of its size would be lost in the rounding of s+ and s-.
        """
        dyad = self.inference.dyads[state.index]
        if state.index in self._damping:
            damping = self._damping[state.index]
            shift = (shift + damping * self._gaps.get(state.index, torch.zeros_like(shift))) / (1 + damping)
        mine = bool(not self._keeps and dyad.up and dyad.down)
        gap = self._gap(state, shift, plus, minus, mine)
        if state.index in self._damping:
            self._gaps[state.index] = gap
        if dyad.alpha in (0, 1):
            return (plus if dyad.alpha else minus), gap
        return (minus.sub_(gap, alpha=dyad.alpha) if mine else torch.sub(minus, gap, alpha=dyad.alpha)), gap

    def _gap(self, state: State, shift: Tensor, plus: Tensor, minus: Tensor, mine: bool) -> Tensor:
        """Return s- - s+, over s+ where it is ``mine`` and that is possible."""
        if state.op is None:
            return shift
        function = state.op.function
        difference = function.gap_ if mine and function.gap_ is not None else function.gap
        return minus - plus if difference is None else difference(shift, minus, plus, *state.op.options)

    def _nudge(self, state: State, a: Tensor, feedback: Tensor, share: float, side: int) -> Tensor:
        """Return f(a + share * feedback), or its damped form (Eq. 50)."""
        if share == 0 and state.index not in self._damping:
            held = self._still.get(state.index)
            if held is None or held[0] is not a:
                held = self._still[state.index] = a, states.activation(state, a)
            return held[1]
        moved = torch.add(a, feedback, alpha=share)
        if state.index in self._damping:
            damping = self._damping[state.index]
            moved = (moved + damping * self._pair(state)[side]) / (1 + damping)
        return states.activation(state, moved, mine=True)

    def _pair(self, state: State) -> Pair:
        return self.pairs.get(state.index, (self.x, self.x))  # only the input's is not there from the start

    def _before(self, work: Work, state: State) -> Tensor:
        """Return what a state is a function of: a (B, ...), in the precision of the states."""
        if state.pre < 0:
            return self.x
        return states.before(work, state)

    def _output(self, work: Work, state: State) -> None:
        inference, dyad = self.inference, self.inference.dyads[state.index]
        a = self._before(work, state)
        if not self._nudged or inference.nudge != "frozen":
            signal, loss = inference.loss(a, self.y)
            if not self._nudged:
                self.logits, self.loss, self.signal, self._nudged = work.values[state.pre], loss, signal, True
        else:
            signal = self.signal
        g = signal * (dyad.beta * a.shape[0])
        up, down = dyad.up, dyad.down
        if (
            inference.nudge == "prox"
        ):  # of 1/2 |s - y|^2: s+ = (a + q y) / (1 + q), q = alpha beta; s- with q = -(1 - alpha) beta
            up, down = up / (1 + up * dyad.beta), down / (1 - down * dyad.beta)
        if self._keeps:
            self.pairs[state.index] = a - up * g, a + down * g
        if not inference.closed:
            work.send(state, g if inference.nudge != "prox" else g * (up + down))

    def compare(self, work: Work, state: State, live: bool) -> None:
        """Send what a state differs by from its prediction as the states below now have it (LPOM, Eq. 45)."""
        plus = self.pairs[state.index][0]
        predicted = states.activation(state, self._before(work, state))
        work.send(state, (predicted - plus).mul_(self.unit / self.inference.dyads[state.index].beta))
        self.pairs[state.index] = plus, predicted

    def damp(self, work: Work, state: State, live: bool) -> None:
        """Find every state's damping, by ``|W_k^T W_k|`` of the maps above it (Appendix F)."""
        inference = self.inference
        for one in inference.segments.states[:-1]:
            ratios = {
                child: inference.dyads[one.index].beta / inference.dyads[child].beta
                for child in inference.segments.by_number[one.index].children
            }
            eigenvalue = spectral(work, inference.segments, one, ratios, self, inference.iterations)
            self._damping[one.index] = strength(inference.damping, eigenvalue)

    # ------------------------------------------------------------ weights

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        sent: Tensor = self.inference.weights.backproject(op, run, signal)
        return sent

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> None:
        if self.inference.watch:
            self.stats[op.name] = signal.square().mean().sqrt() * (self.factor * run.batch)

    # ------------------------------------------------------------ reports

    def mark(self, work: Work, state: State, live: bool) -> None:
        """Note how far the states have moved since the last mark."""
        for one, begun in ((state, work.values[state.pre]), (self.inference.segments.states[0], self.x)):
            if one.op is None:  # the output and the input
                self.pairs.setdefault(one.index, (begun, begun))
        if self._last:
            sides = (0,) if self.inference.closed else (0, 1)
            moved = [pair[side] - self._last[k][side] for k, pair in self.pairs.items() for side in sides]
            whole = [pair[side] for pair in self.pairs.values() for side in sides]
            size = torch.stack([torch.linalg.vector_norm(value) for value in whole]).square().sum().sqrt()
            change = torch.stack([torch.linalg.vector_norm(value) for value in moved]).square().sum().sqrt()
            self.residuals.append(change / size.clamp(min=torch.finfo(size.dtype).tiny))
        self._last = dict(self.pairs)

    def growth(self) -> tuple[list[int], Tensor]:
        """Return states' numbers and how their size compares with that before any nudge (one a unit is not growth yet)."""
        numbers = list(self._begun)
        units = {k: self._values[k].numel() ** 0.5 for k in numbers}
        ratios = [torch.linalg.vector_norm(self._values[k]) / (self._begun[k] + units[k]) for k in numbers]
        return numbers, torch.stack(ratios) if ratios else self.x.new_zeros(1)
