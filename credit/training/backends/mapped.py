"""Replicas in one pass: their parameters, optimizer and batches are stacked, and each run's own parts kept true."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from credit.data import Batches
from credit.rules.base import Step
from credit.rules.replicas import Mapped
from credit.runs.screen import Screen
from credit.training.adversarial import Attack
from credit.training.backends.base import Backend, Ends, Results
from credit.training.evaluate import Running
from credit.training.optimization import build_optimizer, set_learning_rate
from credit.training.run_recorder import RunRecorder

_COUNTER = "step"
"""An optimizer's state that is one number for all elements of a parameter, by torch's convention."""


class ReplicaBatch(Backend):
    """Runs whose step is one mapped step: tensors have the runs along their first dimension.

    Arguments and attributes as of `Backend`.

    Attributes:
        mapped: the runs' rules as one.
    """

    def __init__(self, recorders: Sequence[RunRecorder], screen: Screen, results: Results) -> None:
        super().__init__(recorders, screen, results, runs=len(recorders))
        self._map()

    def _map(self) -> None:
        """Make the step of the rules whose turn it is."""
        rules = [recorder.run.acting for recorder in self.recorders]
        self.mapped = Mapped(rules, compiled=self.first.cfg.trainer.compile)
        self._gather()

    def _gather(self) -> None:
        """Make one optimizer, one feed and one sum of what the runs have."""
        runs = [recorder.run for recorder in self.recorders]
        first = runs[0]
        self.batches = Batches([run.data for run in runs], first.cfg.data, seed=[run.cfg.seed for run in runs])
        weights, own = self.mapped.weights.values(), self.mapped.own.values()
        self.optimizer = build_optimizer(first.cfg.optimizer, weights, own, first.rule.feedback_settings)
        for stacked, parts in self._parameters():
            states = [run.optimizer.state.get(part, {}) for run, part in zip(runs, parts, strict=True)]
            if states[0]:
                self.optimizer.state[stacked] = {key: _stacked(key, states) for key in states[0]}
        self.running = Running(first.device, first.rule.task, len(runs))
        for at, run in enumerate(runs):
            self.running.share(at).restore(run.running.state())
            run.running = self.running.share(at)

    def _parameters(self) -> Iterator[tuple[nn.Parameter, tuple[nn.Parameter, ...]]]:
        """Yield each stacked parameter with the runs' own."""
        whole, *own = (
            [p for group in optimizer.param_groups for p in group["params"]]
            for optimizer in (self.optimizer, *(recorder.run.optimizer for recorder in self.recorders))
        )
        yield from zip(whole, zip(*own, strict=True), strict=True)

    def next_batch(self) -> None:
        if self.mapped.rules[0] is not self.first.acting:  # from a warm start to the runs' own rules
            self._apart()
            self._map()
        super().next_batch()

    def place(self) -> None:
        super().place()
        self.mapped.position = self.first.step

    def adversarial(self, attacks: Sequence[Attack]) -> Tensor:
        return Attack.together(attacks, self.mapped, self.x, self.y)

    def step(self) -> Ends:
        self.outcome = self.mapped.step(self.x, self.y)
        return {}

    def settle(self) -> None:
        for stacked, parts in self._parameters():
            state = self.optimizer.state.get(stacked, {})
            for at, (recorder, part) in enumerate(zip(self.recorders, parts, strict=True)):
                recorder.run.optimizer.state[part] = {key: _share(key, value, at) for key, value in state.items()}
        for recorder in self.recorders:
            set_learning_rate(recorder.run.optimizer, self.rate)
        self.place()

    def batch_of(self, at: int) -> tuple[Tensor, Tensor]:
        return self.x[at], self.y[at]

    def outcome_of(self, at: int) -> Step:
        self.mapped.show_updates(at)
        return self.outcome.part(at)

    def _apart(self) -> None:
        """Let every run stand by itself where the pass stands."""
        self.settle()
        for recorder in self.recorders:
            alone = Running(recorder.run.device, recorder.run.rule.task)
            alone.restore(recorder.run.running.state())
            recorder.run.running = alone

    def keep(self, stay: Sequence[int]) -> None:
        self._apart()
        self.recorders = [self.recorders[at] for at in stay]
        if self.recorders:
            self.mapped.keep(stay)
            self._gather()
            places = list(stay)
            self.x, self.y, self.outcome = self.x[places], self.y[places], self.outcome.part(places)


def _stacked(key: str, states: Sequence[dict[str, Any]]) -> Any:
    values = [state[key] for state in states]
    if key == _COUNTER or not isinstance(values[0], Tensor):
        return values[0].clone() if isinstance(values[0], Tensor) else values[0]
    return torch.stack(values)


def _share(key: str, value: Any, at: int) -> Any:
    if key == _COUNTER or not isinstance(value, Tensor):
        return value.clone() if isinstance(value, Tensor) else value
    return value[at]
