"""Runs under way in one pass: their parameters, optimizer and batches stacked, each run's own parts kept true."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from credit.data.stacked import StackedBatches
from credit.rules.base import Step
from credit.rules.replicas import Mapped
from credit.runs.folder import RESULT, write_json
from credit.training.evaluate import Running
from credit.training.optimization import build_optimizer, set_learning_rate
from credit.training.run_recorder import Book
from credit.training.state import checkpoint
from credit.training.state.run_state import Training

_COUNTER = "step"
"""An optimizer's state that is one number for all elements of a parameter, by torch's convention."""


class Cohort:
    """Runs that differ in their seed alone and stand at the same step.

    Args:
        books: the runs and their records.

    Attributes:
        books: those still in the pass.
        mapped: their rules as one.
        running: loss and accuracy over the current epoch, (replicas, ...).
        left: folders and results of runs that left the pass and whose results are not written yet.
    """

    def __init__(self, books: Sequence[Book]) -> None:
        self.books = list(books)
        self.left: list[tuple[Path, dict[str, Any]]] = []
        cfg = self.books[0].run.cfg
        self._compiled = cfg.trainer.compile
        self.mapped = Mapped([book.run.acting for book in books], compiled=self._compiled)
        self._gather()

    def _gather(self) -> None:
        """Make one optimizer, one feed and one sum of what the runs have."""
        runs = [book.run for book in self.books]
        self.batches = StackedBatches([run.batches for run in runs])
        weights, own = self.mapped.weights.values(), self.mapped.own.values()
        self.optimizer = build_optimizer(runs[0].cfg.optimizer, weights, own, runs[0].rule.own_settings)
        for stacked, parts in self._parameters():
            states = [run.optimizer.state.get(part, {}) for run, part in zip(runs, parts, strict=True)]
            if states[0]:
                self.optimizer.state[stacked] = {key: _stacked(key, states) for key in states[0]}
        self.running = Running(runs[0].device, len(runs))
        for at, run in enumerate(runs):
            self.running.share(at).restore(run.running.state())
            run.running = self.running.share(at)

    def _parameters(self) -> Iterator[tuple[nn.Parameter, tuple[nn.Parameter, ...]]]:
        """Yield each stacked parameter with the runs' own."""
        whole = [p for group in self.optimizer.param_groups for p in group["params"]]
        own = [[p for group in book.run.optimizer.param_groups for p in group["params"]] for book in self.books]
        yield from zip(whole, zip(*own, strict=True), strict=True)

    @property
    def first(self) -> Training:
        """One of the runs, for what is the same for all."""
        return self.books[0].run

    def stand(self) -> None:
        """Let every rule stand at the runs' step."""
        self.mapped.position = self.first.step
        for book in self.books:
            book.run.acting.position = book.run.rule.position = book.run.step

    def update(self, rate: float) -> None:
        """Move every run's weights by the updates of the last step, which is then done."""
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        for book in self.books:
            if book.run.average is not None:
                book.run.average.update_parameters(book.run.model)
            book.run.step += 1

    def settle(self, rate: float) -> None:
        """Let every run's own optimizer and rule stand where the pass stands, for a checkpoint."""
        for stacked, parts in self._parameters():
            state = self.optimizer.state.get(stacked, {})
            for at, (book, part) in enumerate(zip(self.books, parts, strict=True)):
                book.run.optimizer.state[part] = {key: _share(key, value, at) for key, value in state.items()}
        for book in self.books:
            set_learning_rate(book.run.optimizer, rate)
        self.stand()

    def outcome(self, step: Step, at: int) -> Step:
        """Return one run's share of a step's outcome, its own parameters showing its share of the updates."""
        self.mapped.show_updates(at)
        return step.part(at)

    def follow(self) -> None:
        """Let the next step be made by the rules whose turn it is: after a warm start, by the runs' own."""
        if self.mapped.rules[0] is not self.first.acting:
            self._apart()
            self.mapped = Mapped([book.run.acting for book in self.books], compiled=self._compiled)
            self._gather()

    def _apart(self) -> None:
        """Let every run stand by itself where the pass stands."""
        self.settle(self.optimizer.param_groups[0]["lr"])
        for book in self.books:
            alone = Running(book.run.device)
            alone.restore(book.run.running.state())
            book.run.running = alone

    def write_left(self) -> None:
        """Write the results of runs that left the pass."""
        for folder, result in self.left:
            write_json(folder / RESULT, result)
        self.left.clear()

    def prune(self) -> None:
        """Drop the runs' old checkpoints; the newest that all of them have stays until all have another."""
        steps = [set(checkpoint.steps(book.folder)) for book in self.books]
        common = max(set.intersection(*steps), default=None) if steps else None
        for book in self.books:
            book.prune(common)

    def keep(self, stay: Sequence[int]) -> None:
        """Go on with the runs at these places; their updates of the last step stay to be applied."""
        self._apart()
        self.books = [self.books[at] for at in stay]
        if self.books:
            self.mapped.keep(stay)
            self._gather()


def _stacked(key: str, states: Sequence[dict[str, Any]]) -> Any:
    values = [state[key] for state in states]
    if key == _COUNTER or not isinstance(values[0], Tensor):
        return values[0].clone() if isinstance(values[0], Tensor) else values[0]
    return torch.stack(values)


def _share(key: str, value: Any, at: int) -> Any:
    if key == _COUNTER or not isinstance(value, Tensor):
        return value.clone() if isinstance(value, Tensor) else value
    return value[at]
