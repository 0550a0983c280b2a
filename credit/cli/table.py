"""``credit table``: run the jobs of a published table that are not complete, here or on a cluster, and write its report."""

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

from credit.cli.table_request import HELP, Request, read_request
from credit.cli.train import take_folders
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.runs import read_result
from credit.runs.outcome import start_anew
from credit.runs.provenance import COMMAND, environment
from credit.sweeps.groups import Group, Job, titles, told, units
from credit.sweeps.jobs import Examined, cores, examine, failure, run_here, run_with, share, still_to_run
from credit.sweeps.launchers import hydra_launcher, is_local, local_jobs
from credit.sweeps.processes import Outcome
from credit.sweeps.runners import runner
from credit.tables.expand.manifest import Manifest, table_folder, write_manifest
from credit.tables.spec.schema import Spec

LOCAL_ORDER = ("trees", "gates", "shattering", "timing")
"""Runners whose jobs run on this machine, after all training; jobs of `timing` run one at a time."""


@dataclass(frozen=True)
class Work:
    """The expansion of a table.

    Attributes:
        manifest: the table's cells and runs.
        jobs: its distinct jobs.
        waiting: the jobs that are not complete.
    """

    manifest: Manifest
    jobs: list[Job]
    waiting: list[Job]


def main(argv: list[str]) -> int:
    """Run a table, or list the tables without arguments; return 1 if a job failed, else 0. A diverged run has not failed.

    Args:
        argv: the arguments behind ``credit table``.

    Raises:
        UserError: an argument is invalid, or a job cannot run.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    words, folders = take_folders(argv)
    use_folders(folders)
    if not words:
        _list()
        return 0
    with environment(**{COMMAND: shlex.join(["credit", "table", *argv])}):  # for provenance
        return _run(read_request(words, folders))


def _list() -> None:
    from credit.tables.spec.load import names

    tables = names()
    width = max(map(len, tables), default=0)
    for name, line in tables.items():
        print(f"{name:<{width}}  {line}{_costs(name)}")
    if not tables:
        print("there are no tables: no conf/paper/<paper>/<table>.yaml")


def _costs(name: str) -> str:
    """Return the durations of a table's budgets as stated in its file, or the reason why the file cannot be read."""
    from credit.tables.spec.load import load

    try:
        budgets = load(name).budgets.values()
    except UserError as error:
        return f"  (cannot be read: {str(error).splitlines()[0]})"
    told = [f"{budget.name} {_duration(60 * budget.minutes)}" for budget in budgets if budget.minutes]
    return f"  ({', '.join(told)})" if told else ""


def _run(asked: Request) -> int:
    from credit.tables.spec.load import load

    local = is_local(asked.hydra)
    parallel = local_jobs(asked.hydra) if local else 1
    if not local:
        with hydra_launcher(asked.hydra, table_folder(asked.table, asked.budget)):
            pass  # raises for an invalid launcher before any file is written
    spec = load(asked.table)
    work = _expand(spec, asked)
    found = _examine(spec, work, threads=share(parallel or cores()), elsewhere=not local)
    parallel = parallel or (1 if found.gpu else cores())
    total = _cost(work.waiting, found, parallel)
    where = _count(parallel, "process") if local else f"one process like this machine's; given to {_name(asked.hydra)}"
    print(_plan(spec, work, total, found, where), flush=True)
    if asked.dry:
        return 0
    folder, some = write_manifest(work.manifest), bool(work.waiting)
    started = time.perf_counter()
    work, outcomes = _run_all(spec, asked, work, found, parallel)
    if some and local:
        print(f"took {_duration(time.perf_counter() - started)}, estimated {_duration(total)}")
    _write_report(spec, work.manifest, folder)
    return _failures(work.jobs, outcomes)


def _expand(spec: Spec, asked: Request) -> Work:
    from credit.tables.expand.jobs import expand

    manifest = expand(spec, asked.budget, asked.seeds, asked.words)
    manifest = replace(manifest, command=shlex.join([*shlex.split(manifest.command), *asked.rest]))
    jobs = _jobs(manifest, asked)
    return Work(manifest, jobs, still_to_run(jobs, lambda job, why: UserError(f"{job.title}: {why}")))


def _run_all(
    spec: Spec, asked: Request, work: Work, found: Examined, parallel: int
) -> tuple[Work, dict[Path, Outcome]]:
    """Run the waiting jobs: first trials, which choose settings, then the cells' runs and timings.

    Runs whose trials failed are left out, because their settings are unknown.
    """
    folder = table_folder(asked.table, asked.budget)
    ended: dict[Path, Outcome] = {}
    trials = {job.path() for job in work.manifest.trials}
    if tried := [job for job in work.waiting if job.folder in trials]:
        print(f"first the {_count(len(tried), 'trial')} by which settings are chosen", flush=True)
        ended |= _launch(tried, found.grouped, parallel, asked.hydra, folder)
        work = _expand(spec, asked)
        write_manifest(work.manifest)
        found = _examine(spec, work, threads=share(parallel), elsewhere=not is_local(asked.hydra), measure=False)
    unknown = {job.path() for job in work.manifest.jobs if work.manifest.is_open(job)} | trials
    ready = [job for job in work.waiting if job.folder not in unknown]
    return work, ended | _launch(ready, found.grouped, parallel, asked.hydra, folder)


def _jobs(manifest: Manifest, asked: Request) -> list[Job]:
    """Return the jobs of the table's distinct runs; two cells may share a run."""
    from credit.core.config import check
    from credit.core.config.overrides import rewrite

    jobs: dict[Path, Job] = {}
    for job in manifest.all_jobs():
        repeat = " ".join(f"{key}={value}" for key, value in job.repeat.items())
        tried = f" candidate {job.options['candidate'] + 1}" if "candidate" in job.options else ""
        title = f"{job.row}/{job.column}{tried} {repeat}".strip()
        words = (*rewrite(job.words), f"++resume={asked.resume}")
        config = check({**job.config, "rerun": asked.rerun, "resume": asked.resume})
        most = 1 if asked.replicas == "1" else None
        made = Job(title, config, job.path(), words, job.runner, job.options, most)
        if made.config.replicas != 1:
            raise UserError(
                f"{manifest.table} sets replicas={made.config.replicas}: a table's runs are one seed each, and how many "
                f"seeds a cell has is its budget's `seeds`. Leave it out"
            )
        jobs.setdefault(made.folder, made)
    return list(jobs.values())


def _examine(spec: Spec, work: Work, *, threads: int | None, elsewhere: bool, measure: bool = True) -> Examined:
    """Check the waiting jobs and estimate their durations; an error names the file and line of the setting in the table."""
    from credit.tables.expand.jobs import blamed

    def refusal(index: int, why: str) -> UserError:
        job, held = work.waiting[index], runner(work.waiting[index].runner)
        of = next(one for one in work.manifest.all_jobs() if one.path() == job.folder)

        def fails(config: RunConfig) -> None:
            # A reference built with the setting in question would fail with any probed configuration.
            own = {"reference": config.as_dict()} if "reference" in job.options else {}
            held.refuse(config, {**job.options, **own})

        return blamed(spec, work.manifest, of, UserError(why), fails)

    return examine(work.waiting, refusal, measure=measure, threads=threads, elsewhere=elsewhere)


def _launch(
    waiting: list[Job], grouped: list[Group], parallel: int, hydra: list[str], folder: Path
) -> dict[Path, Outcome]:
    """Run jobs: training by the chosen launcher, then the other runners on this machine, timings one at a time."""
    ended: dict[Path, Outcome] = {}
    for job in waiting:
        start_anew(job.folder, job.config)
    training = [job for job in waiting if job.runner not in LOCAL_ORDER]
    now = {job.folder for job in training}
    grouped = [group for group in grouped if all(job.folder in now for job in group.jobs)]
    if training and is_local(hydra):
        ended |= run_here(units(training, grouped, parallel), parallel)
    elif training:
        with hydra_launcher(hydra, folder / "launcher") as launcher:
            ended |= run_with(launcher, units(training, grouped, 1))
    for name in LOCAL_ORDER:
        jobs = [job for job in waiting if job.runner == name]
        if jobs:
            ended |= run_here(units(jobs, [], 1), 1 if name == "timing" else parallel)
    return ended


def _cost(waiting: list[Job], found: Examined, parallel: int) -> float:
    """Return the estimated seconds of all jobs together; jobs without an estimate count as 0."""
    seconds = {job.folder: known for job, known in zip(waiting, found.seconds, strict=True) if known is not None}
    for group in found.grouped:
        for job in group.jobs if group.chunk > 1 else ():
            if job.folder in seconds:
                seconds[job.folder] /= group.speedup or 1.0
    made = units(waiting, found.grouped, parallel)
    known = [(sum(seconds.get(job.folder, 0.0) for job in unit.jobs), unit.jobs[0].runner) for unit in made]
    shared = [cost for cost, name in known if name != "timing"]
    alone = sum(cost for cost, name in known if name == "timing")
    return max(sum(shared) / parallel, max(shared, default=0.0)) + alone


def _plan(spec: Spec, work: Work, total: float, found: Examined, where: str) -> str:
    manifest, jobs, waiting = work.manifest, work.jobs, work.waiting
    cells = len({(job.row, job.column) for job in manifest.jobs})
    repeats = [f"{_count(manifest.seeds, 'seed')}"] + [f"{len(values)} {key}" for key, values in spec.repeat.items()]
    done = len(jobs) - len(waiting)
    text = f"{spec.name} at budget={manifest.budget}: {_count(len(jobs), 'job')} ({_count(cells, 'cell')}, "
    own = f" and {_count(len(manifest.trials), 'trial')}" if manifest.trials else ""
    own += f" and {_count(len(manifest.costs), 'timing')}" if manifest.costs else ""
    text += f"{' x '.join(repeats)}{own}), {done} already complete"
    if not waiting:
        return text
    unknown = sum(seconds is None for seconds in found.seconds)
    text += f"; about {_duration(total)} on {where}" if unknown < len(waiting) else f"; to run on {where}"
    if found.measured:
        text += f" (measured: 3 steps of {_count(found.measured, 'configuration')})"
    text += f"; {unknown} not estimated" if unknown else ""
    return "\n".join([text, *told(found.grouped)])


def _write_report(spec: Spec, manifest: Manifest, folder: Path) -> None:
    from credit.tables.measures.collect import collect
    from credit.tables.report.report import verdict_lines, write_report

    held = collect(spec, manifest)
    page = write_report(spec, manifest, folder, held)
    for line in verdict_lines(spec, manifest, held):
        print(line)
    print(f"report: {page} (and {page.with_suffix('.html').name})")


def _failures(jobs: list[Job], outcomes: dict[Path, Outcome]) -> int:
    """Print the failures and return the exit code."""
    failed = [(job, why) for job in jobs if (why := failure(job, outcomes.get(job.folder))) is not None]
    alike: dict[str, list[Job]] = {}
    for job, why in failed:
        alike.setdefault(why, []).append(job)
    for why, group in alike.items():
        print(f"{titles(group)}: {why}")
        log = outcomes[group[0].folder].log if group[0].folder in outcomes else ""
        if "Traceback" in log:
            print(log.rstrip())
    missing = {job.folder for job, _ in failed}
    diverged = [job for job in jobs if job.folder not in missing and _status(job) == "diverged"]
    if diverged:
        print(f"{_count(len(diverged), 'run')} diverged: {titles(diverged)}")
    if failed:
        print(
            f"{len(failed)} of {_count(len(jobs), 'job')} failed; the same command skips what is done and tries these again."
        )
    return 1 if failed else 0


def _status(job: Job) -> str | None:
    return (read_result(job.folder) or {}).get("status")


def _name(words: list[str]) -> str:
    return [word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")][-1]


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number} {what}{plural * (number != 1)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"
