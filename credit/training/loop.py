"""Training a run: one loop, readable from top to bottom.

    batch -> (diagnostics) -> rule -> update -> (diagnostics) -> evaluation -> metrics -> checkpoint

Nothing in the loop remembers anything but the `Training` it works on, so a run that was killed goes on bit for bit.
"""

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.data import load
from credit.diagnostics.networks import float_dtype
from credit.rules.outcome import InferenceDiverged
from credit.runs.folder import RESULT, locked, run_folder, write_config
from credit.runs.made_from import write_made_from
from credit.runs.metrics import MetricsFile
from credit.runs.mirror import Mirror, no_mirror
from credit.runs.outcome import finished, headline, start_anew
from credit.runs.screen import Screen
from credit.training.monitors.dead import DeadLayers
from credit.training.monitors.finite import DivergedError, FiniteWatch
from credit.training.monitors.interrupts import StopRequest, stop_requests
from credit.training.monitors.measure import Measures
from credit.training.optimization import set_learning_rate
from credit.training.prepare import prepare
from credit.training.result import write_result
from credit.training.run_recorder import Book
from credit.training.schedules import learning_rate
from credit.training.state.run_state import Training, begin
from credit.training.threads import threads


def train(cfg: RunConfig, *, console: bool = True) -> dict[str, Any]:
    """Train one run to its end and return the content of its result.json.

    An unfinished run is resumed from its newest checkpoint; a finished one is only reported.

    Args:
        cfg: the run.
        console: show progress; warnings are shown in any case.

    Raises:
        UserError: the run cannot work as given, its folder is in use or its checkpoints are all damaged.
    """
    if cfg.replicas != 1:
        raise UserError(
            f"train() with replicas={cfg.replicas}: it trains one run and returns its result; write "
            f"credit.training.train_together([dataclasses.replace(cfg, replicas=1, seed=s) for s in range(20)])"
        )
    folder = run_folder(cfg)
    result = finished(cfg, console=console)
    if result is not None:
        return result
    with threads(cfg.trainer.threads or 1):  # first weights are the same ones on every machine
        prepared = prepare(cfg)
    with threads(prepared.threads.count):
        # Before the folder is made: missing or corrupt data leaves none behind.
        data = load(cfg.data, cfg.noise, seed=cfg.seed, device=prepared.device)
        run = begin(prepared, data)
        cfg = start_anew(folder, cfg)
        with locked(folder):
            result = finished(cfg, console=console)  # by another process, since the first look
            if result is not None:
                return result
            (folder / RESULT).unlink(missing_ok=True)  # of an attempt that failed
            write_config(folder, cfg)
            write_made_from(folder, run.made_from)
            with Screen(run.total_steps, show=console, bar=cfg.trainer.progress) as screen:
                return _to_the_end(run, folder, screen)


def _to_the_end(run: Training, folder: Path, screen: Screen) -> dict[str, Any]:
    """Resume or begin, train, and write the result whatever happened."""
    metrics = MetricsFile(folder)
    with contextlib.closing(metrics), Mirror([folder], screen) if run.cfg.logger.wandb else no_mirror() as mirror:
        for note in run.notes:  # what a user must know of this rule on this network, local autograd for one
            screen.line(f"note: {note}")
        run.together = [run.cfg.seed]
        book = Book(run, folder, metrics, screen, mirror)
        book.resume()
        try:
            with stop_requests() as stop:
                fit(book, stop)
            result = write_result(run, folder, "complete")
        except DivergedError as end:
            result = write_result(run, folder, "diverged", diverged=end.told())
        except InferenceDiverged as end:
            result = write_result(run, folder, "diverged", diverged=DivergedError.of(end, run.step + 1).told())
        except UserError:
            raise
        except Exception as error:  # recorded, so that a sweep's table can say what happened, and raised again
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_result(run, folder, "failed", error=f"{type(error).__name__}: {error}")
            raise
        screen.line(f"{headline(result)}  {folder}")
    return result


def fit(book: Book, stop: StopRequest) -> None:
    """Train from where a run stands to its last step.

    Args:
        book: the run, changed in place, and its records.
        stop: whether the user wants to stop.

    Raises:
        DivergedError: a loss, logit or parameter is not finite.
        InferenceDiverged: the next step's inference of states ran away.
        UserError: a diagnostic that cannot measure this run.
    """
    run, cfg, screen = book.run, book.run.cfg, book.screen
    dtype, watch, measures = float_dtype(run.model), FiniteWatch(run.rule, run.device), Measures(run)
    dead = DeadLayers(run.rule, screen, run.total_steps, first=run.warm_steps)
    screen.begin(run.step)
    started = time.perf_counter()
    while not run.ended:
        # Batch: a function of the step.
        if run.step % run.steps_per_epoch == 0:
            run.running.reset()
        batch = run.batches.at(run.step)
        x = batch.x.to(dtype)
        rule = run.acting  # the warm start's in its first steps
        rule.position = run.rule.position = run.step

        # Diagnostics that are due see the weights before the step, here, and after it, below.
        measured = measures.due(run.step + 1)
        if measured:
            measures.before(x, batch.y)

        # Rule: fills p.grad with a descent direction.
        outcome = rule.step(x, batch.y)
        dead.see(run.step, outcome)
        watch.see(run.step + 1, x, batch.y, outcome)
        book.first(outcome)
        run.running.add(outcome.logits, outcome.loss, batch.y)

        # Update: learning rate of this step, torch's optimizer, averaged weights.
        rate = learning_rate(cfg.schedule, cfg.optimizer.lr, run.step, run.total_steps, run.steps_per_epoch)
        set_learning_rate(run.optimizer, rate)
        run.optimizer.step()
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.step += 1
        screen.step(run.step)
        found = measures.after(x, batch.y, outcome) if measured else None

        # Between epochs, at the end, where something was measured and when asked to stop, the loop looks up.
        if not book.due(measured, stop):
            continue
        watch.settle(x, batch.y)
        running = run.running.summary()  # waits for the device, so the clock is right
        run.seconds += time.perf_counter() - started
        stopping = bool(stop.signal)  # asked for from here on, it waits for the next step's checkpoint
        book.write(outcome, x, rate, running, found, partial(measures.ending, x, batch.y, outcome), stopping)
        book.prune()
        if stopping and not run.ended:
            screen.line(f"stopped at step {run.step}; give the same command again to go on  {book.folder}")
            stop.leave()
        started = time.perf_counter()
