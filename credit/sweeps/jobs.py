"""Check the jobs of sweeps and tables before any starts, and run them on this machine or by one of Hydra's launchers."""

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from credit.core.errors import UserError
from credit.core.user_files import user_folders
from credit.runs import read_result
from credit.runs.outcome import Seen, reusable, warnings_of
from credit.sweeps import worker
from credit.sweeps.groups import Group, Job, Unit, groups, plain
from credit.sweeps.processes import Outcome, run_jobs
from credit.sweeps.progress import SweepProgress

PRELOAD = ("credit.sweeps.worker", "credit.training", "credit.rules", "credit.models", "credit.data", "torch._dynamo")
"""Modules that the fork-server imports before the first job; torch._dynamo because every torch optimizer imports it."""

PRELOAD_FOR = {"digits": "sklearn.datasets", "tabular": "sklearn.model_selection", "timm": "timm"}
"""Modules that the fork-server also imports if a job's data or network is of the given kind."""


@dataclasses.dataclass(frozen=True)
class Examined:
    """The result of checking jobs before they start.

    Attributes:
        gpu: whether any job trains on a GPU.
        seconds: the estimated seconds of each job, None where there is no estimate.
        measured: number of configurations that were timed for the estimates.
        grouped: the groups of jobs that differ only in their seed, and how each is trained.
    """

    gpu: bool
    seconds: list[float | None]
    measured: int
    grouped: list[Group] = dataclasses.field(default_factory=list)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(parallel: int) -> int | None:
    """Return the CPU threads of each of `parallel` concurrent jobs; None, torch's default, for one at a time."""
    return max(1, cores() // parallel) if parallel > 1 else None


def check_parallel(parallel: Any) -> int:
    """Return the number of concurrent jobs given in ``hydra.launcher.jobs``.

    Raises:
        UserError: the value is not a positive integer.
    """
    if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
        raise UserError(f"hydra.launcher.jobs={parallel}: must be a whole number in [1, inf)")
    return parallel


def still_to_run(jobs: Sequence[Job], refused: Callable[[Job, str], UserError]) -> list[Job]:
    """Return the jobs that are to be run, and print warnings about the finished runs that are reused.

    Args:
        jobs: the jobs.
        refused: returns the error for a job whose finished run cannot be reused, from the job and the reason.

    Raises:
        UserError: the user's code or the data of a finished run have changed.
    """
    waiting, reused, seen = [], [], Seen()
    for job in jobs:
        try:
            found = reusable(job.folder, job.config, seen)
        except UserError as error:
            raise refused(job, str(error)) from None
        if found is None:
            waiting.append(job)
        else:
            reused.append(found)
    for line in warnings_of(reused):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    return waiting


def examine(
    jobs: Sequence[Job],
    refusal: Callable[[int, str], UserError],
    *,
    measure: bool = False,
    threads: int | None = None,
    elsewhere: bool = False,
) -> Examined:
    """Check every job in one subprocess, which imports torch so that this process need not.

    Args:
        jobs: the jobs.
        refusal: returns the error for a job that cannot run, from its index and the reason.
        measure: also estimate each job's seconds.
        threads: CPU threads to measure with.
        elsewhere: the jobs may run on other machines, so that a GPU is not required on this one.

    Raises:
        UserError: a job cannot run.
        RuntimeError: the subprocess failed.
    """
    if not jobs:
        return Examined(False, [], 0)
    together = groups(jobs)
    payload = {
        "jobs": [
            {
                "config": plain(job, device="auto" if elsewhere else None),
                "folder": str(job.folder),
                "runner": job.runner,
                "options": job.options,
            }
            for job in jobs
        ],
        "groups": together,
        "folders": [str(one) for one in user_folders()],
        "threads": threads,
        "measure": measure,
    }
    [outcome] = run_jobs(worker.examine, [payload], parallel=1, preload=preload(jobs), watch=lambda *_: None)
    if outcome.error is not None:
        raise RuntimeError(f"checking the jobs failed: {outcome.error}\n{outcome.log}")
    found = outcome.value
    if found["refused"] is not None:
        raise refusal(*found["refused"])
    grouped = [
        Group(tuple(jobs[index] for index in indices), **choice)
        for indices, choice in zip(together, found["choices"], strict=True)
    ]
    return Examined(found["gpu"], found["seconds"], found["measured"], grouped)


def run_here(
    made: Sequence[Unit], parallel: int, *, skipped: int | None = None, notes: Sequence[str] = ()
) -> dict[Path, Outcome]:
    """Run each unit in a process of its own on this machine; the failure of one does not affect the others.

    Args:
        made: the units.
        parallel: number of concurrent processes; the CPU's cores are divided among them.
        skipped: number of jobs that were complete already, to print; None prints nothing about them.
        notes: lines to print before the first job.

    Returns:
        The outcome of each job, by its folder.
    """
    payloads = [unit.payload(share(parallel)) for unit in made]
    modules = preload(job for unit in made for job in unit.jobs)
    with SweepProgress([(unit.title, [job.folder for job in unit.jobs]) for unit in made], skipped, notes) as progress:
        outcomes = run_jobs(worker.run_unit, payloads, parallel=parallel, preload=modules, watch=progress.watch)
    ended: dict[Path, Outcome] = {}
    for unit, outcome in zip(made, outcomes, strict=True):
        ended |= _each(unit.jobs, outcome)
    return ended


def _each(jobs: Sequence[Job], outcome: Outcome) -> dict[Path, Outcome]:
    """Return the outcomes of a unit's jobs; a unit that was killed may have finished some of them."""
    if outcome.error is None:
        pairs = zip(jobs, outcome.value, strict=True)
        return {job.folder: Outcome(result, error, outcome.seconds) for job, (result, error) in pairs}
    results = {job.folder: _result(job) for job in jobs}
    return {
        folder: outcome if result is None else Outcome(result, None, outcome.seconds)
        for folder, result in results.items()
    }


def run_with(launcher: Any, made: Sequence[Unit]) -> dict[Path, Outcome]:
    """Run units by one of Hydra's launchers, and return the outcome of each job by its folder.

    A unit of consecutive seeds is submitted as one job, any other as one job a seed. A launcher raises if a job's process dies (out
    of memory, out of time); its other jobs may continue, and their results are in their folders.

    Args:
        launcher: a launcher of `credit.sweeps.launchers.hydra_launcher`.
        made: the units.
    """
    sent = [part for unit in made for part in ([unit] if unit.words() else [Unit((job,)) for job in unit.jobs])]
    ended: dict[Path, Outcome] = {}
    try:
        returns = launcher.launch([list(unit.words() or ()) for unit in sent], initial_job_idx=0)
    except Exception as error:  # a launcher may raise any exception of its cluster's library
        gave_up = f"the launcher gave up ({type(error).__name__}: {error}); jobs it still has are not stopped"
        for unit in sent:
            ended |= _each(unit.jobs, Outcome(None, gave_up, 0.0))
        return ended
    for unit, one in zip(sent, returns, strict=True):
        raised = _raised(one)
        ended |= _each(unit.jobs, Outcome([(_result(job), None) for job in unit.jobs], raised, 0.0))
    return ended


def preload(jobs: Iterable[Job]) -> list[str]:
    """Return the modules to import in the fork-server, from which the jobs' processes are forked."""
    kinds = {kind for job in jobs for kind in (job.config.data.kind, job.config.arch["kind"])}
    return [*PRELOAD, *(module for kind, module in PRELOAD_FOR.items() if kind in kinds)]


def failure(job: Job, outcome: Outcome | None) -> str | None:
    """Return the reason why a job has no result; None for a job with a result, also a diverged one.

    Args:
        job: the job.
        outcome: the job's outcome in this process; None for a job that was not run.
    """
    if outcome is not None and outcome.error is not None:
        return outcome.error
    result = read_result(job.folder)
    if result is None or result.get("status") not in ("complete", "diverged"):
        told = result or {"status": "no result"}
        return f"{told.get('status')}{': ' + told['error'] if told.get('error') else ''}; see {job.folder}"
    return None


def _result(job: Job) -> dict[str, Any] | None:
    result = read_result(job.folder)
    return result if result is not None and result.get("status") in ("complete", "diverged") else None


def _raised(one: Any) -> str | None:
    """Return the error that a Hydra job raised as a text, or None."""
    from hydra.core.utils import JobStatus

    if one.status != JobStatus.FAILED:
        return None
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra prints a line of its own
            _ = one.return_value
    except UserError as error:
        return str(error)
    except Exception as error:  # the job may have raised any exception
        return f"{type(error).__name__}: {error}"
    return "failed"
