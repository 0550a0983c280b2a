"""Jobs, groups and units: runs to be launched, those that differ only in their seed, and those that share a process."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from credit.core.config import RunConfig
from credit.core.user_files import user_folders
from credit.runs.provenance import job_command

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be launched.

    Attributes:
        title: the settings in which the job differs from the others, and its seed.
        config: the run's configuration.
        folder: the folder of the run's result.
        words: the run as Hydra's overrides, for Hydra's launchers.
        runner, options: name of the runner and its options; see `credit.sweeps.runners`.
        most: largest number of runs that differ only in their seed to train in one pass, this one included; None for no limit.
    """

    title: str
    config: RunConfig
    folder: Path
    words: tuple[str, ...] = ()
    runner: str = "train"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    most: int | None = 1


@dataclasses.dataclass(frozen=True)
class Group:
    """Jobs that differ only in their seed, and how many of them are trained in one pass.

    Attributes:
        jobs: two or more jobs.
        chunk: largest number of jobs in one pass; 1 for one process a job.
        why: the reason, for the result.
        speedup: time of one process a seed divided by the time of passes on as many cores; None if not measured.
        room: number of replicas that fit in memory, in all concurrent passes; None if the free memory is unknown.
    """

    jobs: tuple[Job, ...]
    chunk: int = 1
    why: str = ""
    speedup: float | None = None
    room: int | None = None


@dataclasses.dataclass(frozen=True)
class Unit:
    """The work of one process: one job, or several that differ only in their seed and are trained in one pass.

    Attributes:
        jobs: one or more jobs.
    """

    jobs: tuple[Job, ...]

    @property
    def title(self) -> str:
        """The settings in which the unit differs from the others, and its seeds: ``rule=bp seeds 0-19``."""
        if len(self.jobs) == 1:
            return self.jobs[0].title
        own = [job.title.split(" ") for job in self.jobs]
        shared = [word for word in own[0] if all(word in words for words in own)]
        return " ".join([*shared, f"seeds {spans(job.config.seed for job in self.jobs)}"])

    def words(self) -> tuple[str, ...] | None:
        """Return the unit as Hydra's overrides, without ``rerun``; None if its seeds are not consecutive."""
        # Runs to be trained anew were set aside before: a launcher that submits a job again resumes it.
        words = tuple(word for word in self.jobs[0].words if word.lstrip("+").partition("=")[0] != "rerun")
        if len(self.jobs) == 1:
            return words
        seeds = [job.config.seed for job in self.jobs]
        consecutive = seeds == [*range(seeds[0], seeds[0] + len(seeds))]
        return with_seeds(words, seeds[0], len(seeds)) if consecutive else None

    def payload(self, threads: int | None) -> dict[str, Any]:
        """Return the argument of `credit.sweeps.worker.run_unit` for this unit, as plain picklable values.

        Args:
            threads: CPU threads of torch in the worker process; None for torch's default.
        """
        first = self.jobs[0]
        return {
            "configs": [{**plain(job), "rerun": False} for job in self.jobs],
            "commands": {job.folder.name: command_of(job.words, job.config.seed) for job in self.jobs},
            "threads": threads,
            "runner": first.runner,
            "options": first.options,
            "folders": [str(one) for one in user_folders()],
        }


def plain(job: Job, device: str | None = None) -> dict[str, Any]:
    """Return a job's configuration as a plain mapping (`RunConfig.as_dict`), with another device where one is given."""
    trainer = dataclasses.replace(job.config.trainer, device=device or job.config.trainer.device)
    return dataclasses.replace(job.config, trainer=trainer).as_dict()


def command_of(words: Sequence[str], seed: int) -> str:
    """Return the shell command that trains one seed of a job alone; see `credit.runs.provenance.job_command`."""
    from credit.core.config.overrides import plain as as_typed  # deferred: imports Hydra, which workers do not need

    alone = [word for word in words if word.lstrip("+").partition("=")[0] not in ("seed", "replicas")]
    return job_command([*map(as_typed, alone), f"seed={seed}"])


def with_seeds(words: Sequence[str], seed: int, count: int) -> tuple[str, ...]:
    """Return a run's overrides with ``seed`` set to the first and ``replicas`` to the number of consecutive seeds."""
    kept = [word for word in words if word.lstrip("+").partition("=")[0] not in ("seed", "replicas")]
    return (*kept, f"++seed={seed}", f"++replicas={count}")


def groups(jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    """Return the indices of jobs that may be trained in one pass, as tuples of two or more."""
    alike: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        if job.runner == "train" and job.most != 1:
            config = dataclasses.replace(job.config, seed=0).as_dict()
            alike.setdefault(json.dumps([config, job.options, job.most], sort_keys=True), []).append(index)
    found: list[tuple[int, ...]] = []
    for indices in alike.values():
        indices.sort(key=lambda index: jobs[index].config.seed)
        found += pieces(indices, jobs[indices[0]].most or len(indices))
    return [indices for indices in found if len(indices) > 1]


def units(jobs: Sequence[Job], grouped: Sequence[Group], parallel: int) -> list[Unit]:
    """Return the units, one for each process, in the jobs' order, split so that `parallel` processes are in use.

    Args:
        jobs: the jobs.
        grouped: the groups of jobs that differ only in their seed.
        parallel: number of concurrent processes.
    """
    of = {job.folder: group for group in grouped if group.chunk > 1 for job in group.jobs}
    whole = len({id(of.get(job.folder, job)) for job in jobs})
    made: list[Unit] = []
    taken: set[Path] = set()
    for job in jobs:
        if job.folder in taken:
            continue
        group = of.get(job.folder, Group((job,)))
        # With fewer units than processes, groups are split so that no process is idle.
        size = math.ceil(len(group.jobs) / math.ceil(parallel / whole))
        # Concurrent passes share the memory, whichever group they belong to.
        held = group.chunk if group.room is None else min(group.chunk, group.room // parallel)
        made += [Unit(part) for part in pieces(group.jobs, max(1, min(size, held)))]
        taken |= {one.folder for one in group.jobs}
    return made


def pieces(items: Sequence[T], most: int) -> list[tuple[T, ...]]:
    """Split items, in order, into the fewest parts of at most `most` items, of about equal size."""
    count = math.ceil(len(items) / most)
    bounds = [len(items) * at // count for at in range(count + 1)]
    return [tuple(items[low:high]) for low, high in zip(bounds, bounds[1:], strict=False)]


def told(grouped: Sequence[Group]) -> list[str]:
    """Return lines about how groups of seeds are trained: the number trained together, and why the others are not."""
    lines: dict[str, list[Group]] = {}
    for group in grouped:
        if group.chunk > 1:
            line = "trained together"
        else:
            line = "trained in a process each" + (f": {group.why}" if group.speedup is None else "")
        lines.setdefault(line, []).append(group)
    return [f"{_count_of(some, grouped)} {line}{_measured(some)}" for line, some in lines.items()]


def _measured(some: Sequence[Group]) -> str:
    """Return the range of the measured speedups of groups as a text; empty if none was measured."""
    factors = sorted(group.speedup for group in some if group.speedup is not None)
    if not factors:
        return ""
    low, high = f"{factors[0]:.2g}", f"{factors[-1]:.2g}"
    span = low if low == high else f"{low} to {high}"
    return f" (measured: together is {span} times as fast, core for core)"


def _count_of(some: Sequence[Group], every: Sequence[Group]) -> str:
    runs = sum(len(group.jobs) for group in some)
    if len(every) == 1:
        return f"{runs} seeds"
    return f"{runs} runs of {len(some)} configuration{'s' * (len(some) != 1)}"


def titles(jobs: Sequence[Job]) -> str:
    """Return the titles of at most six jobs, and the number of the others, as a text."""
    more = f" and {len(jobs) - 6} more" if len(jobs) > 6 else ""
    return ", ".join(job.title for job in jobs[:6]) + more


def spans(numbers: Iterable[int]) -> str:
    """Return integers as a text of ranges.

    >>> spans([4, 0, 1, 2])
    '0-2,4'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def replica_seeds(config: RunConfig) -> range:
    """Return the seeds of a configuration: `replicas` consecutive seeds from its own on."""
    return range(config.seed, config.seed + (config.replicas if isinstance(config.replicas, int) else 1))
