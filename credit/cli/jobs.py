"""Jobs as sweeps and tables launch them: looked at before any starts, run here or by one of Hydra's launchers."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from credit.cli import worker
from credit.cli.progress import SweepProgress
from credit.config import RunConfig
from credit.config.plugins import user_folders
from credit.errors import UserError
from credit.records import read_result
from credit.records.launcher import Outcome, run_jobs

PRELOAD = ("credit.cli.worker", "credit.training", "credit.rules", "credit.models", "credit.data", "torch._dynamo")
"""What the fork-server imports before the first job; torch._dynamo because every torch optimizer asks for it."""

PRELOAD_FOR = {"digits": "sklearn.datasets", "tabular": "sklearn.model_selection", "timm": "timm"}
"""What it imports besides where a job's data or network is of this kind."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be launched.

    Attributes:
        title: what tells it from the other jobs.
        config: the run.
        folder: where its result will be.
        words: the run as Hydra's overrides, for Hydra's launchers.
        runner, options: see `credit.papers.runners`.
    """

    title: str
    config: RunConfig
    folder: Path
    words: tuple[str, ...] = ()
    runner: str = "train"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def payload(self, threads: int | None, device: str | None = None) -> dict[str, Any]:
        """Return what a worker process needs, as plain picklable values; `threads` where the run gives none."""
        trainer = self.config.trainer
        trainer = dataclasses.replace(trainer, threads=trainer.threads or threads, device=device or trainer.device)
        return {
            "config": dataclasses.replace(self.config, trainer=trainer).as_dict(),
            "folder": str(self.folder),
            "runner": self.runner,
            "options": self.options,
            "folders": [str(one) for one in user_folders()],
        }


@dataclasses.dataclass(frozen=True)
class Examined:
    """What is known of jobs before they start.

    Attributes:
        gpu: whether any of them trains on a GPU.
        seconds: an estimate for each job, None where there is none.
        measured: how many configurations the estimates were timed on.
    """

    gpu: bool
    seconds: list[float | None]
    measured: int


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
        threads: CPU threads to measure with.
        elsewhere: the jobs may run on other machines, so that a GPU that this one lacks is no reason to refuse them.

    Raises:
        UserError: a job cannot run.
    """
    if not jobs:
        return Examined(False, [], 0)
    payload = {
        "jobs": [job.payload(None, device="auto" if elsewhere else None) for job in jobs],
        "folders": [str(one) for one in user_folders()],
        "threads": threads,
        "measure": measure,
    }
    [outcome] = run_jobs(worker.examine, [payload], parallel=1, preload=preload(jobs), watch=lambda *_: None)
    if outcome.error is not None:
        raise RuntimeError(f"checking the jobs failed: {outcome.error}\n{outcome.log}")
    if outcome.value["refused"] is not None:
        raise refusal(*outcome.value["refused"])
    return Examined(outcome.value["gpu"], outcome.value["seconds"], outcome.value["measured"])


def run_here(jobs: Sequence[Job], parallel: int, *, skipped: int | None = None) -> list[Outcome]:
    """Run each job in a process of its own on this machine; one that fails costs no other.

    Args:
        jobs: the jobs.
        parallel: how many at the same time; the CPU's cores are shared among them.
        skipped: how many more were complete already, for the screen; None where that was said already.
    """
    payloads = [job.payload(share(parallel)) for job in jobs]
    with SweepProgress([(job.title, job.folder) for job in jobs], skipped) as progress:
        return run_jobs(worker.run_one, payloads, parallel=parallel, preload=preload(jobs), watch=progress.watch)


def run_with(launcher: Any, jobs: Sequence[Job]) -> list[Outcome]:
    """Run the jobs by one of Hydra's launchers, made with `credit.cli.train.train_job`; return how each ended.

    A launcher gives up where a job's process dies (out of memory, out of time): its other jobs may go on, and what they
    come to is in their folders.
    """
    try:
        returns = launcher.launch([list(job.words) for job in jobs], initial_job_idx=0)
    except Exception as error:  # a launcher raises whatever its cluster's library does
        gave_up = f"the launcher gave up ({type(error).__name__}: {error}); jobs it still has are not stopped"
        return [Outcome(read_result(job.folder), None if _result(job) else gave_up, 0.0) for job in jobs]
    return [Outcome(_result(job), _raised(one), 0.0) for job, one in zip(jobs, returns, strict=True)]


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
        return f"{(result or {}).get('status', 'no result')}; see {job.folder}"
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
