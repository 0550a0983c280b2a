"""``credit-train -m``: compose and check every job of a sweep, skip finished ones, run the rest, and average over seeds."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from credit.core.config import RunConfig
from credit.core.config.overrides import explain, plain
from credit.core.errors import UserError
from credit.runs import read_result, run_folder, summarise, summary_table
from credit.runs.outcome import start_anew
from credit.sweeps.groups import Job, replica_seeds, titles, told, units, with_seeds
from credit.sweeps.jobs import (
    Examined,
    check_parallel,
    cores,
    examine,
    failure,
    run_here,
    run_with,
    share,
    still_to_run,
)
from credit.sweeps.processes import Outcome

Start = Callable[[Sequence[Job], Examined, int], dict[Path, Outcome]]
"""A function of the checked jobs, the result of their check and the number of complete jobs, which runs the jobs and returns the
outcome of each by its folder."""


def launch(
    job_words: list[list[str]], compose: Callable[[list[str]], Any], start: Start, *, elsewhere: bool = False
) -> None:
    """Run a sweep, and print its table.

    Args:
        job_words: the overrides of each job; ``replicas`` in them makes several jobs of one.
        compose: returns the composed configuration of one job's overrides.
        start: runs the jobs that are not complete (`here`, `there`).
        elsewhere: whether jobs may run on other machines.

    Raises:
        UserError: a job cannot run; none was started.
        SystemExit: with code 1, if a job failed, diverged or was killed.
    """
    every = _jobs(job_words, compose)
    of = {job.folder: index for index, job in reversed(every)}
    jobs = list({job.folder: job for _, job in reversed(every)}.values())[::-1]  # one job for each run

    def refused(job: Job, why: str) -> UserError:
        return _of_job(of[job.folder] + 1, len(job_words), job.title, why)

    waiting = still_to_run(jobs, refused)
    outcomes: dict[Path, Outcome] = {}
    if waiting:
        found = examine(
            waiting, lambda index, why: refused(waiting[index], why), threads=share(cores()), elsewhere=elsewhere
        )
        for job in waiting:
            start_anew(job.folder, job.config)
        outcomes = start(waiting, found, len(jobs) - len(waiting))
    else:
        print(f"nothing to run, {len(jobs)} already complete")
    if _report(jobs, outcomes):
        raise SystemExit(1)


def here(parallel: Any) -> Start:
    """Return a `Start` that runs jobs on this machine.

    Args:
        parallel: number of concurrent jobs; None for one, or one a core if seeds are grouped and no job uses a GPU.

    Raises:
        UserError: the number is not a positive integer.
    """
    given = None if parallel is None else check_parallel(parallel)

    def start(jobs: Sequence[Job], found: Examined, skipped: int) -> dict[Path, Outcome]:
        alone = found.gpu or all(job.most == 1 for job in jobs)
        count = given or (1 if alone else cores())
        return run_here(units(jobs, found.grouped, count), count, skipped=skipped, notes=told(found.grouped))

    return start


def there(launcher: Any) -> Start:
    """Return a `Start` that submits jobs to one of Hydra's launchers, with seeds that are trained together as one job."""

    def start(jobs: Sequence[Job], found: Examined, skipped: int) -> dict[Path, Outcome]:
        for line in told(found.grouped):
            print(line, flush=True)
        return run_with(launcher, units(jobs, found.grouped, 1))

    return start


def _jobs(job_words: list[list[str]], compose: Callable[[list[str]], Any]) -> list[tuple[int, Job]]:
    """Return the jobs, each with the index of its overrides in `job_words`."""
    from hydra.errors import HydraException

    from credit.core.config.compose import checked, variants

    settings = [dict(plain(word).partition("=")[::2] for word in words) for words in job_words]
    varied = [key for key in settings[0] if any(other.get(key) != settings[0][key] for other in settings)]
    jobs = []
    for index, (words, given) in enumerate(zip(job_words, settings, strict=True)):
        told = " ".join(f"{key}={given[key]}" for key in varied)
        try:
            composed = compose(words)
            config = checked(composed)
            if config.replicas == 1:
                jobs.append((index, _job(told, config, words)))
                continue
            seeds = replica_seeds(config)
            runs = variants(composed, [{"seed": seed, "replicas": 1} for seed in seeds])
        except HydraException as error:
            raise _of_job(index + 1, len(job_words), told, str(explain(error))) from error
        except UserError as error:
            raise _of_job(index + 1, len(job_words), told, str(error)) from error
        own = [f"{key}={given[key]}" for key in varied if key not in ("seed", "replicas")]
        most = None if config.replicas == "auto" else len(seeds)
        for seed, run in zip(seeds, runs, strict=True):
            jobs.append((index, _job(" ".join([*own, f"seed={seed}"]), run, with_seeds(words, seed, 1), most)))
    return jobs


def _job(told: str, config: RunConfig, words: Sequence[str], most: int | None = 1) -> Job:
    folder = run_folder(config)
    return Job(told or folder.name, config, folder, tuple(words), most=most)


def _of_job(number: int, total: int, told: str, message: str) -> UserError:
    if total == 1 or not told:
        return UserError(message)
    return UserError(f"job {number} of {total} ({told}) cannot run, so none was started: {message}")


def _report(jobs: list[Job], outcomes: dict[Path, Outcome]) -> bool:
    """Print the table of all results and the failures; return whether there was a failure."""
    from rich.console import Console

    results = {job.folder: read_result(job.folder) for job in jobs}
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    finished = [result for result in results.values() if result is not None]
    if finished:
        table, lines = summary_table(summarise(finished), width=console.width)
        console.print(table)
        for line in lines:
            console.print(line, markup=False)
    alike: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        outcome = outcomes.get(job.folder)
        reason = failure(job, outcome)
        if reason is None and (results[job.folder] or {})["status"] == "diverged":
            reason = f"diverged; see {job.folder}"
        if reason is not None:
            log = outcome.log if outcome is not None and "Traceback" in outcome.log else ""
            alike.setdefault((reason, log), []).append(job)
    for (reason, log), group in alike.items():
        console.print(f"{titles(group)}: {reason}", markup=False, style="red")
        if log:
            console.print(log.rstrip(), markup=False)
    if alike:
        console.print("The same command skips what is done and tries the rest again.")
    return bool(alike)
