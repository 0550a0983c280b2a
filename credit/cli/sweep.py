"""`credit-train -m`: compose and check every job, skip the finished, run the rest, average the seeds."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from credit.cli.jobs import Job, check_parallel, examine, failure, run_here
from credit.config.overrides import explain, plain
from credit.errors import UserError
from credit.records import is_complete, read_result, run_folder, summarise, summary_table
from credit.records.launcher import Outcome

Start = Callable[[Sequence[Job], int], list[Outcome]]
"""Runs jobs that were checked and says how each ended; also told how many more were complete already."""


def launch(
    job_words: list[list[str]], compose: Callable[[list[str]], Any], start: Start, *, elsewhere: bool = False
) -> None:
    """Run a sweep to its end; raise `SystemExit(1)` where a job failed, diverged or was killed.

    Args:
        job_words: the overrides of each job.
        compose: gives the composed configuration of one job's overrides.
        start: runs the jobs that are left.
        elsewhere: whether they may run on other machines.

    Raises:
        UserError: a job cannot run; none has started.
    """
    every = _jobs(job_words, compose)
    jobs = list({job.folder: job for job in reversed(every)}.values())[::-1]  # two spellings of one run are one job
    waiting = [job for job in jobs if not is_complete(job.folder)]
    outcomes: list[Outcome] = []
    if waiting:
        numbers = [every.index(job) + 1 for job in waiting]
        examine(
            waiting,
            lambda index, why: _of_job(numbers[index], len(every), waiting[index].title, why),
            elsewhere=elsewhere,
        )
        outcomes = start(waiting, len(jobs) - len(waiting))
    else:
        print(f"nothing to run, {len(jobs)} already complete")
    failed = _report(jobs, {job.folder: outcome for job, outcome in zip(waiting, outcomes, strict=True)})
    if failed:
        raise SystemExit(1)


def here(parallel: Any) -> Start:
    """Return what runs jobs on this machine, so many at the same time.

    Raises:
        UserError: not a whole number from 1.
    """
    count = check_parallel(parallel)
    return lambda jobs, skipped: run_here(jobs, count, skipped=skipped)


def _jobs(job_words: list[list[str]], compose: Callable[[list[str]], Any]) -> list[Job]:
    from hydra.errors import HydraException

    from credit.config.compose import checked

    settings = [dict(plain(word).partition("=")[::2] for word in words) for words in job_words]
    varied = [key for key in settings[0] if any(other.get(key) != settings[0][key] for other in settings)]
    jobs = []
    for index, (words, given) in enumerate(zip(job_words, settings, strict=True)):
        told = " ".join(f"{key}={given[key]}" for key in varied)
        try:
            config = checked(compose(words))
        except HydraException as error:
            raise _of_job(index + 1, len(job_words), told, str(explain(error))) from error
        except UserError as error:
            raise _of_job(index + 1, len(job_words), told, str(error)) from error
        folder = run_folder(config)
        jobs.append(Job(told or folder.name, config, folder, tuple(words)))
    return jobs


def _of_job(number: int, total: int, told: str, message: str) -> UserError:
    if total == 1 or not told:
        return UserError(message)
    return UserError(f"job {number} of {total} ({told}) cannot run, so none was started: {message}")


def _report(jobs: list[Job], outcomes: dict[Path, Outcome]) -> bool:
    """Print the table of all results and what went wrong; return whether anything did."""
    from rich.console import Console

    results = {job.folder: read_result(job.folder) for job in jobs}
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    finished = [result for result in results.values() if result is not None]
    if finished:
        console.print(summary_table(summarise(finished)))
    failed = False
    for job in jobs:
        outcome = outcomes.get(job.folder)
        reason = failure(job, outcome)
        if reason is None and (results[job.folder] or {})["status"] == "diverged":
            reason = f"diverged; see {job.folder}"
        if reason is None:
            continue
        failed = True
        console.print(f"{job.title}: {reason}", markup=False, style="red")
        if outcome is not None and "Traceback" in outcome.log:
            console.print(outcome.log.rstrip(), markup=False)
    if failed:
        console.print("The same command skips what is done and tries the rest again.")
    return failed
