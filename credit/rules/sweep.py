"""The sweep family: output signal, gate, transport and normalizer are four choices, and a rule is their product."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

import torch
from torch import Tensor

from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Sweeper
from credit.errors import UserError
from credit.options import written
from credit.rules import gates, normalizers, signals, transports
from credit.rules.registry import FAMILIES, fields, lookup, make, register
from credit.rules.rule import Computed, Rule, SharedOptions

_COMPONENTS = ("signal", "gate", "transport", "normalizer")
assert gates and normalizers and signals and transports  # importing them registers their names


@dataclass(frozen=True)
class SweepOptions(SharedOptions):
    """The four choices, and what belongs to the sweep itself.

    Attributes:
        signal, gate, transport, normalizer: names of registered components; each has options of its own.
        signal_dropout: LISP's constraint dropout (Appendix B): share of a signal's elements zeroed on arrival at each
            weighted op, the rest scaled up by 1 / (1 - share).
    """

    signal: str = "ce"
    gate: str = "derivative"
    transport: str = "transpose"
    normalizer: str = "none"
    signal_dropout: float = 0.0


@register("rule", "sweep")
class SweepRule(Rule, Sweeper):
    """One forward pass, one signal sent back. See ``SweepOptions`` and the registered components."""

    OPTIONS = SweepOptions
    name = "sweep"

    @classmethod
    def options(cls) -> dict[str, tuple[Any, Any]]:
        """Options of the sweep and of every component that could be chosen."""
        known = super().options()
        for family in _COMPONENTS:
            for component in FAMILIES[family].values():
                known |= fields(component)
        return known

    def setup(self, options: Mapping[str, Any]) -> None:
        self.choices: SweepOptions = make(self.OPTIONS, f"rule '{self.name}'", options)
        if not 0 <= self.choices.signal_dropout < 1:
            raise UserError(
                f"rule.signal_dropout={self.choices.signal_dropout:g} is outside [0, 1): it is a share of the signal"
            )
        chosen = {family: lookup(family, getattr(self.choices, family)) for family in _COMPONENTS}
        self._refuse_unread(options, chosen)
        made = {
            family: make(cls, f"{family} '{getattr(self.choices, family)}'", options) for family, cls in chosen.items()
        }
        self.signal, self.gating, self.transport, self.normalizer = (made[family] for family in _COMPONENTS)
        self._refuse_activations()
        self.keeps_output = self.transport.direct
        self.plan.configure(self)
        if not self.transport.direct:
            self._make_feedback({}, 0)

    def _refuse_unread(self, options: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        """An option of a component that was not chosen may only stand at its default."""
        read = set(fields(self.OPTIONS)).union(*(fields(component) for component in chosen.values()))
        for option, value in options.items():
            if option in read or value == self.options()[option][1]:
                continue
            owners = [
                f"rule.{family}={name}"
                for family in _COMPONENTS
                for name, component in FAMILIES[family].items()
                if option in fields(component)
            ]
            raise UserError(
                f"rule.{option}={written(value)} would change nothing: none of this rule's choices "
                f"read it; it belongs to {', '.join(owners)}"
            )

    def _refuse_activations(self) -> None:
        for op in self.plan.ops:
            if isinstance(op, Activate) and any(op.wants) and (why := self.gating.refusal(op)):
                able = [
                    name
                    for name, gate in FAMILIES["gate"].items()
                    if all(default is not MISSING for _, default in fields(gate).values())
                    and gate().refusal(op) is None
                ]
                raise UserError(
                    f"rule.gate={self.choices.gate} cannot take {op.args['name']} at '{op.name}' in "
                    f"{type(self.model).__name__}: {why}. "
                    f"Gates that take it: {', '.join(able)}"
                )

    # ------------------------------------------------------------ feedback

    def prepare(self, x: Tensor) -> None:
        """Make the feedback matrices that need shapes, unless they were set or loaded already."""
        if self.transport.direct:
            run = self._run(self._params, self._model_buffers_copy(), Draws(self.seed, self.position, x.device))
            with torch.no_grad():
                logits = self.plan.forward(run, x)
            shapes = {op.name: op.input_shape(run) for op in self._crossed()}
            self._make_feedback(shapes, logits.shape[1])
        super().prepare(x)

    def _model_buffers_copy(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._model_buffers().items()}

    def _crossed(self) -> list[Weighted]:
        return [op for op in self.plan.back if isinstance(op, Weighted) and op.wants[0]]

    def _make_feedback(self, shapes: Mapping[str, torch.Size], classes: int) -> None:
        for op in self._crossed():
            weight = self._params[op.params["weight"]].detach()
            made = self.transport.feedback(op, weight, shapes.get(op.name), classes, self.seed)
            for name, value in made.items():
                self.buffers.make(name, value)

    # ------------------------------------------------------------ the step

    def _run(self, params: dict[str, Tensor], buffers: dict[str, Tensor], draws: Any) -> Run:
        run = self.plan.run(params, buffers, draws, self.dtype)
        run.overwrite = isinstance(draws, Draws)
        return run

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        # The signal is handed over, not held here, so that its memory is free while the sweep goes on.
        updates = self.plan.sweep(run, self._output(run, logits, y), self)
        loss, sizes = run.stats.pop("loss"), run.stats.pop("sizes")
        return Computed(logits, loss, updates, sizes, run.stats)

    def _output(self, run: Run, logits: Tensor, y: Tensor) -> Tensor:
        """Return the output signal, leaving the loss and the signal's size per sample in ``run.stats``."""
        signal: Tensor
        signal, run.stats["loss"] = self.signal(logits if self.dtype is None else logits.float(), y)
        run.stats["sizes"] = torch.linalg.vector_norm(signal, dim=1) * run.batch
        if self.keeps_output:
            run.error = signal
        return signal

    def keeps(self, op: Activate) -> set[str]:
        kept: set[str] = self.gating.keeps(op)
        return kept

    def arrive(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        signal = self.normalizer(op, run, signal)
        if self.choices.signal_dropout:
            keep = 1 - self.choices.signal_dropout
            mask = run.draws.get(f"signal_dropout.{op.name}", "uniform", tuple(signal.shape), signal.dtype) < keep
            signal = signal * mask / keep
        if self.watch:
            run.stats[op.name] = signal.square().mean().sqrt() * run.batch
        return signal

    def gate(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        passed: Tensor = self.gating(op, run, signal)
        return passed

    def cross(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        sent: Tensor = self.transport.cross(op, run, signal)
        return sent
