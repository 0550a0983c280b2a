"""One run, stepped by its own rule."""

from collections.abc import Sequence

from torch import Tensor

from credit.rules.base import Step
from credit.rules.outcome import InferenceDiverged
from credit.runs.screen import Screen
from credit.training.adversarial import Attack
from credit.training.backends.base import Backend, Ends, Results
from credit.training.monitors.finite import DivergedError
from credit.training.run_recorder import RunRecorder


class Single(Backend):
    """One run as it is: nothing is stacked, and tensors have no dimension for runs."""

    def __init__(self, recorders: Sequence[RunRecorder], screen: Screen, results: Results) -> None:
        super().__init__(recorders, screen, results)
        (recorder,) = recorders
        run = recorder.run
        self.optimizer, self.batches, self.running = run.optimizer, run.batches, run.running

    def adversarial(self, attacks: Sequence[Attack]) -> Tensor:
        return attacks[0](self.x, self.y)

    def step(self) -> Ends:
        run = self.first
        try:
            self.outcome = run.acting.step(self.x, self.y)
        except InferenceDiverged as end:
            return {0: DivergedError.of(end, run.step + 1)}
        return {}

    def settle(self) -> None:
        """Do nothing: what moves is the run's own."""

    def batch_of(self, at: int) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    def outcome_of(self, at: int) -> Step:
        return self.outcome

    def keep(self, stay: Sequence[int]) -> None:
        self.recorders = [self.recorders[at] for at in stay]
