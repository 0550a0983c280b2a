"""Parse the arguments of ``credit table``."""

from dataclasses import dataclass

from credit.core.config.schema import TopConfig
from credit.core.errors import UserError, nearest
from credit.core.options import convert, of_class
from credit.sweeps.launchers import split_words
from credit.tables.spec.schema import BUDGETS

RERUN: dict[str, bool | str] = {"false": False, "changed": "changed", "true": True}
"""The values of `rerun` on the command line."""

HELP = """\
usage: credit table <paper>/<table> [budget=quick] [seeds=N] [settings] [launcher] [--dry-run] [--config-dir DIR]

Run a published table's cells, skip those that are complete, and write the report: published beside measured, each
claim with its verdict. The same command goes on where it was stopped.

  budget=smoke|quick|paper      seconds, minutes on two CPU cores (the default), or as published
  seeds=3                       runs a cell; the default is the budget's
  replicas=auto|1               train a cell's seeds in one pass where that is faster (the default), or never
  rerun=true|changed            run again what is complete, or that of it whose code or data changed since
  resume=anyway                 let unfinished runs go on though credit's or your code changed; their results say so
  trainer.epochs=5 ...          any setting of credit-train, for every cell; the report says so
  hydra.launcher.jobs=2         jobs at a time; the default is one a CPU core, or one where a GPU is used
  hydra/launcher=submitit_slurm hydra.launcher.partition=gpu ...   another of Hydra's launchers
  --dry-run                     say what would run and about how long it would take, and stop
  --config-dir DIR              a folder with your own choices and tables (DIR/paper/<paper>/<table>.yaml)

`credit table` alone lists the tables; `credit report <paper>/<table>` writes a report anew."""


@dataclass(frozen=True)
class Request:
    """The parsed arguments of ``credit table``.

    Attributes:
        table, budget: the table's name and its budget.
        seeds: number of runs of a cell; None for the budget's.
        replicas: ``auto`` or ``1``.
        rerun, resume: as the options of a run.
        words: settings of every cell.
        hydra: settings of Hydra.
        folders: the user's configuration folders.
        dry: print the plan only.
    """

    table: str
    budget: str
    seeds: int | None
    replicas: str
    rerun: bool | str
    resume: str
    words: list[str]
    hydra: list[str]
    folders: list[str]
    dry: bool

    @property
    def rest(self) -> list[str]:
        """The arguments that are not part of the table's expansion."""
        own = [] if self.replicas == "auto" else [f"replicas={self.replicas}"]
        return [*own, *self.hydra, *(word for folder in self.folders for word in ("--config-dir", folder))]


def read_request(words: list[str], folders: list[str]) -> Request:
    """Parse the arguments of ``credit table``.

    Args:
        words: the arguments without ``--config-dir``.
        folders: the user's configuration folders.

    Raises:
        UserError: an argument is invalid, or not exactly one table is named.
    """
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
    own = {"budget": "quick", "seeds": "default", "replicas": "auto", "rerun": "false", "resume": "same"}
    for word in settings:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = value
    _check(own)
    rest = [word for word in settings if word.partition("=")[0] not in own]
    seeds = None if own["seeds"] == "default" else int(own["seeds"])
    return Request(
        names[0],
        own["budget"],
        seeds,
        own["replicas"],
        RERUN[own["rerun"]],
        own["resume"],
        rest,
        hydra,
        folders,
        "--dry-run" in flags,
    )


def _check(own: dict[str, str]) -> None:
    """Check the values of the command's options.

    Raises:
        UserError: a value is invalid.
    """
    if own["budget"] not in BUDGETS:
        raise UserError(f"budget={own['budget']}: {nearest(own['budget'], BUDGETS)}")
    if own["seeds"] != "default" and not (own["seeds"].isdecimal() and int(own["seeds"])):
        raise UserError(f"seeds={own['seeds']}: how many runs a cell, from 1; their seeds are 0, 1, ...")
    if own["replicas"] not in ("auto", "1"):
        raise UserError(
            f"replicas={own['replicas']}: auto trains a cell's seeds in one pass where that is faster, 1 never does; "
            f"how many seeds a cell has is seeds=N"
        )
    if own["rerun"] not in RERUN:
        raise UserError(f"rerun={own['rerun']}: {nearest(own['rerun'], RERUN)}")
    convert("resume", own["resume"], of_class(TopConfig)["resume"])
