"""What the training loop asks of a backend: runs that stand at the same step, and how their next step is made."""

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from credit.core.writing import write_json
from credit.data import Batches
from credit.diagnostics.networks import as_input, float_dtype
from credit.rules.base import Rule, Step
from credit.rules.outcome import InferenceDiverged
from credit.runs.outcome import headline
from credit.runs.places import RESULT
from credit.runs.screen import Screen
from credit.training.adversarial import Attack, attack
from credit.training.evaluate import Running
from credit.training.monitors.finite import DivergedError, FiniteWatch, Lost
from credit.training.optimization import set_learning_rate
from credit.training.run_recorder import RunRecorder
from credit.training.state import checkpoint
from credit.training.state.result import result_of, write_result
from credit.training.state.run_state import Training

Ends = dict[int, DivergedError | None]
"""Runs that are evicted, by place: why, or None for one that is given up by ``trainer.stop_when``, which is no failure."""


Results = dict[Path, dict[str, Any]]
"""Contents of result.json by the run's folder."""


class NoRunsLeft(Exception):  # noqa: N818 - the end of a loop, and no mistake
    """The last run was evicted."""


class Backend(abc.ABC):
    """Runs that differ in their seed alone and stand at the same step.

    A run that diverges, or is given up, is evicted, and the others go on.

    Args:
        recorders: the runs and their records.
        screen: where the ends of runs are shown.
        results: receives each run's result as soon as it has one.
        runs: how many runs tensors have along their first dimension; None: one, without a dimension for it.

    Attributes:
        recorders: those under way.
        optimizer, batches: of all runs.
        running: loss and accuracy over the current epoch, of all runs.
        watch: looks for what is not finite.
        rate: learning rate of the last step.
        x, y: batch and labels of the current step.
        outcome: of the last step.
    """

    optimizer: Optimizer
    batches: Batches
    running: Running
    x: Tensor
    y: Tensor
    outcome: Step

    def __init__(
        self, recorders: Sequence[RunRecorder], screen: Screen, results: Results, runs: int | None = None
    ) -> None:
        self.recorders, self._screen, self._results = list(recorders), screen, results
        self._unwritten: list[RunRecorder] = []
        self._attacks: dict[Rule, Attack] = {}
        run = self.first
        self.rate, self._dtype = run.cfg.optimizer.lr, float_dtype(run.model)
        self.watch = FiniteWatch(run.device, run.rule.growth_limit, runs)

    @property
    def first(self) -> Training:
        """One of the runs, for what is the same for all."""
        return self.recorders[0].run

    def next_batch(self) -> None:
        """Make batch and labels of the next step, for the rules whose turn it is."""
        self.place()
        batch = self.batches.at(self.first.step)
        self.x, self.y = as_input(batch.x, self._dtype), batch.y
        if self.first.cfg.trainer.adversarial_epsilon is not None:
            self.x = self.adversarial([self._attack(recorder.run.acting) for recorder in self.recorders])

    def _attack(self, rule: Rule) -> Attack:
        """Return the attack on a rule, made at its first step."""
        if rule not in self._attacks:
            made = attack(rule, self.first.cfg.trainer)
            assert made is not None
            self._attacks[rule] = made
        return self._attacks[rule]

    @abc.abstractmethod
    def adversarial(self, attacks: Sequence[Attack]) -> Tensor:
        """Return the batch moved by the runs' attacks."""

    def place(self) -> None:
        """Let every rule stand at the runs' step."""
        for recorder in self.recorders:
            run = recorder.run
            run.acting.position = run.rule.position = run.step

    @abc.abstractmethod
    def step(self) -> Ends:
        """Fill ``.grad`` by the rules' step on the batch, and `outcome`; return the runs whose inference diverges."""

    def update(self, rate: float) -> None:
        """Move the weights by the last step's updates; the step is then done."""
        self.rate = rate
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        for recorder in self.recorders:
            run = recorder.run
            if run.average is not None:
                run.average.update_parameters(run.model)
            run.step += 1

    @abc.abstractmethod
    def settle(self) -> None:
        """Let every run's own optimizer and rule stand where the backend stands, for diagnostics and checkpoints."""

    @abc.abstractmethod
    def batch_of(self, at: int) -> tuple[Tensor, Tensor]:
        """Return one run's batch (B, ...) and labels (B,)."""

    @abc.abstractmethod
    def outcome_of(self, at: int) -> Step:
        """Return one run's outcome of the last step, the run's own parameters showing the updates."""

    @abc.abstractmethod
    def keep(self, stay: Sequence[int]) -> None:
        """Go on with the runs at these places; updates of the last step stay to be applied."""

    def each(self, step: int, work: Callable[..., None], *, stepped: bool = True) -> Ends:
        """Call a function with every run's recorder, batch, labels and outcome; return the runs that end by it.

        Args:
            step: the current step, counted from 1.
            work: raises `DivergedError` or `InferenceDiverged` where the run diverged.
            stepped: whether there is an outcome of the current step; else the function is called without.
        """
        ends = Ends()
        for at, recorder in enumerate(self.recorders):
            try:
                work(recorder, *self.batch_of(at), *([self.outcome_of(at)] if stepped else []))
            except DivergedError as end:
                ends[at] = end
            except InferenceDiverged as end:
                ends[at] = DivergedError.of(end, step)
            else:
                if recorder.run.stopped is not None:
                    ends[at] = None
        return ends

    def diverged(self, lost: dict[int, Lost]) -> Ends:
        """Return the runs that `watch` lost, with what is still to be found of where and why."""
        return {at: one.error(self.recorders[at].run.rule, *self.batch_of(at)) for at, one in lost.items()}

    def evict(self, ends: Ends) -> None:
        """Take runs out.

        Their results are written by `write_evicted`, when the others have checkpoints without them: runs that a kill leaves
        unfinished go on together as they did before.

        Raises:
            NoRunsLeft: they were the last.
        """
        if not ends:
            return
        for at, end in ends.items():
            recorder = self.recorders[at]
            told = {} if end is None else {"diverged": end.told()}
            result = result_of(recorder.run, "complete" if end is None else "diverged", **told)
            self._results[recorder.folder] = result
            self._unwritten.append(recorder)
            self._screen.line(f"{headline(result)}  {recorder.folder}")
        stay = [at for at in range(len(self.recorders)) if at not in ends]
        if stay:
            self.watch.keep(stay)
        self.keep(stay)
        if not stay:
            raise NoRunsLeft

    @property
    def evicted(self) -> bool:
        """Whether results of evicted runs are still to be written."""
        return bool(self._unwritten)

    def write_evicted(self) -> None:
        """Write the results of evicted runs."""
        for recorder in self._unwritten:
            write_json(recorder.folder / RESULT, self._results[recorder.folder])
            recorder.prune()
        self._unwritten.clear()

    def finish(self) -> None:
        """Write the results of all runs that are not over yet, as complete."""
        self.write_evicted()
        for recorder in self.recorders:
            result = self._results[recorder.folder] = write_result(recorder.run, recorder.folder, "complete")
            self._screen.line(f"{headline(result)}  {recorder.folder}")

    def prune(self) -> None:
        """Drop the runs' old checkpoints; the newest that all of them have stays until all have another."""
        common = max(set.intersection(*(set(checkpoint.steps(one.folder)) for one in self.recorders)), default=None)
        for recorder in self.recorders:
            recorder.prune(common)
