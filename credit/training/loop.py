"""The training loop, over a backend that makes the steps of one run or of several.

    batch -> (diagnostics) -> rule -> update -> (diagnostics) -> evaluation -> metrics -> checkpoint

The loop has no state but that of its runs, so that a run that was killed resumes bit for bit.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from credit.core import registry
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.processes import rank, world_size
from credit.data import load_many
from credit.runs.folder import check_usable, locked, run_folder, write_config
from credit.runs.made_from import write_made_from
from credit.runs.metrics import MetricsFile
from credit.runs.outcome import finished, start_anew
from credit.runs.places import RESULT
from credit.runs.screen import Screen
from credit.training.backends.base import Backend, Ends, NoRunsLeft, Results
from credit.training.backends.mapped import ReplicaBatch
from credit.training.backends.pieces import accumulate
from credit.training.backends.ranks import agreed, joined, share_steps, shared
from credit.training.backends.single import Single
from credit.training.monitors.clock import Clock
from credit.training.monitors.interrupts import StopRequest, stop_requests
from credit.training.optimization.probe import not_in_one_pass
from credit.training.prepare import Prepared, prepare
from credit.training.run_recorder import RunRecorder
from credit.training.schedules import learning_rate
from credit.training.state.result import write_result
from credit.training.state.resuming import resume_together
from credit.training.state.run_state import Training, begin
from credit.training.threads import threads
from credit.training.warm import warm_alone


def train(cfg: RunConfig, *, console: bool = True) -> dict[str, Any]:
    """Train one run and return the content of its result.json.

    An unfinished run resumes from its newest checkpoint; the result of a finished run is returned without training.

    Args:
        cfg: the run's configuration, with ``replicas=1``.
        console: show progress; warnings are always shown.

    Raises:
        UserError: the run cannot be trained as configured, its folder is in use, or all its checkpoints are damaged.
    """
    if cfg.replicas != 1:
        raise UserError(
            f"train() with replicas={cfg.replicas}: it trains one run and returns its result; write "
            f"credit.training.train_together([dataclasses.replace(cfg, replicas=1, seed=s) for s in range(20)])"
        )
    with joined(cfg) as own:
        return _train([own], Single, console and rank() == 0)[0]


def train_together(cfgs: Sequence[RunConfig], *, console: bool = True) -> list[dict[str, Any]]:
    """Train runs that differ only in their seed in one replica batch, and return the content of each result.json, in order.

    Folders, metrics, checkpoints and results equal those of `train`, to rounding. Unfinished runs resume, those at the same step
    together; results of finished runs are returned without training. A run that diverges, or that its diagnostics cannot
    measure, does not affect the others.

    Args:
        cfgs: the runs' configurations, each with ``replicas=1``.
        console: show progress; warnings are always shown.

    Raises:
        UserError: the runs differ in more than their seed, one cannot be trained as configured, or another process trains one.
    """
    if world_size() > 1:
        raise UserError(
            f"torchrun started {world_size()} processes for one run, and train_together trains several in one"
        )
    check_alike(cfgs)
    return _train(cfgs, ReplicaBatch, console)


def check_alike(cfgs: Sequence[RunConfig]) -> None:
    """Check that runs differ only in their seed, so that they can be trained in one replica batch.

    Raises:
        UserError: there is no run, a run has ``replicas`` other than 1, or two runs differ in more than their seed.
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


def fit(backend: Backend, stop: StopRequest, screen: Screen) -> None:
    """Train runs from their present step to the last one, or until each is evicted, and write their results.

    Args:
        backend: the runs, changed in place, and the computation of their steps.
        stop: the user's request to stop.
        screen: shows the progress.

    Raises:
        UserError: a diagnostic cannot measure these runs.
    """
    for recorder in backend.recorders:
        recorder.begin()
    screen.begin(backend.first.step)
    with contextlib.suppress(NoRunsLeft):
        _steps(backend, stop, screen)
    backend.finish()


def _steps(backend: Backend, stop: StopRequest, screen: Screen) -> None:
    """Make the runs' steps, up to the last one."""
    cfg, total, per_epoch = backend.first.cfg, backend.first.total_steps, backend.first.steps_per_epoch
    clock = Clock(backend.first.device)
    while not backend.first.ended:
        # Batch: a function of the step.
        step = backend.first.step
        if step % per_epoch == 0:
            backend.running.reset()
        backend.next_batch()
        recorder = backend.recorders[0]  # due measurements are the same for all runs

        # Diagnostics that are due measure before the step, here, and after it, below.
        measured, ends = recorder.measures.due(step + 1), Ends()
        if measured:
            with clock.paused():
                ends = backend.each(step + 1, RunRecorder.measure_before, stepped=False)

        # Rule: writes a descent direction to p.grad. Updates that are not finite are never applied.
        backend.evict(ends | backend.step())
        backend.evict(backend.diverged(backend.watch.see(step + 1, backend.outcome)))
        if recorder.in_first_steps:
            backend.evict(backend.each(step + 1, RunRecorder.first_steps))
        backend.running.add(backend.outcome.logits, backend.outcome.loss, backend.y)

        # Update: learning rate of this step, torch's optimizer, averaged weights.
        backend.update(learning_rate(cfg.schedule, cfg.optimizer.lr, step, total, per_epoch))
        screen.step(step + 1)
        if measured:
            with clock.paused():
                backend.settle()
                backend.evict(backend.each(step + 1, RunRecorder.measure_after))

        stop.signal = agreed(stop.noted, step + 1, backend.first.device)
        # Evaluation, metrics and checkpoints: at ends of epochs, after a measurement, and on a request to stop.
        if backend.evicted or backend.recorders[0].due(measured, stop):
            with clock.paused():
                _look_up(backend, stop, screen, clock.taken())


def _look_up(backend: Backend, stop: StopRequest, screen: Screen, seconds: float) -> None:
    """Evaluate, write rows and save checkpoints, each if it is due, and leave if the user requested a stop.

    Args:
        backend: the runs.
        stop: the user's request to stop.
        screen: shows the evaluations.
        seconds: duration of the steps since the last call, which is divided equally among the runs.
    """
    for recorder in backend.recorders:
        recorder.run.seconds += seconds / len(backend.recorders)
    backend.evict(backend.diverged(backend.watch.settle()))
    backend.settle()
    stopping = bool(stop.signal)  # a later request waits for the next step's checkpoints
    saving = stopping or backend.evicted
    ended = backend.each(backend.first.step, partial(RunRecorder.write, rate=backend.rate, saving=saving))
    _show([recorder.run for recorder in backend.recorders], screen)
    backend.evict(ended)
    if saving:  # the others have checkpoints without those that were evicted
        backend.write_evicted()
    backend.prune()
    if stopping and not backend.first.ended:
        where = f"  {backend.recorders[0].folder}" if len(backend.recorders) == 1 else ""
        screen.line(f"stopped at step {backend.first.step}; give the same command again to go on{where}")
        stop.leave()


def _show(runs: Sequence[Training], screen: Screen) -> None:
    """Show the mean of the runs' last rows, if they have a row of this step."""
    rows = [run.last for run in runs if run.last and run.last["step"] == run.step]
    if not rows:
        return
    numbers = [key for key, value in rows[0].items() if isinstance(value, int | float)]
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in numbers if all(key in row for row in rows)}
    whose = f"{len(rows)} runs, mean:" if len(rows) > 1 else ""
    screen.evaluated(mean, runs[0].total_steps / runs[0].steps_per_epoch, whose)


def _train(cfgs: Sequence[RunConfig], backend: type[Backend], console: bool) -> list[dict[str, Any]]:
    """Train the runs that are not finished, and return the results of all, in order."""
    results: Results = {}
    waiting = [cfg for cfg in cfgs if not _reported(cfg, results, console)]
    if waiting:
        with threads(waiting[0].trainer.threads or 1):  # the initialization is the same on every machine
            prepared = {cfg.seed: prepare(cfg) for cfg in waiting}
        # The threads of one run, so that a resumed pass over the unfinished runs computes as the pass over all did.
        with threads(prepared[waiting[0].seed].threads.count):
            _train_prepared(prepared, backend, results, console)
    return [results[run_folder(cfg)] for cfg in cfgs]


def _reported(cfg: RunConfig, results: Results, console: bool) -> bool:
    result = shared(lambda: finished(cfg, console=console))
    if result is not None:
        results[run_folder(cfg)] = result
    return result is not None


def _train_prepared(prepared: dict[int, Prepared], backend: type[Backend], results: Results, console: bool) -> None:
    """Load the data of runs (by seed), create their folders, train them and add their results to `results`."""
    first = next(iter(prepared.values()))
    cfg = first.cfg
    if backend is ReplicaBatch and (refusal := warm_alone(first.rule, first.warm) or not_in_one_pass(cfg.optimizer)):
        raise UserError(f"train_together: {refusal}; train each run by itself")
    size, batch = first.spec.train_size, cfg.data.batch_size
    smallest = batch if cfg.data.drop_last else size % batch or batch
    for part in prepared.values():
        share_steps(part, smallest)
        accumulate(part.rules, cfg.trainer.accumulate, smallest)
        check_usable(run_folder(part.cfg), 2 * _bytes(part.model))  # a checkpoint and the one before it
    # Before folders are created: missing or corrupt data leave no folder.
    sets = load_many(cfg.data, cfg.noise, list(prepared), first.device)
    runs = {run_folder(part.cfg): begin(part, data) for part, data in zip(prepared.values(), sets, strict=True)}
    started = {folder: start_anew(folder, run.cfg) for folder, run in runs.items()}
    with contextlib.ExitStack() as stack:
        for folder in runs:
            stack.enter_context(locked(folder))
        # Runs that another process has finished since the first check.
        runs = {folder: run for folder, run in runs.items() if not _reported(started[folder], results, console)}
        if not runs:
            return
        for folder, run in runs.items():
            (folder / RESULT).unlink(missing_ok=True)  # of an attempt that failed
            write_config(folder, started[folder])
            write_made_from(folder, run.made_from)
        screen = stack.enter_context(
            Screen(first.total_steps, show=console, bar=cfg.trainer.progress, primary=first.rule.task.primary)
        )
        own = screen if len(runs) == 1 else Screen(first.total_steps, show=False, primary=first.rule.task.primary)
        mirror = stack.enter_context(registry.find("logger", cfg.logger.kind).load()(list(runs), screen))
        for note in next(iter(runs.values())).notes:
            screen.line(f"note: {note}")
        recorders = []
        for folder, run in runs.items():
            metrics = stack.enter_context(contextlib.closing(MetricsFile(folder)))
            recorders.append(RunRecorder(run, folder, metrics, own, mirror))
        _passes(recorders, backend, screen, results)


def _bytes(model: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def _passes(recorders: Sequence[RunRecorder], backend: type[Backend], screen: Screen, results: Results) -> None:
    """Resume the runs, and train those at the same step together."""
    groups = resume_together(recorders)
    with stop_requests() as stop:
        for group in groups:
            run = group[0].run
            for recorder in group:
                recorder.run.together = sorted(one.run.cfg.seed for one in group)
            if run.step and len(recorders) > 1:
                screen.line(f"resuming {len(group)} of {len(recorders)} runs at step {run.step} of {run.total_steps}")
            with _failures_recorded(group, results):
                fit(backend(group, screen, results), stop, screen)


@contextlib.contextmanager
def _failures_recorded(recorders: Sequence[RunRecorder], results: Results) -> Iterator[None]:
    """Write a ``failed`` result for every run that an exception stops, for a sweep's table, and raise the exception again."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        for recorder in recorders:
            if recorder.folder not in results:
                with contextlib.suppress(OSError):  # the disk may be what failed
                    write_result(recorder.run, recorder.folder, "failed", error=f"{type(error).__name__}: {error}")
        raise
