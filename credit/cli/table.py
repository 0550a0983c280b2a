"""``credit table``: run a published table, or what is left of it, on this machine or a cluster, and write its report."""

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

from credit.cli.jobs import Examined, cores, examine, failure, run_here, run_with, share
from credit.cli.launchers import hydra_launcher, is_local, local_jobs, split_words
from credit.cli.train import take_folders
from credit.cli.units import Group, Job, titles, told, units
from credit.config.plugins import use_folders
from credit.config.schema import RunConfig
from credit.errors import UserError, nearest
from credit.papers.job import Manifest, table_folder, write_manifest
from credit.papers.runners import runner
from credit.papers.spec import BUDGETS, Spec
from credit.records import read_result
from credit.records.launcher import Outcome
from credit.records.provenance import COMMAND, environment

HELP = """\
usage: credit table <paper>/<table> [budget=quick] [seeds=N] [settings] [launcher] [--dry-run] [--config-dir DIR]

Run a published table's cells, skip those that are complete, and write the report: published beside measured, each
claim with its verdict. The same command goes on where it was stopped.

  budget=smoke|quick|paper      seconds, minutes on two CPU cores (the default), or as published
  seeds=3                       runs a cell; the default is the budget's
  replicas=auto|1               train a cell's seeds in one pass where that is faster (the default), or never
  trainer.epochs=5 ...          any setting of credit-train, for every cell; the report says so
  hydra.launcher.jobs=2         jobs at a time; the default is one a CPU core, or one where a GPU is used
  hydra/launcher=submitit_slurm hydra.launcher.partition=gpu ...   another of Hydra's launchers
  --dry-run                     say what would run and about how long it would take, and stop
  --config-dir DIR              a folder with your own choices and tables (DIR/paper/<paper>/<table>.yaml)

`credit table` alone lists the tables; `credit report <paper>/<table>` writes a report anew."""

LOCAL_ORDER = ("trees", "gates", "shattering", "timing")
"""Runners whose jobs stay on this machine, after all training; `timing` must have the machine to itself."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    table: str
    budget: str
    seeds: int | None
    replicas: str
    words: list[str]
    hydra: list[str]
    folders: list[str]
    dry: bool

    @property
    def rest(self) -> list[str]:
        """The words of the command that the table's expansion does not see."""
        own = [] if self.replicas == "auto" else [f"replicas={self.replicas}"]
        return [*own, *self.hydra, *(word for folder in self.folders for word in ("--config-dir", folder))]


def main(argv: list[str]) -> int:
    """Run a table; return 0, or 1 where a job failed. A diverged run is a result."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    words, folders = take_folders(argv)
    use_folders(folders)
    if not words:
        _list()
        return 0
    return _run(_request(words, folders))


def _request(words: list[str], folders: list[str]) -> Request:
    names = [word for word in words if "=" not in word and not word.startswith("-")]
    if bare := [word for word in names if "/" not in word and len(names) > 1]:
        raise UserError(f"cannot read '{bare[0]}': settings are written key=value, for example trainer.epochs=3")
    flags = [word for word in words if word.startswith("-")]
    if unknown := [flag for flag in flags if flag != "--dry-run"]:
        raise UserError(f"unknown flag '{unknown[0]}': {nearest(unknown[0], ['--dry-run', '--config-dir', '--help'])}")
    if len(names) != 1:
        given = ", ".join(names) or "none"
        raise UserError(
            f"one table at a time, by name, and {given} given: credit table lisp/fig3; `credit table` lists all"
        )
    settings, hydra = split_words([word for word in words if "=" in word and not word.startswith("-")])
    own = {"budget": "quick", "seeds": "default", "replicas": "auto"}
    for word in settings:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = value
    if own["budget"] not in BUDGETS:
        raise UserError(f"budget={own['budget']}: {nearest(own['budget'], BUDGETS)}")
    if own["seeds"] != "default" and not (own["seeds"].isdecimal() and int(own["seeds"])):
        raise UserError(f"seeds={own['seeds']}: how many runs a cell, from 1; their seeds are 0, 1, ...")
    if own["replicas"] not in ("auto", "1"):
        raise UserError(
            f"replicas={own['replicas']}: auto trains a cell's seeds in one pass where that is faster, 1 never does; "
            f"how many seeds a cell has is seeds=N"
        )
    rest = [word for word in settings if word.partition("=")[0] not in own]
    seeds = None if own["seeds"] == "default" else int(own["seeds"])
    return Request(names[0], own["budget"], seeds, own["replicas"], rest, hydra, folders, "--dry-run" in flags)


def _list() -> None:
    from credit.papers.load import names

    tables = names()
    width = max(map(len, tables), default=0)
    for name, line in tables.items():
        print(f"{name:<{width}}  {line}{_costs(name)}")
    if not tables:
        print("there are no tables: no conf/paper/<paper>/<table>.yaml")


def _costs(name: str) -> str:
    """Return what a table's budgets cost as stated in its file; or why it cannot be read."""
    from credit.papers.load import load

    try:
        budgets = load(name).budgets.values()
    except UserError as error:
        return f"  (cannot be read: {str(error).splitlines()[0]})"
    told = [f"{budget.name} {_duration(60 * budget.minutes)}" for budget in budgets if budget.minutes]
    return f"  ({', '.join(told)})" if told else ""


def _run(asked: Request) -> int:
    from credit.papers.expand import expand
    from credit.papers.load import load

    local = is_local(asked.hydra)
    parallel = local_jobs(asked.hydra) if local else 1
    if not local:
        with hydra_launcher(asked.hydra, table_folder(asked.table, asked.budget)):
            pass  # refused here if at all, before anything is written
    spec = load(asked.table)
    manifest = expand(spec, asked.budget, asked.seeds, asked.words)
    manifest = replace(manifest, command=shlex.join([*shlex.split(manifest.command), *asked.rest]))
    jobs = _jobs(manifest, most=1 if asked.replicas == "1" else None)
    waiting = [job for job in jobs if not runner(job.runner).is_complete(job.folder)]
    found = _examine(spec, manifest, waiting, threads=share(parallel or cores()), elsewhere=not local)
    parallel = parallel or (1 if found.gpu else cores())
    total = _cost(waiting, found, parallel)
    where = _count(parallel, "process") if local else f"one process like this machine's; given to {_name(asked.hydra)}"
    print(_plan(spec, manifest, jobs, waiting, total, found, where), flush=True)
    if asked.dry:
        return 0
    folder = write_manifest(manifest)
    started = time.perf_counter()
    with environment(**{COMMAND: manifest.command}):
        outcomes = _launch(waiting, found.grouped, parallel, asked.hydra, folder)
    if waiting and local:
        print(f"took {_duration(time.perf_counter() - started)}, estimated {_duration(total)}")
    _write_report(spec, manifest, folder)
    return _failures(jobs, outcomes)


def _jobs(manifest: Manifest, most: int | None) -> list[Job]:
    """Return the table's distinct runs; two cells may be one and the same. For `most` see `credit.cli.units.Job`."""
    from credit.config import check
    from credit.config.overrides import rewrite

    jobs: dict[Path, Job] = {}
    for job in manifest.jobs:
        repeat = " ".join(f"{key}={value}" for key, value in job.repeat.items())
        title = f"{job.row}/{job.column} {repeat}".strip()
        words = tuple(rewrite(job.words))
        made = Job(title, check(job.config), job.path(), words, job.runner, job.options, most)
        if made.config.replicas != 1:
            raise UserError(
                f"{manifest.table} sets replicas={made.config.replicas}: a table's runs are one seed each, and how many "
                f"seeds a cell has is its budget's `seeds`. Leave it out"
            )
        jobs.setdefault(made.folder, made)
    return list(jobs.values())


def _examine(spec: Spec, manifest: Manifest, waiting: list[Job], *, threads: int | None, elsewhere: bool) -> Examined:
    """Check the jobs that are left and estimate them; a refusal names the word's file and line in the table."""
    from credit.papers.expand import blamed

    def refusal(index: int, why: str) -> UserError:
        job, held = waiting[index], runner(waiting[index].runner)
        of = next(one for one in manifest.jobs if one.path() == job.folder)

        def fails(config: RunConfig) -> None:
            # A reference made with the word in question would fail whatever the probed configuration is.
            own = {"reference": config.as_dict()} if "reference" in job.options else {}
            held.refuse(config, {**job.options, **own})

        return blamed(spec, manifest, of, UserError(why), fails)

    return examine(waiting, refusal, measure=True, threads=threads, elsewhere=elsewhere)


def _launch(
    waiting: list[Job], grouped: list[Group], parallel: int, hydra: list[str], folder: Path
) -> dict[Path, Outcome]:
    """Run what is left: training where asked, then the comparators, then timings one by one."""
    ended: dict[Path, Outcome] = {}
    training = [job for job in waiting if job.runner not in LOCAL_ORDER]
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
    """Return about how many seconds the jobs take together, as far as that is known."""
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


def _plan(
    spec: Spec, manifest: Manifest, jobs: list[Job], waiting: list[Job], total: float, found: Examined, where: str
) -> str:
    cells = len({(job.row, job.column) for job in manifest.jobs})
    repeats = [f"{_count(manifest.seeds, 'seed')}"] + [f"{len(values)} {key}" for key, values in spec.repeat.items()]
    done = len(jobs) - len(waiting)
    text = f"{spec.name} at budget={manifest.budget}: {_count(len(jobs), 'job')} ({_count(cells, 'cell')}, "
    text += f"{' x '.join(repeats)}), {done} already complete"
    if not waiting:
        return text
    unknown = sum(seconds is None for seconds in found.seconds)
    text += f"; about {_duration(total)} on {where}" if unknown < len(waiting) else f"; to run on {where}"
    if found.measured:
        text += f" (measured: 3 steps of {_count(found.measured, 'configuration')})"
    text += f"; {unknown} not estimated" if unknown else ""
    return "\n".join([text, *told(found.grouped)])


def _write_report(spec: Spec, manifest: Manifest, folder: Path) -> None:
    from credit.papers.collect import collect
    from credit.papers.report import verdict_lines, write_report

    held = collect(spec, manifest)
    page = write_report(spec, manifest, folder, held)
    for line in verdict_lines(spec, manifest, held):
        print(line)
    print(f"report: {page} (and {page.with_suffix('.html').name})")


def _failures(jobs: list[Job], outcomes: dict[Path, Outcome]) -> int:
    """Print what went wrong and return the exit code."""
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
