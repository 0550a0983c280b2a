"""Equilibrium propagation and contrastive Hebbian learning: a network that settles twice, and learns from the difference.

Legend: s_k states, a_k what the maps below give a state, f its activation, gamma the gain of feedback, beta the nudge's strength.
All states settle together, ``s_k <- f(a_k + gamma W_k^T s_(k+1))``, freely and then with the output drawn to its target: the
output's state is ``s_L <- f(a_L)``, then ``s_L <- f(a_L - beta dl/ds_L)``, f the identity where the network ends in a linear layer.
Weights get the difference of the products ``s_k s_(k-1)^T``. Sources: Scellier and Bengio 2017 (two phases), Laborieux et al. 2021
(three), Xie and Seung 2003 (the output clamped). The states move in discrete time, on the same maps as dual propagation's.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.draws import Draws
from credit.engine.inference.program import Move, Program
from credit.engine.inference.recorder import Recorder
from credit.engine.inference.segments import Segments
from credit.engine.ops.base import Op
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.base import Computed, Rule
from credit.rules.energy import states
from credit.rules.energy.options import EquilibriumOptions
from credit.rules.energy.settling import Settling
from credit.rules.outcome import InferenceDiverged
from credit.rules.state import copies
from credit.rules.traits import Traits


class Settled(nn.Module):
    """A network that is evaluated as equilibrium propagation trains it: its output is where its states settle.

    Args:
        rule: how they settle.
        model: whose parameters they settle by.
    """

    def __init__(self, rule: "EquilibriumRule", model: nn.Module) -> None:
        super().__init__()
        self._rule, self.model = rule, model

    def forward(self, x: Tensor) -> Tensor:
        return self._rule.predict(self.model, x)


class EquilibriumRule(Rule):
    """Equilibrium propagation, of two or three phases, and contrastive Hebbian learning.

    Attributes:
        segments: the network's states and the linear maps between them.
    """

    Options = EquilibriumOptions
    options: EquilibriumOptions
    name = "equilibrium"

    @property
    def traits(self) -> Traits:
        """As of all rules with states."""
        return states.traits(self)

    def setup(self) -> None:
        states.refuse_local(self)
        self.plan = self.plan.adapted(
            frozen_norms=self.options.batchnorm == "frozen", pool_first=self.options.pool_first
        )
        self.segments = Segments(self.plan, self.model, self.name, own_output=True)
        refuse_branches(self.options, self.segments, type(self.model).__name__)
        states.note_no_hidden(self)
        self.feedback_weights: FeedbackWeights = states.feedback_weights(self, self.options.feedback_weights)
        self.feedback_parameters = states.make_feedback(self, self.feedback_weights)
        self.loss = states.TaskLoss(self)
        self._recorded: dict[str, Program] = {}

    @property
    def freezes_norms(self) -> bool:
        """As ``rule.batchnorm=frozen`` says."""
        return self.options.batchnorm == "frozen"

    @property
    def reference(self) -> dict[str, Any]:
        """Backprop on the same loss."""
        return states.reference(self)

    # ------------------------------------------------------------ the step

    def _program(self, kind: Literal["learn", "free", "marked"]) -> Program:
        """Return the program of all phases, or of the free one alone, with its steps marked or not."""
        if kind not in self._recorded:
            self._recorded[kind] = self._record(kind)
        return self._recorded[kind]

    def _record(self, kind: str) -> Program:
        chosen, last = self.options, self.segments.last
        recorder = Recorder(self.segments, Settling)
        recorder.begin()
        recorder.call(Settling.start, last)
        recorder.signal_all()
        self._settle(recorder, chosen.free_steps, Settling.update, marks=kind == "marked")
        recorder.call(Settling.settled, last, everything=True)
        if kind != "learn":
            return recorder.program()
        if chosen.phases == 2:
            self._learn(recorder, 1.0)
        self._settle(recorder, chosen.nudged_steps, Settling.towards)
        self._learn(recorder, -1.0 if chosen.phases == 2 else -0.5)
        if chosen.phases == 3:
            recorder.reset(Settling.again)
            self._settle(recorder, chosen.nudged_steps, Settling.away)
            self._learn(recorder, 0.5)
        return recorder.program()

    def _settle(self, recorder: Recorder, steps: int, output: Move, *, marks: bool = False) -> None:
        if self.options.clamp_output and output is not Settling.update:
            recorder.renew(self.segments.last, False, move=output, always=True)  # held there from the first step on
        if marks:
            recorder.call(Settling.mark, self.segments.last)
        for _ in range(steps):
            for state in self.segments.states:  # switches are set before anything goes down
                recorder.evaluate(state.index)
            live = {state.index: recorder.need(state.index) for state in self.segments.states}
            for number, heard in live.items():
                mine = number == self.segments.last
                move, always = (output, output is not Settling.update) if mine else (Settling.update, False)
                if mine and self.options.clamp_output and always:
                    continue
                recorder.renew(number, heard, move=move, always=always)
            if marks:
                recorder.call(Settling.mark, self.segments.last)

    def _learn(self, recorder: Recorder, factor: float) -> None:
        for op in self.plan.back:
            if op.trains:
                recorder.learn(op, factor * self.options.gamma ** (self._depth(op) - self.segments.last))

    def _depth(self, op: Op) -> int:
        return min(self.segments.senders[op.out])

    def _settling(self, y: Tensor, x: Tensor) -> Settling:
        return Settling(self.options, self.loss, self.feedback_weights, self.segments.last, y, x.shape[0], self.watch)

    def predictor(self, model: nn.Module) -> nn.Module:
        """Return a module whose forward pass is the free phase, whose prediction the rule trains."""
        return Settled(self, model)

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the logits (B, classes) at which a network settles freely.

        Args:
            model: the rule's own, or a copy with other values; in evaluation, so that no dropout drops.
            x: batch (B, ...).
        """
        return self._free(model, x, "free").logits

    def residuals(self, x: Tensor, y: Tensor) -> list[float]:
        """Return, for each step of the free phase on a batch, by how much it moved the states.

        Args:
            x: as for ``step``; nothing is changed.
            y: not read: the free phase knows no target.

        Returns:
            ``|s^t - s^(t-1)| / |s^t|`` by step t, over all units.

        Raises:
            InferenceDiverged: the states leave the finite numbers.
        """
        moved = [float(value) for value in self._free(self.model, x, "marked").residuals]
        if not all(map(math.isfinite, moved)):
            self.tell_divergence(x, y)
        return moved

    def _free(self, model: nn.Module, x: Tensor, kind: Literal["free", "marked"]) -> Settling:
        """Settle freely, without dropout, by a network's own values."""
        params: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(self.named_parameters())}
        buffers = dict(model.named_buffers())
        if not self._ready:
            self.prepare(x)
        with torch.no_grad():
            opened, _ = self.plan.weights.opened(params, copies(buffers))
            run = self._run(opened, buffers | self.buffers, Draws(self.seed, self.position, x.device))
            run.train = False
            settling = self._settling(x.new_zeros(x.shape[0], dtype=torch.int64), x)
            self._program(kind).run(run, x, settling)
        return settling

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        settling = self._settling(y, x)
        work = self._program("learn").run(run, x, settling)
        signal, loss = self.loss(settling.logits, y)
        sizes = torch.linalg.vector_norm(signal, dim=1) * run.batch
        settling.stats["inference.growth"] = settling.growth(x)
        return Computed(settling.logits, loss, work.updates, sizes, settling.stats)

    def tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Say that states have grown, unless the forward pass alone is not finite, which is reported elsewhere.

        Raises:
            InferenceDiverged: saying what to write instead.
        """
        if self.first_nonfinite(x) is not None:
            return
        steps = f"{self.options.free_steps} free and {self.options.nudged_steps} nudged steps"
        gain = "" if any(len(state.children) > 1 for state in self.segments.states) else "rule.gamma, "
        raise InferenceDiverged(
            "the settled states",
            f"its units grew more than {self.growth_limit:g} times as large as the input within {steps}: feedback and weights "
            f"together amplify; lower optimizer.lr, {gain}rule.activation_bound, or limit updates (rule.clip=0.1)",
        )


def refuse_branches(chosen: EquilibriumOptions, segments: Segments, model: str) -> None:
    """Refuse a gain that is discounted by depth where a layer has more than one."""
    if chosen.gamma == 1:
        return
    for state in segments.states:
        if skipping := [child for child in state.children if child != state.index + 1]:
            where = "the output" if state.op is None else state.op.describe()
            far = segments.by_number[skipping[0]].op
            raise UserError(
                f"rule.gamma={chosen.gamma:g} discounts each layer's energy by its depth, which needs one layer "
                f"after the other, but {where} in {model} also leads to "
                f"{'the output' if far is None else far.describe()}; write rule.gamma=1 (rule=eqprop), or use a network "
                "without skips"
            )
