"""Expand a table into jobs: a run for each cell and repeat, and the differences from the published runs."""

import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from credit.core.config.compose import compose_each
from credit.core.config.overrides import quoted
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError, nearest
from credit.runs.identity import run_hash
from credit.runs.places import runs_root
from credit.sweeps.runners import runner
from credit.tables.expand import cuts, tuning
from credit.tables.expand.manifest import Choice, Cut, Job, Manifest
from credit.tables.spec import layers
from credit.tables.spec.schema import BUDGETS, NO_WORDS, Budget, Cell, Spec, Words

_SPECIAL = ("null", "true", "false", "nan", "inf")
"""Words that Hydra reads as values of other types unless they are quoted."""


def expand(spec: Spec, budget: str = "quick", seeds: int | None = None, words: Sequence[str] = ()) -> Manifest:
    """Return the jobs of a table at a budget, cell by cell, without running or writing anything.

    Args:
        spec: the table.
        budget: one of `credit.tables.spec.schema.BUDGETS`.
        seeds: number of seeds of a cell; None for the budget's.
        words: settings of the command line for all cells, stronger than the table's.

    Raises:
        UserError: an invalid setting, with its file and line; or `words` that make different cells the same run.
    """
    if budget not in spec.budgets:
        raise UserError(f"budget={budget}: {nearest(budget, BUDGETS)}")
    here = spec.budgets[budget]
    count = here.seeds if seeds is None else seeds
    if count < 1:
        raise UserError(f"seeds={count}: give 1 or more; the seeds are then 0, 1, ...")
    layers.check_user_words(spec, words)
    runs = _Runs(spec, repeats(spec, count))
    run_cells = spec.cells_in(here)
    trials, choices = _tuned(spec, here, run_cells, words)
    if words:
        plain = {cell: layers.cell_words(spec, here, *cell) for cell in run_cells}
        layers.check_choices(spec, plain, words)
        _check_still_different(
            spec, runs, {cell: (plain[cell], runs.words(here, cell, words)) for cell in run_cells}, words
        )
    chosen = {(choice.row, choice.column): _candidate(here, choice) for choice in choices}
    jobs = [job for cell in run_cells for job in _jobs(spec, runs, here, cell, words, chosen.get(cell, NO_WORDS))]
    return Manifest(
        table=spec.name,
        budget=budget,
        seeds=count,
        words=tuple(words),
        command=_command(spec, budget, seeds, words),
        jobs=tuple(jobs),
        cuts=tuple(_cuts(spec, runs, here, run_cells, words, count)),
        trials=tuple(trials),
        choices=tuple(choices),
        costs=tuple(_costs(spec, runs, here, run_cells, words)),
    )


def repeats(spec: Spec, seeds: int) -> list[dict[str, Any]]:
    """Return the settings in which a cell's runs differ: the product of the seeds and the values of the table's `repeat`."""
    axes = {"seed": tuple(range(seeds)), **spec.repeat}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def as_word(key: str, value: Any) -> str:
    """Return a setting as on the command line.

    >>> as_word("data.classes", ["cat", None, "1"])
    "data.classes=[cat,null,'1']"
    """
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(inner)}" for key, inner in value.items()) + "}"
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*", str(value)) and str(value).lower() not in _SPECIAL
    return quoted(value) if isinstance(value, str) and not plain else str(value)


def blamed(spec: Spec, manifest: Manifest, job: Job, error: UserError, fails: Callable[[RunConfig], None]) -> UserError:
    """Return an error about a job's run with the setting that causes it, its file and line (`credit.tables.spec.layers.blame`).

    Args:
        spec, manifest, job: the table, its manifest and the job.
        error: the error, raised by a check that composing does not include.
        fails: that check, which raises `UserError` for a run that cannot be made.
    """
    budget = spec.budgets[manifest.budget]
    tuned = NO_WORDS
    if "candidate" in job.options and budget.tune is not None:
        tuned = budget.tune.set[job.options["candidate"]] + budget.tune.trials
    elif job in manifest.jobs:
        choices = {(choice.row, choice.column): choice for choice in manifest.choices}
        choice = choices.get((job.row, job.column))
        tuned = NO_WORDS if choice is None else _candidate(budget, choice)
    words = layers.cell_words(spec, budget, job.row, job.column, manifest.words, tuned)
    return layers.blame(spec, f"{job.row}/{job.column}", words, error, fails)


class _Runs:
    """The composed runs of one expansion; each cell is composed once."""

    def __init__(self, spec: Spec, all_repeats: list[dict[str, Any]]) -> None:
        self.spec, self.repeats = spec, all_repeats
        self._composed: dict[tuple[str, ...], list[RunConfig]] = {}

    def words(self, budget: Budget, cell: Cell, words: Sequence[str], tuned: Words = NO_WORDS) -> Words:
        return layers.cell_words(self.spec, budget, *cell, words, tuned)

    def of(self, words: Words, cell: Cell, only_first: bool = False) -> list[RunConfig]:
        """Return the runs of a cell by repeat, or the run of the first repeat alone."""
        held = self._composed.get(words.words, [])
        wanted = self.repeats[:1] if only_first else self.repeats
        if len(held) < len(wanted):
            # The first repeat's words come along, so that what a word implies (one length a run) is as credit-train does it.
            first = [as_word(key, value) for key, value in self.repeats[0].items()]
            try:
                held = compose_each([*words.words, *first], wanted)
            except UserError as error:
                raise layers.blame(self.spec, "/".join(cell), words, error) from error
            self._composed[words.words] = held
        return held


def _tuned(spec: Spec, budget: Budget, cells: Sequence[Cell], words: Sequence[str]) -> tuple[list[Job], list[Choice]]:
    """Return the trials of the candidates, and the choices that the finished ones make."""
    tune = budget.tune
    if tune is None:
        return [], []
    runs = _Runs(spec, tuning.seeds(tune))
    trials: dict[Cell, list[list[Job]]] = {}
    choices = []
    for cell in cells:
        if not tuning.is_tuned(spec, budget, cell):
            continue
        of = tuning.source(tune, cell)
        if of not in trials:
            each = [runs.words(budget, of, words, candidate + tune.trials) for candidate in tune.set]
            tuning.check_candidates(spec, tune, of, [runs.of(held, of)[0] for held in each], words)
            trials[of] = [
                _made(runs, of, held, "train", [{"candidate": index}] * tune.seeds) for index, held in enumerate(each)
            ]
        choices.append(tuning.choose(spec, cell, of, trials[of]))
    return [job for each in trials.values() for jobs in each for job in jobs], choices


def _candidate(budget: Budget, choice: Choice) -> Words:
    """Return the chosen candidate's settings; those of the first candidate until the trials are finished."""
    return budget.tune.set[max(choice.chosen, 0)] if budget.tune is not None else NO_WORDS


def _jobs(spec: Spec, runs: _Runs, budget: Budget, cell: Cell, words: Sequence[str], tuned: Words) -> list[Job]:
    column = spec.columns[cell[1]]
    against = column.options.get("against")
    options = [dict(column.options) for _ in runs.repeats]
    if against is not None:
        options = _beside(runs, budget, (cell[0], str(against)), words, options)
    return _made(runs, cell, runs.words(budget, cell, words, tuned), column.runner, options)


def _costs(spec: Spec, runs: _Runs, budget: Budget, cells: Sequence[Cell], words: Sequence[str]) -> list[Job]:
    """Return the timings of the cells' steps against the reference column of the same row, without tuned settings."""
    costs, jobs = spec.costs, []
    if costs is None:
        return []
    options = {"against": costs.against, **({"seconds": costs.seconds} if costs.seconds else {})}
    for cell in cells:
        if not costs.rows or cell[0] in costs.rows:
            first = _beside(runs, budget, (cell[0], costs.against), words, [options])
            jobs += _made(runs, cell, runs.words(budget, cell, words), "timing", first)
    return jobs


def _beside(
    runs: _Runs, budget: Budget, reference: Cell, words: Sequence[str], options: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the options of a timing for each repeat, with the reference run."""
    configs = runs.of(runs.words(budget, reference, words), reference)[: len(options)]
    return [{**one, "reference": config.as_dict()} for one, config in zip(options, configs, strict=True)]


def _made(runs: _Runs, cell: Cell, held: Words, runs_by: str, each: Sequence[dict[str, Any]]) -> list[Job]:
    """Return a job of a cell for each repeat for which `each` has options."""
    row, column = cell
    jobs = []
    for repeat, config, options in zip(runs.repeats, runs.of(held, cell), each, strict=False):
        folder = runner(runs_by).folder(config, options).relative_to(runs_root())
        jobs.append(
            Job(
                row=row,
                column=column,
                repeat=repeat,
                runner=runs_by,
                options=options,
                words=(*held.words, *(as_word(key, value) for key, value in repeat.items())),
                config=config.as_dict(),
                folder=folder.as_posix(),
            )
        )
    return jobs


def _cuts(spec: Spec, runs: _Runs, budget: Budget, cells: list[Cell], words: Sequence[str], seeds: int) -> list[Cut]:
    pairs = {}
    for cell in cells:
        paper = runs.of(runs.words(spec.budgets["paper"], cell, ()), cell, only_first=True)
        pairs[cell] = (paper[0], runs.of(runs.words(budget, cell, words), cell)[0])
    return [
        *cuts.size_cuts(spec, budget, seeds),
        *cuts.tuning_cuts(spec, budget),
        *cuts.settings_cuts(pairs, tuple(runs.repeats[0])),
    ]


def _check_still_different(
    spec: Spec, runs: _Runs, cells: dict[Cell, tuple[Words, Words]], words: Sequence[str]
) -> None:
    """Refuse `words` that make two different runs the same one; `cells` has each cell's settings without and with `words`."""
    first: dict[str, Cell] = {}
    for cell, (before, after) in cells.items():
        column = spec.columns[cell[1]]
        other = first.setdefault(f"{run_hash(runs.of(after, cell)[0])} {column.runner} {column.options}", cell)
        if other == cell:
            continue
        different = cuts.differences(runs.of(cells[other][0], other)[0], runs.of(before, cell)[0], ())
        if different:
            listed = ", ".join(f"{key} ({theirs} and {ours})" for key, (theirs, ours) in different.items())
            raise UserError(
                f"{' '.join(words)}: {'/'.join(other)} and {'/'.join(cell)} of {spec.name} would be one and the same run; "
                f"they differ in {listed}. Leave it out, or train a single cell with credit-train"
            )


def _command(spec: Spec, budget: str, seeds: int | None, words: Sequence[str]) -> str:
    counted = [] if seeds is None else [f"seeds={seeds}"]
    return shlex.join(["credit", "table", spec.name, f"budget={budget}", *counted, *words])
