"""Training a run: one loop, readable from top to bottom.

    batch -> (diagnostics) -> rule -> update -> (diagnostics) -> evaluation -> metrics -> checkpoint

Nothing in the loop remembers anything but the `Training` it works on, so a run that was killed goes on bit for bit.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from credit.config.schema import RunConfig
from credit.data import load
from credit.errors import UserError
from credit.records.folder import RESULT, locked, run_folder, write_config
from credit.records.metrics import MetricsFile
from credit.records.mirror import Mirror, no_mirror
from credit.records.outcome import finished, headline
from credit.records.screen import Screen
from credit.rules.rule import Step
from credit.training import checkpoint
from credit.training.evaluate import evaluate, float_dtype, with_fresh_statistics
from credit.training.finite import DivergedError, FiniteWatch, check_parameters
from credit.training.interrupts import StopRequest, stop_requests
from credit.training.measure import Measures
from credit.training.prepare import prepare
from credit.training.result import write_result
from credit.training.schedules import learning_rate
from credit.training.state import Training, begin
from credit.training.updates import set_learning_rate


def train(cfg: RunConfig, *, console: bool = True) -> dict[str, Any]:
    """Train one run to its end and return the content of its result.json.

    An unfinished run is resumed from its newest checkpoint; a finished one is only reported.

    Args:
        cfg: the run.
        console: show progress; warnings are shown in any case.

    Raises:
        UserError: the run cannot work as given, its folder is in use or its checkpoints are all damaged.
    """
    folder = run_folder(cfg)
    result = finished(cfg, console=console)
    if result is not None:
        return result
    with _threads(cfg.trainer.threads):
        prepared = prepare(cfg)
        # Before the folder is made: missing or corrupt data leaves none behind.
        data = load(cfg.data, cfg.noise, seed=cfg.seed, device=prepared.device)
        run = begin(prepared, data)
        with locked(folder):
            result = finished(cfg, console=console)  # by another process, since the first look
            if result is not None:
                return result
            (folder / RESULT).unlink(missing_ok=True)  # of an attempt that failed
            write_config(folder, cfg)
            with Screen(run.total_steps, show=console, bar=cfg.trainer.progress) as screen:
                return _to_the_end(run, folder, screen)


def _to_the_end(run: Training, folder: Path, screen: Screen) -> dict[str, Any]:
    """Resume or begin, train, and write the result whatever happened."""
    metrics = MetricsFile(folder)
    with contextlib.closing(metrics), Mirror(folder, screen) if run.cfg.logger.wandb else no_mirror() as mirror:
        for note in run.rule.notes:  # what a user must know of this rule on this network, local autograd for one
            screen.line(f"note: {note}")
        _resume(run, folder, metrics, screen)
        try:
            with stop_requests() as stop:
                fit(run, folder, metrics, screen, mirror, stop)
            result = write_result(run, folder, "complete")
        except DivergedError as end:
            result = write_result(run, folder, "diverged", diverged={"step": end.step, "where": end.where})
        except UserError:
            raise
        except Exception as error:  # recorded, so that a sweep's table can say what happened, and raised again
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_result(run, folder, "failed", error=f"{type(error).__name__}: {error}")
            raise
        screen.line(f"{headline(result)}  {folder}")
    return result


def fit(
    run: Training, folder: Path, metrics: MetricsFile, screen: Screen, mirror: Mirror | None, stop: StopRequest
) -> None:
    """Train from where `run` stands to its last step.

    Args:
        run: the run; changed in place.
        folder: where checkpoints go.
        metrics: where evaluations and measurements go.
        screen: what the user sees.
        mirror: W&B's process, watched for its death; None without.
        stop: whether the user wants to stop.

    Raises:
        DivergedError: a loss, logit or parameter is not finite.
        UserError: a diagnostic that cannot measure this run.
    """
    cfg, trainer = run.cfg, run.cfg.trainer
    dtype, watch, measures = float_dtype(run.model), FiniteWatch(run.rule, run.device), Measures(run)
    screen.begin(run.step)
    started = time.perf_counter()
    while run.step < run.total_steps:
        # Batch: a function of the step.
        if run.step % run.steps_per_epoch == 0:
            run.running.reset()
        batch = run.batches.at(run.step)
        x = batch.x.to(dtype)
        run.rule.position = run.step

        # Diagnostics that are due see the weights before the step, here, and after it, below.
        measured = measures.due(run.step + 1)
        if measured:
            measures.before(x, batch.y)

        # Rule: fills p.grad with a descent direction.
        outcome = run.rule.step(x, batch.y)
        watch.see(run.step + 1, x, outcome.logits, outcome.loss)
        run.running.add(outcome.logits, outcome.loss, batch.y)

        # Update: learning rate of this step, torch's optimizer, averaged weights.
        rate = learning_rate(cfg.schedule, cfg.optimizer.lr, run.step, run.total_steps, run.steps_per_epoch)
        set_learning_rate(run.optimizer, rate)
        run.optimizer.step()
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.step += 1
        screen.step(run.step)
        found = measures.after(x, batch.y, outcome) if measured else {}

        # Between epochs, at the end, where something was measured and when asked to stop, the loop looks up.
        ended, epoch_end = run.step == run.total_steps, run.step % run.steps_per_epoch == 0
        if not (ended or epoch_end or measured or stop.signal):
            continue
        watch.settle(x)
        check_parameters(run.model, run.step)
        running = run.running.summary()  # waits for the device, so the clock is right
        run.seconds += time.perf_counter() - started

        # Evaluation and metrics: one row a step, with the evaluation, the measurements or both.
        row: dict[str, Any] = {"epoch": run.epoch, "step": run.step, "lr": rate}
        better, evaluated = False, ended or _due(run, trainer.eval_every)
        if evaluated:
            row |= running | _evaluation(run, outcome, x)
            better = _note(run, row)
        if evaluated or measured:
            metrics.append(row | found)
        if evaluated:
            screen.evaluated(row, run.total_steps / run.steps_per_epoch)
            if mirror is not None:
                mirror.check()

        # Checkpoint.
        if ended or better or stop.signal or _due(run, trainer.checkpoint_every):
            best = run.best["step"] if run.best else None
            checkpoint.save(folder, run.step, run.state(metrics.size()), best)
        if stop.signal and not ended:
            screen.line(f"stopped at step {run.step}; give the same command again to go on  {folder}")
            stop.leave()
        started = time.perf_counter()


def _due(run: Training, period: int) -> bool:
    """Say whether an epoch ends here, one of those that come every `period` epochs."""
    return run.step % (period * run.steps_per_epoch) == 0


def _evaluation(run: Training, outcome: Step, x: torch.Tensor) -> dict[str, Any]:
    """Evaluate and return what the step's row of metrics.jsonl says of it."""
    trainer = run.cfg.trainer
    report = "per_class" in trainer.report
    # The first steps' batches: the same ones at every evaluation.
    inputs = (run.batches.at(step).x.to(x.dtype) for step in range(trainer.bn_batches))
    model = with_fresh_statistics(run.evaluated_model, inputs) if trainer.bn_batches else run.evaluated_model
    row = evaluate(model, run.data, run.cfg.data.eval_batch_size, per_class=report)
    if any(not math.isfinite(row.get(f"{split}_loss", 0.0)) for split in ("val", "test")):
        raise DivergedError(run.step, run.rule.first_nonfinite(x) or "the evaluation")
    row["signals"] = {key: float(value) for key, value in outcome.signals.items() if value.numel() == 1}
    row["seconds"] = round(run.seconds, 3)
    return row


def _note(run: Training, row: dict[str, Any]) -> bool:
    """Remember the row as the last and, by validation accuracy alone, as the best; say whether it is the new best."""
    run.last = {key: value for key, value in row.items() if not isinstance(value, dict)}
    accuracy = row.get("val_top1")
    if accuracy is None or (run.best is not None and accuracy <= run.best["val_top1"]):
        return False
    run.best = run.last
    return True


def _resume(run: Training, folder: Path, metrics: MetricsFile, screen: Screen) -> None:
    state = checkpoint.latest(folder, screen.warn)
    if state is None:
        if metrics.size():
            screen.line(f"no checkpoint was written before the run stopped: beginning again  {folder}")
        metrics.cut_back(0)
        return
    run.restore(state)
    if not metrics.cut_back(state["metrics_size"]):
        screen.warn(f"{folder / 'metrics.jsonl'} lost lines that the checkpoint at step {run.step} had seen")
    screen.line(f"resuming at step {run.step} of {run.total_steps}  {folder}")


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
