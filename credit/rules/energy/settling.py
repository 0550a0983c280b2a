"""The states of a network that settles, freely and with its output drawn to a target (see `credit.rules.energy.equilibrium`)."""

import math
from typing import Any

import torch
from torch import Tensor

from credit.engine.inference.program import Work
from credit.engine.inference.segments import State
from credit.engine.ops.weighted import Weighted
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.energy import states
from credit.rules.energy.options import EquilibriumOptions
from credit.rules.state import RuleRun


class Settling:
    """One step's states (an `Actor`).

    Args:
        chosen: the rule's options.
        loss: the loss: (outputs, targets) -> (its gradient over B, its mean).
        weights: those that feedback crosses layers by.
        output: number of the output's state.
        y: targets of the task, such as labels (B,).
        batch: B.
        watch: whether signals are measured at the weights.

    Attributes:
        logits: the prediction that the free phase settled at.
        free, last: by state number, the states at the end of the free phase and now.
        stats: statistics of the signals, by name.
        residuals: by step, the states' change against their size, where a program marks steps.
    """

    logits: Tensor

    def __init__(self, chosen: EquilibriumOptions, loss: Any, weights: FeedbackWeights, output: int, y: Tensor, batch: int,
                 watch: bool) -> None:  # fmt: skip
        self._chosen, self._loss, self._weights, self._output = chosen, loss, weights, output
        self._y, self._batch, self._watch = y, batch, watch
        self.factor = 1.0 / batch if chosen.clamp_output else 1.0 / (chosen.beta * batch)
        self.last: dict[int, Tensor] = {}
        self.residuals: list[Tensor] = []
        self.stats: dict[str, Tensor] = {}
        self._marked: dict[int, Tensor] = {}
        self.free: dict[int, Tensor] = {}

    def start(self, work: Work, state: State, live: bool) -> None:
        a = states.before(work, state)
        begun = torch.zeros_like(a)
        if self._chosen.initial_state == "forward":
            begun = self._held(state, states.activation(state, a))
        self._set(work, state, begun)

    def update(self, work: Work, state: State, live: bool) -> None:
        a = states.before(work, state)
        if state.out < 0:
            self._set(work, state, states.activation(state, a))
            return
        arriving = work.arriving[state.out]
        assert arriving is not None
        moved = torch.add(a, arriving.to(a.dtype), alpha=self._chosen.gamma)
        self._set(work, state, self._held(state, states.activation(state, moved, mine=True)))

    def _held(self, state: State, value: Tensor) -> Tensor:
        """Keep a hidden state within its bounds; the output has none."""
        most = self._chosen.activation_bound
        return value if most is None or state.out < 0 else value.clamp(-most, most)

    def towards(self, work: Work, state: State, live: bool) -> None:
        """Renew the output, nudged towards its target."""
        self._nudge(work, state, -self._chosen.beta)

    def away(self, work: Work, state: State, live: bool) -> None:
        """Renew the output, nudged away from its target."""
        self._nudge(work, state, self._chosen.beta)

    def _nudge(self, work: Work, state: State, strength: float) -> None:
        a, now = states.before(work, state), self.last[state.index]
        if self._chosen.clamp_output:
            self._set(work, state, self._loss.target(a, self._y))
            return
        gradient = self._loss(now, self._y)[0]
        moved = torch.add(a, gradient, alpha=strength * self._batch)
        self._set(work, state, states.activation(state, moved, mine=True))

    def settled(self, work: Work, state: State, live: bool) -> None:
        """Keep the free states."""
        self.free = dict(self.last)
        self.logits = self.last[self._output]

    def again(self, work: Work, state: State, live: bool) -> None:
        """Take a state back to where the free phase left it."""
        self._set(work, state, self.free[state.index])

    def _set(self, work: Work, state: State, value: Tensor) -> None:
        self.last[state.index] = value
        if state.out >= 0:
            work.values[state.out] = value
        work.send(state, value)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        sent: Tensor = self._weights.backproject(op, run, signal)
        return sent

    def arrive(self, op: Weighted, run: RuleRun, signal: Tensor) -> None:
        if self._watch:
            self.stats[op.name] = signal.square().mean().sqrt()

    def mark(self, work: Work, state: State, live: bool) -> None:
        """Note how far the states have moved since the last mark."""
        if self._marked:
            moved = torch.stack([torch.linalg.vector_norm(new - self._marked[k]) for k, new in self.last.items()])
            size = torch.stack([torch.linalg.vector_norm(new) for new in self.last.values()])
            self.residuals.append(moved.norm() / size.norm().clamp(min=torch.finfo(size.dtype).tiny))
        self._marked = dict(self.last)

    def growth(self, x: Tensor) -> Tensor:
        """Return the largest size of a state's units against that of the input's (root mean squares, the input's plus 1).

        The numbers of tokens are names and have no size.
        """
        values = (x if x.is_floating_point() else x.new_zeros(1, dtype=torch.float32), *self.last.values())
        begun, *sizes = (torch.linalg.vector_norm(v) / math.sqrt(v.numel()) for v in values)
        return torch.stack(sizes).max() / (begun + 1)
