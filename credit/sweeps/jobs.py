"""What sweeps and tables do with their jobs: look at all before any starts, run them here or by one of Hydra's launchers."""

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
"""What the fork-server imports before the first job; torch._dynamo because every torch optimizer asks for it."""

PRELOAD_FOR = {"digits": "sklearn.datasets", "tabular": "sklearn.model_selection", "timm": "timm"}
"""What it imports besides where a job's data or network is of this kind."""


@dataclasses.dataclass(frozen=True)
class Examined:
    """What is known of jobs before they start.

    Attributes:
        gpu: whether any of them trains on a GPU.
        seconds: an estimate for each job, None where there is none.
        measured: how many configurations the estimates were timed on.
        grouped: the jobs that differ in their seed alone, and how they are best run.
    """

    gpu: bool
    seconds: list[float | None]
    measured: int
    grouped: list[Group] = dataclasses.field(default_factory=list)


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(parallel: int) -> int | None:
    """Return the CPU threads of each of so many jobs at a time; None, torch's own choice, for one at a time."""
    return max(1, cores() // parallel) if parallel > 1 else None


def check_parallel(parallel: Any) -> int:
    """Return how many jobs run at the same time, as given in ``hydra.launcher.jobs``.

    Raises:
        UserError: not a whole number from 1.
    """
    if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
        raise UserError(f"hydra.launcher.jobs={parallel}: must be a whole number in [1, inf)")
    return parallel


def still_to_run(jobs: Sequence[Job], refused: Callable[[Job, str], UserError]) -> list[Job]:
    """Return the jobs that are to be run; of those that are complete print what their users should know.

    Args:
        jobs: the jobs.
        refused: makes the error of a job whose finished run cannot be reused from the words of why.

    Raises:
        UserError: the code or the data of a finished run changed.
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
    """Check what needs torch, for every job, in one process of its own: this one stays light.

    Args:
        jobs: the jobs.
        refusal: makes the error of the job with this index from the words of why it cannot run.
        measure: also estimate what each costs.
        threads: CPU threads to measure with, of each process.
        elsewhere: the jobs may run on other machines, so that a GPU that this one lacks is no reason to refuse them.

    Raises:
        UserError: a job cannot run.
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
    """Run each unit in a process of its own on this machine; one that fails costs no other.

    Args:
        made: the units.
        parallel: how many at the same time; the CPU's cores are shared among them.
        skipped: how many more jobs were complete already, for the screen; None where that was said already.
        notes: lines for the screen before the first job.

    Returns:
        How each job ended, by its folder.
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
    """Return how a unit's jobs ended; one that was killed had perhaps finished some of them."""
    if outcome.error is None:
        pairs = zip(jobs, outcome.value, strict=True)
        return {job.folder: Outcome(result, error, outcome.seconds) for job, (result, error) in pairs}
    results = {job.folder: _result(job) for job in jobs}
    return {
        folder: outcome if result is None else Outcome(result, None, outcome.seconds)
        for folder, result in results.items()
    }


def run_with(launcher: Any, made: Sequence[Unit]) -> dict[Path, Outcome]:
    """Run units by one of Hydra's launchers, made with `credit.cli.train.train_job`; return how each job ended.

    Seeds in one pass go as one job where they are consecutive, one by one where they are not. A launcher gives up where a
    job's process dies (out of memory, out of time): its other jobs may go on, and what they come to is in their folders.
    """
    sent = [part for unit in made for part in ([unit] if unit.words() else [Unit((job,)) for job in unit.jobs])]
    ended: dict[Path, Outcome] = {}
    try:
        returns = launcher.launch([list(unit.words() or ()) for unit in sent], initial_job_idx=0)
    except Exception as error:  # a launcher raises whatever its cluster's library does
        gave_up = f"the launcher gave up ({type(error).__name__}: {error}); jobs it still has are not stopped"
        for unit in sent:
            ended |= _each(unit.jobs, Outcome(None, gave_up, 0.0))
        return ended
    for unit, one in zip(sent, returns, strict=True):
        raised = _raised(one)
        ended |= _each(unit.jobs, Outcome([(_result(job), None) for job in unit.jobs], raised, 0.0))
    return ended


def preload(jobs: Iterable[Job]) -> list[str]:
    """Return the modules that the jobs' processes share."""
    kinds = {kind for job in jobs for kind in (job.config.data.kind, job.config.arch["kind"])}
    return [*PRELOAD, *(module for kind, module in PRELOAD_FOR.items() if kind in kinds)]


def failure(job: Job, outcome: Outcome | None) -> str | None:
    """Return why a job has no result, in words; None for one that has, be it a diverged one.

    Args:
        job: the job.
        outcome: how it ended just now; None for one that was not run.
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
    """Return what a job of Hydra's raised, as words, or None."""
    from hydra.core.utils import JobStatus

    if one.status != JobStatus.FAILED:
        return None
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra prints a line of its own
            _ = one.return_value
    except UserError as error:
        return str(error)
    except Exception as error:  # whatever the job raised in its own process
        return f"{type(error).__name__}: {error}"
    return "failed"
