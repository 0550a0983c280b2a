"""The outcome of a rule's step: updates and loss, or the divergence of its inference."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from credit.engine.ops.base import Across


@dataclass
class Computed:
    """What ``compute`` returns.

    Attributes:
        logits: the network's outputs, (B, ...), as its task has them (`credit.tasks`).
        loss: 0-d, the rule's own objective on the batch (mean over samples).
        updates: by parameter name, descent direction, batch mean.
        sizes: (B,) Euclidean norm of each sample's output signal; None where the rule has no such signal.
        signals: RMS of the signal arriving at each weighted op, by its name, where ``rule.watch`` asks for it.
        input_signal: as in ``Step``, where ``rule.keep_input_signal`` asks for it.
        states: as in ``Step``, where ``rule.keep_states`` asks for them.
        errors, targets: as in ``Step``, where ``rule.keep_errors`` asks for them.
    """

    logits: Tensor
    loss: Tensor
    updates: dict[str, Tensor]
    sizes: Tensor | None = None
    signals: dict[str, Tensor] = field(default_factory=dict)
    input_signal: Tensor | None = None
    states: list[tuple[Tensor, Tensor]] | None = None
    errors: dict[str, Tensor] | None = None
    targets: dict[str, Tensor] | None = None


@dataclass
class Step:
    """The outcome of one step.

    Attributes:
        logits: the network's output, (B, classes) or probabilities (B, 1), detached.
        loss: 0-d, the rule's own objective on the batch (mean over samples).
        input_signal: what reached the network's input, shaped like x, for each sample: under backprop the derivative of that
            sample's loss, under layer-wise feedback propagation its feedback. None unless ``rule.keep_input_signal``.
        states: of rules that settle states, (s+, s-) by layer from the first hidden one to the output, each (B, ...). None unless
            ``rule.keep_states``.
        errors, targets: of rules of local targets, what each node's units were off and should have been, (B, ...) by node in order
            of execution, ``output`` last. None unless ``rule.keep_errors``.
    """

    logits: Tensor
    loss: Tensor
    _sizes: Tensor | None = None
    _signals: dict[str, Tensor] = field(default_factory=dict)
    input_signal: Tensor | None = None
    states: list[tuple[Tensor, Tensor]] | None = None
    errors: dict[str, Tensor] | None = None
    targets: dict[str, Tensor] | None = None

    @classmethod
    def of(cls, done: Computed) -> "Step":
        """Return the outcome of a computed step, without its updates."""
        return cls(
            done.logits, done.loss, done.sizes, done.signals, done.input_signal, done.states, done.errors, done.targets
        )

    def part(self, places: int | list[int]) -> "Step":
        """Return some replicas' share of a mapped step's outcome: of one without, of several with their dimension."""
        sizes = None if self._sizes is None else self._sizes[places]
        return Step(
            self.logits[places],
            self.loss[places],
            sizes,
            {name: value[places] for name, value in self._signals.items()},
            None if self.input_signal is None else self.input_signal[places],
        )

    @property
    def growth(self) -> Tensor | None:
        """How far the states of the step's inference grew, where the rule records it as ``inference.growth``: 0-d."""
        return self._signals.get("inference.growth")

    @property
    def signals(self) -> dict[str, Tensor]:
        """Statistics of the signals, 0-d tensors by name, computed when asked for.

        ``output.rms`` and ``output.active`` (share of samples with a signal) at the logits, and with ``rule.watch`` the
        RMS of the signal arriving at each weighted op, by its name.
        """
        if self._sizes is None:
            return dict(self._signals)
        elements = self._sizes.numel() * self.logits.shape[1:].numel()
        output = {
            "output.rms": torch.linalg.vector_norm(self._sizes) / elements**0.5,
            "output.active": (self._sizes > 0).to(self._sizes.dtype).mean(),
        }
        return output | self._signals


class Shares(Protocol):
    """Shares of each batch that a rule's updates are computed on: of several processes (`credit.training.backends.ranks`), or one
    after another (`credit.training.backends.pieces`)."""

    @property
    def across(self) -> Across | None:
        """The sums over all shares that BatchNorm takes its statistics from; None: they are each share's own."""

    def updates(self, rule: Any, x: Tensor, y: Tensor) -> Computed:
        """Return what the rule computes on a whole batch (B, ...) with labels (B,), share by share."""

    def maximum(self, value: Tensor) -> Tensor:
        """Return the largest of a value (0-d) over all shares."""


GROWN = 1e6
"""Times their size before any nudge, or a root mean square of that: states that have left for good."""


class InferenceDiverged(ArithmeticError):  # noqa: N818 - what happened to a run, and no mistake
    """The states of a step diverged: they give no updates, and the run ends as diverged.

    Args:
        where: the op whose states did, as ``linear 'fc1'``.
        why: what they did and what to write instead, in words that fit behind a colon: ``its states grew 4e+09 times; ...``.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"first in {where}: {why}")
        self.where, self.why = where, why

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.where, self.why)  # to other processes
