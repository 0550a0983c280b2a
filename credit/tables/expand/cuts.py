"""Differences of a budget's runs, or of the command line's, from the published runs, found by comparing their configurations."""

import json
from collections.abc import Mapping
from typing import Any

from credit.core.config.schema import RunConfig
from credit.core.config.validate import as_read
from credit.runs.identity import decisive
from credit.tables.expand.manifest import Cut
from credit.tables.spec.schema import Budget, Cell, Spec


def flat(whole: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in whole.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differences(paper: RunConfig, here: RunConfig, without: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, as (value in `paper`, value in `here`) by key; None for a missing setting.

    Only settings that decide the result are compared; a default value is included as such.
    """
    theirs, ours = flat(decisive(paper)), flat(decisive(here))
    wholes = flat(as_read(paper)), flat(as_read(here))
    keys = [key for key in dict.fromkeys([*theirs, *ours]) if key not in without and theirs.get(key) != ours.get(key)]
    return {key: (theirs.get(key, wholes[0].get(key)), ours.get(key, wholes[1].get(key))) for key in keys}


def settings_cuts(pairs: dict[Cell, tuple[RunConfig, RunConfig]], without: tuple[str, ...]) -> list[Cut]:
    """Return the settings that differ, with cells of the same difference in one entry.

    Args:
        pairs: by cell, the published run and this budget's.
        without: keys that are not compared: those of the repeats.
    """
    found: dict[str, tuple[str, Any, Any, list[Cell]]] = {}
    for cell, (paper, here) in pairs.items():
        for key, (theirs, ours) in differences(paper, here, without).items():
            entry = found.setdefault(json.dumps([key, theirs, ours]), (key, theirs, ours, []))
            entry[3].append(cell)
    cuts = [Cut(key, theirs, ours, where(cells, list(pairs))) for key, theirs, ours, cells in found.values()]
    return sorted(cuts, key=lambda cut: cut.key)


def size_cuts(spec: Spec, budget: Budget, seeds: int) -> list[Cut]:
    """Return the differences in the numbers of seeds, rows, columns and cells."""
    paper = spec.budgets["paper"]
    cuts = [] if seeds == paper.seeds else [Cut("seeds", paper.seeds, seeds, "all cells")]
    there, here = spec.cells_in(paper), spec.cells_in(budget)
    for axis, name in enumerate(("rows", "columns")):
        all_names, kept = (dict.fromkeys(cell[axis] for cell in cells) for cells in (there, here))
        left_out = [key for key in all_names if key not in kept]
        if left_out:
            cuts.append(Cut(name, len(all_names), len(kept), f"without {', '.join(left_out)}"))
    rows, columns = ({cell[axis] for cell in here} for axis in (0, 1))
    both = [cell for cell in there if cell[0] in rows and cell[1] in columns]
    if lost := [f"{row}/{column}" for row, column in both if (row, column) not in here]:
        cuts.append(Cut("cells", len(both), len(both) - len(lost), f"without {', '.join(lost)}"))
    return cuts


def tuning_cuts(spec: Spec, budget: Budget) -> list[Cut]:
    """Return the difference in the candidates of the tuning and their runs."""
    paper, here = _allowance(spec.budgets["paper"]), _allowance(budget)
    return [Cut("tune", paper, here, "all cells")] if paper != here else []


def _allowance(budget: Budget) -> str | None:
    tune = budget.tune
    if tune is None:
        return None
    trials = f", {' '.join(tune.trials.words)}" if tune.trials.words else ""
    return f"{'; '.join(' '.join(words.words) for words in tune.set)}: {tune.seeds} run each{trials}"


def where(cells: list[Cell], run: list[Cell]) -> str:
    """Return a short text for some of the cells `run`: all cells, whole columns, whole rows, or each cell."""
    chosen = set(cells)
    if chosen == set(run):
        return "all cells"
    for axis, name in ((1, "column"), (0, "row")):
        names = dict.fromkeys(cell[axis] for cell in run if cell in chosen)
        if chosen == {cell for cell in run if cell[axis] in names}:
            return f"{name}{'s' if len(names) > 1 else ''} {', '.join(names)}"
    return ", ".join(f"{row}/{column}" for row, column in run if (row, column) in chosen)
