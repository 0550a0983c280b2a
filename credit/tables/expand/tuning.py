"""Tuning of a table's cells: the trials of the candidates, and the candidate that they choose. Imports no torch.

A trial is a run of one candidate with a seed of its own. The cell's runs have the settings of the candidate with the best
validation accuracy; the test accuracy is not used. A choice is computed from the trials' result.json whenever a table is expanded,
so a table continues after a kill as without tuning.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from credit.core.config.schema import NUMBER, RunConfig
from credit.core.errors import UserError
from credit.runs.folder import read_result
from credit.runs.identity import run_hash
from credit.runs.selection import edge
from credit.tables.expand.manifest import Choice, Job
from credit.tables.spec.nodes import refusal
from credit.tables.spec.schema import Budget, Cell, Spec, Tuning
from credit.tasks.primary import ACCURACY, Primary, primary_of

FIRST_SEED = 1000
"""The first seed of trials; those of a cell's runs are 0, 1, ..."""


def check_tuning(spec: Spec) -> None:
    """Refuse tuning that contradicts the rest of the table.

    Raises:
        UserError: the message has file and line.
    """
    tunings = {id(budget.tune): budget.tune for budget in spec.budgets.values() if budget.tune is not None}
    for tune in tunings.values():
        if spec.accuracy == "best_test":
            text = "tune: a table with `accuracy: best_test` chooses on test, and tuning must not: use last or best_val"
            raise refusal(spec.file, tune.line, text)
        if spec.repeat:
            text = f"tune: with `repeat` over {', '.join(spec.repeat)} what chooses in one part is tested in another: keep one"
            raise refusal(spec.file, tune.line, text)
        for row, of in tune.like.items():
            for column in spec.columns:
                if spec.has(row, column) and not spec.has(of, column):
                    text = f"tune.like: no cell {of}/{column} for {row}/{column} to take the choice of"
                    raise refusal(spec.file, tune.line, text)


def seeds(tune: Tuning) -> list[dict[str, Any]]:
    """Return the settings in which a candidate's trials differ."""
    return [{"seed": FIRST_SEED + index} for index in range(tune.seeds)]


def is_tuned(spec: Spec, budget: Budget, cell: Cell) -> bool:
    """Return whether a cell's settings are chosen by trials: the budget has tuning, and the cell's runner is ``train``."""
    return budget.tune is not None and spec.columns[cell[1]].runner == "train"


def source(tune: Tuning, cell: Cell) -> Cell:
    """Return the cell whose trials choose a cell's settings: itself, or the one in the row of `Tuning.like`."""
    return tune.like.get(cell[0], cell[0]), cell[1]


def check_candidates(spec: Spec, tune: Tuning, cell: Cell, configs: Sequence[RunConfig], words: Sequence[str]) -> None:
    """Refuse candidates of which two are the same run in a cell, or without a validation part.

    Args:
        spec, tune, cell: the table, its tuning, the cell.
        configs: the configuration of each candidate's first trial.
        words: settings of the command line.

    Raises:
        UserError: the candidates, or the setting of the command line that causes it.
    """
    first: dict[str, int] = {}
    for index, config in enumerate(configs):
        other = first.setdefault(run_hash(config), index)
        if other != index:
            told = f"candidates {other + 1} and {index + 1} are one and the same run in cell {'/'.join(cell)}"
            if words:
                text = f"{' '.join(words)}: {spec.name} tunes {keys_of(tune)}, and {told}. Leave it out"
                raise UserError(f"{text}, or train a single cell with credit-train")
            raise refusal(spec.file, tune.line, f"tune: {told}: give each another setting")
    data = configs[0].as_dict()["data"]
    if data.get("val_fraction") == 0 and not data.get("val_size"):
        if given := [word for word in words if word.lstrip("+").startswith(("data.val_", "data="))]:
            raise UserError(
                f"{' '.join(given)}: {spec.name} chooses by validation images, and then holds none out: leave it out"
            )
        text = f"tune: cell {'/'.join(cell)} holds no image out (data.val_fraction=0), so nothing can choose"
        raise refusal(spec.file, tune.line, f"{text}: give it some")


def choose(spec: Spec, cell: Cell, of: Cell, trials: Sequence[Sequence[Job]]) -> Choice:
    """Return the choice of a cell; `trials` has the jobs of each candidate in cell `of`."""
    results = [[read_result(job.path()) for job in jobs] for jobs in trials]
    over = [[held for held in found if held and held.get("status") in ("complete", "diverged")] for found in results]
    primary = next((primary_of(held) for found in over for held in found), ACCURACY)
    accuracies = tuple(_mean(found, spec.accuracy, primary) if found else None for found in over)
    chosen = -1
    if all(len(found) == len(jobs) for found, jobs in zip(over, trials, strict=True)):
        sign = 1 if primary.higher else -1
        known = [-math.inf if value is None else sign * value for value in accuracies]
        chosen = known.index(max(known))
    return Choice(*cell, of[0], accuracies, tuple(map(len, over)), chosen)


def _mean(results: Sequence[dict[str, Any]], mode: str, primary: Primary) -> float | None:
    """Return the mean of a candidate's trials by the primary measure on the validation part, shares in per cent; None if one
    diverged."""
    found = [_of_run(result, mode, primary) for result in results]
    known = [value for value in found if value is not None and math.isfinite(value)]
    return (100 if primary.share else 1) * fmean(known) if len(known) == len(found) else None


def _of_run(result: dict[str, Any], mode: str, primary: Primary) -> float | None:
    if result.get("status") != "complete":
        return None
    row = result.get("best" if mode == "best_val" else "last") or {}
    value: float | None = row.get(f"val_{primary.name}")
    return value


def at_edge(tune: Tuning, chosen: int) -> bool:
    """Return whether a candidate has the smallest or largest of three or more values of an option; a value beyond may be better."""
    numbers = [_numbers(words.words) for words in tune.set]
    return any(
        edge(key, [value], [candidate[key] for candidate in numbers if key in candidate])
        for key, value in numbers[chosen].items()
    )


def _numbers(words: Sequence[str]) -> dict[str, float]:
    """Return the numbers in settings by option."""
    parted = (word.lstrip("+").partition("=") for word in words)
    return {key: float(value) for key, _, value in parted if NUMBER.fullmatch(value)}


def words_of(tune: Tuning) -> list[str]:
    """Return each candidate as a short text, without keys if all candidates have the same keys in the same order."""
    parted = [[word.lstrip("+").partition("=") for word in words.words] for words in tune.set]
    keys = {tuple(key for key, _, _ in words) for words in parted}
    if len(keys) == 1:
        return [", ".join(value for _, _, value in words) for words in parted]
    return [", ".join(words.words) or "as it stands" for words in tune.set]


def keys_of(tune: Tuning) -> str:
    """Return the options that candidates set, as a text."""
    keys = dict.fromkeys(word.lstrip("+").partition("=")[0] for words in tune.set for word in words.words)
    return ", ".join(keys)
