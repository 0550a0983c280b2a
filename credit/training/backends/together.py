"""Training runs that differ in their seed alone in one pass, as if each had been trained by itself.

The loop is `fit`'s with a replica dimension: one mapped step, one optimizer step, and then every run's own book-keeping. A
run that leaves the finite numbers, or whose diagnostics cannot measure it, costs no other.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.data import load_many
from credit.diagnostics.networks import float_dtype
from credit.rules.base import Step
from credit.runs.folder import RESULT, locked, run_folder, write_config
from credit.runs.made_from import write_made_from
from credit.runs.metrics import MetricsFile
from credit.runs.mirror import Mirror, no_mirror
from credit.runs.outcome import finished, headline, start_anew
from credit.runs.screen import Screen
from credit.training.backends.eviction import Ends, Results, ending, parted, without
from credit.training.backends.replica_batch import Cohort
from credit.training.monitors.dead import DeadLayers
from credit.training.monitors.finite import DivergedError, FiniteWatches
from credit.training.monitors.interrupts import StopRequest, stop_requests
from credit.training.monitors.measure import Measures
from credit.training.prepare import Prepared, prepare
from credit.training.result import write_result
from credit.training.run_recorder import Book
from credit.training.schedules import learning_rate
from credit.training.state.resuming import resume_together
from credit.training.state.run_state import begin
from credit.training.threads import threads
from credit.training.warm import warm_alone


def train_together(cfgs: Sequence[RunConfig], *, console: bool = True) -> list[dict[str, Any]]:
    """Train runs that differ in their seed alone in one pass; return the content of each one's result.json, in order.

    Folders, metrics, checkpoints and results are those that `train` would give each run, to rounding. Unfinished runs are
    resumed (those that stand at different steps in a pass of their own each), finished ones are only reported.

    Args:
        cfgs: the runs.
        console: show progress; warnings are shown in any case.

    Raises:
        UserError: the runs differ in more than their seed, one cannot work as given, or another process trains one of them.
    """
    check_alike(cfgs)
    results: Results = {}
    waiting = [cfg for cfg in cfgs if not _reported(cfg, results, console)]
    if waiting:
        with threads(waiting[0].trainer.threads or 1):  # first weights are the same ones on every machine
            prepared = {cfg.seed: prepare(cfg) for cfg in waiting}
        # Those of one run, so that a pass over the runs that a kill left unfinished computes as the whole did.
        with threads(prepared[waiting[0].seed].threads.count):
            _train(prepared, results, console)
    return [results[run_folder(cfg)] for cfg in cfgs]


def check_alike(cfgs: Sequence[RunConfig]) -> None:
    """Refuse runs that cannot be trained in one pass.

    Raises:
        UserError: none, one that stands for several itself, or two that differ in more than their seed.
    """
    if not cfgs:
        raise UserError("train_together([]): there is no run to train")
    first = cfgs[0].as_dict()
    for cfg in cfgs:
        if cfg.replicas != 1:
            raise UserError(f"replicas={cfg.replicas} of one of several runs: give each seed as a run with replicas=1")
        other = cfg.as_dict()
        different = [key for key in first if key != "seed" and first[key] != other[key]]
        if different:
            raise UserError(
                f"runs trained in one pass may differ in their seed alone; seed {cfg.seed} differs from seed "
                f"{cfgs[0].seed} in {', '.join(different)} too"
            )


def _reported(cfg: RunConfig, results: Results, console: bool) -> bool:
    result = finished(cfg, console=console)
    if result is not None:
        results[run_folder(cfg)] = result
    return result is not None


def _train(prepared: dict[int, Prepared], results: Results, console: bool) -> None:
    """Train the runs of one pass (by seed) that are not finished, and note what each came to."""
    first = next(iter(prepared.values()))
    if refusal := warm_alone(first.rule, first.warm):
        raise UserError(f"train_together: {refusal}; train each run by itself")
    # Before folders are made: missing or corrupt data leaves none behind.
    sets = load_many(first.cfg.data, first.cfg.noise, list(prepared), first.device)
    runs = [begin(part, data) for part, data in zip(prepared.values(), sets, strict=True)]
    for run in runs:
        start_anew(run_folder(run.cfg), run.cfg)
    with contextlib.ExitStack() as held:
        for run in runs:
            held.enter_context(locked(run_folder(run.cfg)))
        # By another process, since the first look.
        runs = [run for run in runs if not _reported(replace(run.cfg, rerun=False), results, console)]
        if not runs:
            return
        for run in runs:
            (run_folder(run.cfg) / RESULT).unlink(missing_ok=True)  # of an attempt that failed
            write_config(run_folder(run.cfg), run.cfg)
            write_made_from(run_folder(run.cfg), run.made_from)
        screen = held.enter_context(Screen(runs[0].total_steps, show=console, bar=first.cfg.trainer.progress))
        silent = Screen(runs[0].total_steps, show=False)
        folders = [run_folder(run.cfg) for run in runs]
        mirror = held.enter_context(Mirror(folders, screen) if first.cfg.logger.wandb else no_mirror())
        books = []
        for run, folder in zip(runs, folders, strict=True):
            metrics = held.enter_context(contextlib.closing(MetricsFile(folder)))
            books.append(Book(run, folder, metrics, silent, mirror))
        for note in runs[0].notes:
            screen.line(f"note: {note}")
        _passes(books, screen, results)


def _passes(books: Sequence[Book], screen: Screen, results: Results) -> None:
    """Resume the runs, and train those that stand at the same step together."""
    groups = resume_together(books)
    with stop_requests() as stop:
        for group in groups:
            step = group[0].run.step
            for book in group:
                book.run.together = sorted(one.run.cfg.seed for one in group)
            if step:
                screen.line(f"resuming {len(group)} of {len(books)} runs at step {step} of {group[0].run.total_steps}")
            try:
                fit_together(group, stop, screen, results)
            except UserError:
                raise
            except Exception as error:  # recorded for every run it stopped, and raised again
                for book in group:
                    if book.folder not in results:
                        with contextlib.suppress(OSError):  # the disk may be what failed
                            write_result(book.run, book.folder, "failed", error=f"{type(error).__name__}: {error}")
                raise


def fit_together(books: Sequence[Book], stop: StopRequest, screen: Screen, results: Results) -> None:
    """Train runs that stand at the same step to their end.

    Args:
        books: the runs, changed in place, and their records.
        stop: whether the user wants to stop.
        screen: where the pass as a whole is shown.
        results: receives each run's result by its folder, as soon as it has one.

    Raises:
        UserError: a diagnostic that cannot measure these runs.
    """
    cohort, first = Cohort(books), books[0].run
    cfg, dtype = first.cfg, float_dtype(first.model)
    watch = FiniteWatches(len(books), first.device, first.rule.growth_limit)
    measures = {book.folder: Measures(book.run) for book in books}
    dead = {
        book.folder: DeadLayers(book.run.rule, book.screen, book.run.total_steps, book.run.warm_steps) for book in books
    }
    screen.begin(first.step)
    started = time.perf_counter()
    while cohort.books and not cohort.first.ended:
        cohort.follow()  # from a warm start to the run's rule
        # Batch: a function of the step.
        run = cohort.first
        if run.step % run.steps_per_epoch == 0:
            cohort.running.reset()
        x, y = cohort.batches.at(run.step)
        x = x.to(dtype)
        measured = measures[cohort.books[0].folder].due(run.step + 1)

        # Rule: fills the stacked updates. A run that has left the finite numbers leaves the pass before they are applied.
        outcome, ends = _stepped(cohort, x, y, measures if measured else {}, dead)
        lost = watch.see(run.step + 1, outcome)
        cohort.running.add(outcome.logits, outcome.loss, y)
        x, y, outcome = without(cohort, lost, watch, x, y, outcome, results, ends)
        if not cohort.books:
            break
        for at, book in enumerate(cohort.books if run.step == 0 else ()):
            book.first(cohort.outcome(outcome, at))

        # Update: learning rate of this step, torch's optimizer, averaged weights.
        run = cohort.first
        rate = learning_rate(cfg.schedule, cfg.optimizer.lr, run.step, run.total_steps, run.steps_per_epoch)
        cohort.update(rate)
        screen.step(run.step)

        found, ends = _found(cohort, x, y, outcome, rate, measures) if measured else ({}, {})
        x, y, outcome = without(cohort, {}, watch, x, y, outcome, results, ends)
        if not cohort.books:
            break

        # The pass looks up where each run alone would.
        if not cohort.books[0].due(measured, stop) and not cohort.left:
            continue
        x, y, outcome = without(cohort, watch.settle(), watch, x, y, outcome, results)
        if not cohort.books:
            break
        cohort.running.state().tolist()  # waits for the device, so the clock is right
        for book in cohort.books:  # each run took its share of the time
            book.run.seconds += (time.perf_counter() - started) / len(cohort.books)
        stopping = bool(stop.signal)  # asked for from here on, it waits for the next step's checkpoints
        saving = stopping or bool(cohort.left)
        _written(cohort, x, y, outcome, rate, measures, found, saving, results)
        if saving:  # who is left has a checkpoint without those who are not
            cohort.write_left()
        cohort.prune()
        watch.keep(len(cohort.books))
        _show(cohort, screen)
        if stopping and cohort.books and not cohort.first.ended:
            screen.line(f"stopped at step {cohort.first.step}; give the same command again to go on")
            stop.leave()
        started = time.perf_counter()
    cohort.write_left()
    for book in cohort.books:
        results[book.folder] = write_result(book.run, book.folder, "complete")
        screen.line(f"{headline(results[book.folder])}  {book.folder}")


def _stepped(
    cohort: Cohort, x: Tensor, y: Tensor, measures: dict[Path, Measures], dead: dict[Path, DeadLayers]
) -> tuple[Step, Ends]:
    """Step every rule, seen by the diagnostics that are due and, in the first steps, by those who look for dead layers.

    Also returned: the runs whose inference diverged while a diagnostic looked, by place.
    """
    cohort.stand()
    step, ends = cohort.first.step, Ends()
    for at, book in enumerate(cohort.books if measures else []):
        with ending(ends, at, step + 1):
            measures[book.folder].before(x[at], y[at])
    outcome = cohort.mapped.step(x, y)
    for at, book in enumerate(cohort.books if dead[cohort.books[0].folder].looks(step) else []):
        dead[book.folder].see(step, cohort.outcome(outcome, at))
    return outcome, ends


def _found(
    cohort: Cohort, x: Tensor, y: Tensor, outcome: Step, rate: float, measures: dict[Path, Measures]
) -> tuple[dict[Path, dict[str, Any]], Ends]:
    """Return what every run's diagnostics find after a step, before the clock is read: they take their time off it.

    Also returned: the runs whose inference diverged while a diagnostic looked, by place.
    """
    cohort.settle(rate)
    found, ends = {}, Ends()
    for at, book in enumerate(cohort.books):
        with ending(ends, at, book.run.step):
            found[book.folder] = measures[book.folder].after(x[at], y[at], cohort.outcome(outcome, at))
    return found, ends


def _written(
    cohort: Cohort,
    x: Tensor,
    y: Tensor,
    outcome: Step,
    rate: float,
    measures: dict[Path, Measures],
    found: dict[Path, dict[str, Any]],
    saving: bool,
    results: Results,
) -> None:
    """Let every run's book do what is due after a step; part from runs that are given up or turn out not to be finite."""
    cohort.settle(rate)
    ends = Ends()
    for at, book in enumerate(cohort.books):
        own = cohort.outcome(outcome, at)
        try:
            ending = partial(measures[book.folder].ending, x[at], y[at], own)
            book.write(own, x[at], rate, book.run.running.summary(), found.get(book.folder), ending, saving)
        except DivergedError as end:
            ends[at] = end
        else:
            if book.run.stopped is not None:
                ends[at] = None
    if ends:
        parted(cohort, ends, x, y, outcome, results)


def _show(cohort: Cohort, screen: Screen) -> None:
    """Show what the runs' last rows say on average, where they have one of this step."""
    rows = [book.run.last for book in cohort.books if book.run.last and book.run.last["step"] == book.run.step]
    if not rows:
        return
    numbers = [key for key, value in rows[0].items() if isinstance(value, int | float)]
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in numbers if all(key in row for row in rows)}
    run = cohort.first
    screen.evaluated(mean, run.total_steps / run.steps_per_epoch, f"{len(rows)} runs, mean:")
