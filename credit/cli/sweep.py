"""`credit-train -m`: compose and check every job, skip the finished, run the rest, average the seeds."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from credit.cli import worker
from credit.cli.progress import SweepProgress
from credit.config import RunConfig
from credit.config.overrides import explain, plain
from credit.config.plugins import user_folders
from credit.errors import UserError
from credit.records import is_complete, read_result, run_folder, summarise, summary_table
from credit.records.launcher import Outcome, run_jobs

PRELOAD = ("credit.cli.worker", "credit.training", "credit.rules", "credit.models", "credit.data", "torch._dynamo")
"""What the fork-server imports before the first job; torch._dynamo because every torch optimizer asks for it."""

PRELOAD_FOR = {"digits": "sklearn.datasets", "timm": "timm"}
"""What it imports besides where a job's data or network is of this kind."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One cell of a sweep: what varies, in the user's words, and the run it stands for."""

    number: int
    varied: dict[str, str]
    config: RunConfig
    folder: Path

    def title(self) -> str:
        """Return what tells this job from the others."""
        return " ".join(f"{key}={value}" for key, value in self.varied.items()) or self.folder.name


def launch(job_words: list[list[str]], compose: Callable[[list[str]], Any], parallel: int) -> None:
    """Run a sweep to its end; raise `SystemExit(1)` where a job failed, diverged or was killed.

    Args:
        job_words: the overrides of each job.
        compose: gives the composed configuration of one job's overrides.
        parallel: jobs at the same time; the CPU's cores are shared among them.

    Raises:
        UserError: a job cannot run; none has started.
    """
    if not isinstance(parallel, int) or parallel < 1:
        raise UserError(f"hydra.launcher.jobs={parallel}: must be a whole number in [1, inf)")
    every = _jobs(job_words, compose)
    jobs = list({job.folder: job for job in reversed(every)}.values())[::-1]  # two spellings of one run are one job
    waiting = [job for job in jobs if not is_complete(job.folder)]
    outcomes: list[Outcome] = []
    if waiting:
        preload = _preload(job.config for job in waiting)
        _prepare_all(waiting, len(every), preload)
        payloads = [_payload([job], parallel) for job in waiting]
        with SweepProgress([(job.title(), job.folder) for job in waiting], len(jobs) - len(waiting)) as progress:
            outcomes = run_jobs(worker.train_one, payloads, parallel=parallel, preload=preload, watch=progress.watch)
    else:
        print(f"nothing to run, {len(jobs)} already complete")
    failed = _report(jobs, {job.folder: outcome for job, outcome in zip(waiting, outcomes, strict=True)})
    if failed:
        raise SystemExit(1)


def _jobs(job_words: list[list[str]], compose: Callable[[list[str]], Any]) -> list[Job]:
    from hydra.errors import HydraException

    from credit.config.compose import checked

    settings = [dict(plain(word).partition("=")[::2] for word in words) for words in job_words]
    varied = [key for key in settings[0] if any(other.get(key) != settings[0][key] for other in settings)]
    jobs = []
    for index, (words, given) in enumerate(zip(job_words, settings, strict=True)):
        told = {key: given[key] for key in varied}
        try:
            config = checked(compose(words))
        except HydraException as error:
            raise _of_job(index + 1, len(job_words), told, str(explain(error))) from error
        except UserError as error:
            raise _of_job(index + 1, len(job_words), told, str(error)) from error
        jobs.append(Job(index + 1, told, config, run_folder(config)))
    return jobs


def _of_job(number: int, total: int, varied: dict[str, str], message: str) -> UserError:
    if not varied:
        return UserError(message)
    told = " ".join(f"{key}={value}" for key, value in varied.items())
    return UserError(f"job {number} of {total} ({told}) cannot run, so none was started: {message}")


def _preload(configs: Iterable[RunConfig]) -> list[str]:
    kinds = {kind for config in configs for kind in (config.data.kind, config.arch["kind"])}
    return [*PRELOAD, *(module for kind, module in PRELOAD_FOR.items() if kind in kinds)]


def _payload(jobs: list[Job], parallel: int) -> dict[str, Any]:
    """Return what a worker process needs, as plain picklable values."""
    configs = [job.config for job in jobs]
    if parallel > 1:
        share = max(1, (os.cpu_count() or 1) // parallel)
        configs = [
            dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, threads=share))
            if config.trainer.threads is None
            else config
            for config in configs
        ]
    return {"configs": [config.as_dict() for config in configs], "folders": [str(one) for one in user_folders()]}


def _prepare_all(waiting: list[Job], total: int, preload: list[str]) -> None:
    """Check what needs torch, for every job, in one process of its own: this one stays light."""
    [outcome] = run_jobs(
        worker.first_refused, [_payload(waiting, 1)], parallel=1, preload=preload, watch=lambda *_: None
    )
    if outcome.error is not None:
        raise RuntimeError(f"checking the jobs failed: {outcome.error}\n{outcome.log}")
    if outcome.value is not None:
        index, message = outcome.value
        raise _of_job(waiting[index].number, total, waiting[index].varied, message)


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
        outcome, result = outcomes.get(job.folder), results[job.folder]
        if outcome is not None and outcome.error is not None:
            reason = outcome.error
        elif result is None or result.get("status") != "complete":
            reason = f"{(result or {}).get('status', 'no result')}; see {job.folder}"
        else:
            continue
        failed = True
        console.print(f"{job.title()}: {reason}", markup=False, style="red")
        if outcome is not None and "Traceback" in outcome.log:
            console.print(outcome.log.rstrip(), markup=False)
    if failed:
        console.print("The same command skips what is done and tries the rest again.")
    return failed
