"""Record a run while it trains: evaluate, write metrics and save checkpoints when they are due."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from credit.core.writing import DiskError
from credit.rules.base import Step
from credit.runs.metrics import MetricsFile
from credit.runs.mirror import Mirror
from credit.runs.screen import Screen
from credit.training.evaluate import evaluate
from credit.training.monitors import large_loss
from credit.training.monitors.clock import ends_period
from credit.training.monitors.dead import DeadLayers
from credit.training.monitors.finite import DivergedError, check_parameters
from credit.training.monitors.interrupts import StopRequest
from credit.training.monitors.measure import Measures
from credit.training.monitors.stopping import early
from credit.training.state import checkpoint
from credit.training.state.fingerprint import note_differences
from credit.training.state.run_state import Training

MOST_FAILED = 3
"""How many checkpoints in a row may fail to be written: the last of them stops the run."""


@dataclass
class RunRecorder:
    """The recorder of one run: its monitors, its metrics file and its checkpoints.

    Attributes:
        run: the run.
        folder: the run's folder.
        metrics: the file of evaluations and measurements.
        screen: the run's terminal output.
        mirror: the process that forwards metrics to W&B, checked for its death; None without one.
        measures: the run's diagnostics, set by `begin`.
        dead: the monitor of dead layers, set by `begin`.
    """

    run: Training
    folder: Path
    metrics: MetricsFile
    screen: Screen
    mirror: Mirror | None
    measures: Measures = field(init=False)
    dead: DeadLayers = field(init=False)
    _found: dict[str, Any] | None = field(default=None, init=False)
    _failed: int = field(default=0, init=False)  # checkpoints in a row
    _saved: bool = field(default=False, init=False)  # whether there was a checkpoint

    def go_on(self, state: dict[str, Any] | None) -> None:
        """Restore the run from a checkpoint, and drop the rows of metrics written after it.

        Args:
            state: the checkpoint's content; None starts the run at its beginning.

        Raises:
            UserError: the checkpoint is of another run, or of other data or code.
        """
        run, folder, screen = self.run, self.folder, self.screen
        if state is None:
            if self.metrics.size():
                screen.line(f"no checkpoint was written before the run stopped: beginning again  {folder}")
            self.metrics.cut_back(0)
            return
        note_differences(run, run.restore(state, folder), screen.warn)
        self._saved = True
        if not self.metrics.cut_back(state["metrics_size"]):
            screen.warn(f"{folder / 'metrics.jsonl'} lost lines that the checkpoint at step {run.step} had seen")
        screen.line(f"resuming at step {run.step} of {run.total_steps}  {folder}")

    def begin(self) -> None:
        """Create the run's monitors, at its present step.

        Raises:
            UserError: a diagnostic cannot measure this run.
        """
        self.measures = Measures(self.run)
        self.dead = DeadLayers(self.run.rule, self.screen, self.run.total_steps, self.run.warm_steps)

    def due(self, measured: bool, stop: StopRequest) -> bool:
        """Return whether the loop calls `write` after this step.

        It does at the end of an epoch and of the run, after a measurement, if an evaluation is due, and on a request to stop.
        """
        run = self.run
        between = run.step % run.steps_per_epoch == 0 or self._due(run.cfg.trainer.eval_every)
        return run.ended or between or measured or bool(stop.signal)

    @property
    def in_first_steps(self) -> bool:
        """Whether `first_steps` is to be called at the next step."""
        return self.run.step == 0 or self.dead.looks(self.run.step)

    def first_steps(self, x: Tensor, y: Tensor, outcome: Step) -> None:
        """Check the loss of the run's first step, and its rule's first updates for dead layers, before they are applied.

        Args:
            x, y: the step's batch (B, ...) and labels (B,).
            outcome: the result of the rule's step.
        """
        if self.run.step == 0:
            self._see_loss(float(outcome.loss), 1)
        self.dead.see(self.run.step, outcome)

    def measure_before(self, x: Tensor, y: Tensor) -> None:
        """Call the diagnostics that are due, before the step, on its batch x (B, ...) and labels y (B,)."""
        self.measures.before(x, y)

    def measure_after(self, x: Tensor, y: Tensor, outcome: Step) -> None:
        """Call the diagnostics that are due, after the step, and store their numbers for its row.

        Args:
            x, y: the step's batch (B, ...) and labels (B,).
            outcome: the result of the rule's step.
        """
        self._found = self.measures.after(x, y, outcome)

    def write(self, x: Tensor, y: Tensor, outcome: Step, *, rate: float, saving: bool) -> None:
        """Evaluate, append a row and save a checkpoint, each if it is due.

        Args:
            x, y: the last step's batch (B, ...) and labels (B,).
            outcome: the result of the rule's step.
            rate: the step's learning rate.
            saving: save a checkpoint whether or not one is due.

        Raises:
            DivergedError: a loss, a parameter or an evaluation is not finite.
            InferenceDiverged: the inference of a diagnostic at the end of a run given up here diverged.
            DiskError: the row cannot be written, or the checkpoint cannot and the run has to stop (`_save`).
        """
        run, trainer = self.run, self.run.cfg.trainer
        check_parameters(run.model, run.step)
        # One row a step, with the evaluation, the measurements or both.
        row: dict[str, Any] = {"epoch": run.epoch, "step": run.step, "lr": rate}
        found, self._found = self._found, None
        better, evaluated = False, run.ended or self._due(trainer.eval_every)
        if evaluated:
            running = run.running.summary()
            row |= running | self._evaluation(outcome, x)
            self._see_loss(max(running["train_loss"], float(outcome.loss)), run.step)
            better = self._note(row)
            run.stopped = early(trainer, run.best, row, run.rule.task.primary)
            if run.stopped:
                found = (found or {}) | self.measures.ending(x, y, outcome)
            if not (run.ended or better):  # large, and reports read only that of the best and the last evaluation
                row.pop("confusion", None)
        if evaluated or found is not None:
            self.metrics.append(row | (found or {}))
        if evaluated and self.mirror is not None:
            self.mirror.check()
        if run.ended or better or saving or self._due(trainer.checkpoint_every):
            self._save(better, last_chance=run.ended or saving)

    def _save(self, better: bool, *, last_chance: bool) -> None:
        """Save a checkpoint. One that the disk refuses is tried again when the next is due, `MOST_FAILED` times.

        Args:
            better: it is that of the best evaluation, which is noted where it cannot be kept.
            last_chance: no other checkpoint is due after it.

        Raises:
            DiskError: the last try failed, or the run's folder was deleted or moved. Earlier checkpoints are as they were.
        """
        run, there = self.run, checkpoint.steps(self.folder)
        self.metrics.check_in_place()
        if self._saved and not there:
            self.screen.warn(
                f"the checkpoints of {self.folder} were deleted while the run trained; new ones are written"
            )
        try:
            checkpoint.save(self.folder, run.step, run.state(self.metrics.size()))
            self._failed, self._saved = 0, True
        except DiskError as error:
            self._failed += 1
            left = f"its last checkpoint, of step {there[-1]}, is intact" if there else "it has no checkpoint"
            if last_chance or self._failed == MOST_FAILED:
                raise DiskError(f"{error}. The run stopped at step {run.step}; {left}") from error
            self.screen.warn(f"{error}. The run goes on without a checkpoint of step {run.step}; {left}")
            if better:
                run.rule.notes.append(f"the checkpoint of step {run.step}, the best one so far, could not be written")

    def prune(self, common: int | None = None) -> None:
        """Delete all checkpoints but the last two, the best, and that of step `common`."""
        checkpoint.prune(self.folder, self.run.best["step"] if self.run.best else None, common)

    def _see_loss(self, loss: float, step: int) -> None:
        if self.run.see_loss(loss, step) and self.run.large_loss:
            self.screen.warn(large_loss.words(self.run.large_loss))

    def _due(self, period: float) -> bool:
        """Return whether a period, in epochs, ends at the present step."""
        return ends_period(self.run.step, period, self.run.steps_per_epoch)

    def _evaluation(self, outcome: Step, x: Tensor) -> dict[str, Any]:
        """Evaluate the network, and return the entries of the step's row in metrics.jsonl.

        Raises:
            DivergedError: a loss is not finite.
        """
        run, trainer = self.run, self.run.cfg.trainer
        report = "per_class" in trainer.report
        row = evaluate(run.rule.predictor(run.evaluated()), run.data, run.cfg.data.eval_batch_size, per_class=report)
        if any(not math.isfinite(row.get(f"{split}_loss", 0.0)) for split in ("val", "test")):
            raise DivergedError(run.step, run.rule.first_nonfinite(x) or "the evaluation")
        row["signals"] = {key: float(value) for key, value in outcome.signals.items() if value.numel() == 1}
        row["seconds"] = round(run.seconds, 3)
        return row

    def _note(self, row: dict[str, Any]) -> bool:
        """Store the row as the last and, by the measure on the validation part, as the best; return whether it is the best."""
        run = self.run
        run.last = {key: value for key, value in row.items() if not isinstance(value, dict)}
        primary = run.rule.task.primary
        key = f"val_{primary.name}"
        if row.get(key) is None or (run.best is not None and not primary.better(row[key], run.best[key])):
            return False
        run.best = run.last
        return True
