"""The summary of a table with `lines: columns`: a line for each column with its measures, and reasons for missing cells."""

from collections.abc import Iterable

from credit.tables.expand.tuning import at_edge, keys_of, words_of
from credit.tables.measures.collect import Cell, Collection
from credit.tables.measures.marks import DAGGER
from credit.tables.measures.measures import measure
from credit.tables.measures.twins import label
from credit.tables.report.blocks import Block, Fold, Heading, Table, Text
from credit.tables.report.words import NOTHING, capital, measured, number

EDGE = "°"
"""The mark of a chosen candidate at the edge of those tried."""


def summary(held: Collection) -> list[Block]:
    """Return the table of all columns: the main measure by row, and of each other measure the rows' means in one entry."""
    spec = held.spec
    main, *others = spec.measures
    others = [name for name in others if held.has(name)]
    rows = held.rows_run()
    best = {row: held.best(row, main) for row in rows}
    families = any(column.family for column in spec.columns.values())
    lines = []
    for column in held.columns_run():
        entries = [measured_in(held, (row, column), main, (row, column) in best[row]) for row in rows]
        line = [spec.columns[column].label, *([spec.columns[column].family] if families else []), *entries]
        lines.append((*line, *(_each_row(held, column, name, rows) for name in others)))
    labels = [spec.rows[row].label for row in rows]
    head = ("", *(["family"] if families else []), *labels, *(_head(held, name) for name in others))
    align = "l" * (1 + families) + "r" * (len(rows) + len(others))
    return [Text(_says(held, main, others, rows)), Table(head, tuple(lines), align), *_notes(held, others)]


def _why_not(held: Collection, row: str, name: str) -> str:
    """Return the reason why a column has no cell in a row; empty if it has one, or without a reason."""
    column = held.spec.columns[name]
    if column.rows and row not in column.rows:
        return column.why
    return held.spec.budgets[held.manifest.budget].why_without((row, name))


def measured_in(held: Collection, cell: Cell, name: str, best: bool) -> str:
    """Return a measure of a cell as a text: bold if it is the best, with the cell that has the same runs, if any."""
    if not held.runs.get(cell):
        return NOTHING
    text, twin = measured(held.summary(cell, name), measure(name).decimals), held.twin(cell, name)
    return (f"**{text}**" if best else text) + (f"\n= {label(held, twin, cell)}" if twin else "")


def _rows_with(held: Collection, name: str, rows: Iterable[str]) -> list[str]:
    """Return the rows in which a column has a measure, without those whose `base` is among them."""
    found = [row for row in rows if any(held.values(cell, name) for cell in held.runs if cell[0] == row)]
    return [row for row in found if held.spec.rows[row].base not in found]


def _each_row(held: Collection, column: str, name: str, rows: Iterable[str]) -> str:
    """Return a measure's means at all rows in one entry: ``1.02 / 1.10 / 0.98``."""
    means = [held.summary((row, column), name).mean for row in _rows_with(held, name, rows)]
    if all(mean is None for mean in means):
        return NOTHING
    decimals = min(measure(name).decimals, 2 if measure(name).unit == "x" else 0 if measure(name).unit == "%" else 1)
    return " / ".join(_short(mean, decimals) for mean in means)


def _short(mean: float | None, decimals: int) -> str:
    """Return a number with a typographic minus sign, and without a sign if it rounds to zero."""
    text = number(mean, decimals)
    return text.removeprefix("-") if text.startswith("-") and not text.strip("-0.") else text.replace("-", "−")


def _head(held: Collection, name: str) -> str:
    kind, costs = measure(name), held.spec.costs
    label = kind.label.split(" (")[0]
    if kind.timed and costs is not None:
        label = label.replace("the reference's", f"{held.spec.columns[costs.against].label}'s")
    return f"{label}, {kind.unit}" if kind.unit else label


def _says(held: Collection, main: str, others: list[str], rows: list[str]) -> str:
    spec = held.spec
    label = _head(held, main)
    text = f"{capital(label)}: mean ± sample standard deviation over repeats, the best of each condition in bold."
    found: dict[str, list[str]] = {}
    for name in others:
        told = [spec.rows[row].label for row in _rows_with(held, name, rows)]
        if len(told) > 1:
            found.setdefault(" / ".join(told), []).append(_head(held, name).split(",")[0])
    parts = [f"{conditions} ({', '.join(names)})" for conditions, names in found.items()]
    return text + (f" Entries of several numbers are means for {'; for '.join(parts)}." if parts else "")


def _notes(held: Collection, others: list[str]) -> list[Block]:
    notes: list[Block] = []
    if noted := [f"{_head(held, name).split(',')[0]}: {measure(name).note}" for name in others if measure(name).note]:
        notes.append(Text("; ".join(noted) + ".", small=True))
    lacking: dict[tuple[str, str], list[str]] = {}
    for name in held.columns_run():
        told: dict[str, list[str]] = {}
        for row in held.rows_run():
            if why := _why_not(held, row, name):
                told.setdefault(why, []).append(held.spec.rows[row].label)
        for why, labels in told.items():
            lacking.setdefault((", ".join(labels), why), []).append(held.spec.columns[name].label)
    if lacking:
        lines = tuple((" and ".join(names), without, why) for (without, why), names in lacking.items())
        notes.append(Table(("not run", "on", "because"), lines, "lll"))
    return notes


def tuned(held: Collection) -> list[Block]:
    """Return the section about tuning: each cell's candidates and its choice; empty if the budget tunes nothing."""
    spec = held.spec
    tune = spec.budgets[held.manifest.budget].tune
    own = {(choice.row, choice.column): choice for choice in held.manifest.choices if choice.of == choice.row}
    if tune is None or not held.manifest.choices:
        return []
    names = words_of(tune)
    run = held.rows_run()
    like = "".join(
        f" {spec.rows[row].label} takes the choice of {spec.rows[of].label}."
        for row, of in tune.like.items()
        if row in run
    )
    trials = f", with {', '.join(f'`{word}`' for word in tune.trials.words)}" if tune.trials.words else ""
    says = f"Every cell tries the same {len(names)} candidates of {keys_of(tune)}: {'; '.join(names)}. {tune.seeds} "
    says += f"run{'s' * (tune.seeds != 1)} each, of seeds of their own{trials}; the best on validation images gives the cell's "
    says += f"seeds their settings, test images choose nothing.{like}"
    rows, columns = list(dict.fromkeys(row for row, _ in own)), list(dict.fromkeys(column for _, column in own))
    share = measure(spec.measures[0]).unit == "%"
    decimals, what = (1, "accuracies of all candidates in %") if share else (3, "numbers of all candidates")
    lines = []
    for column in columns:
        entries = []
        for row in rows:
            choice = own.get((row, column))
            if choice is None:
                entries.append("")
                continue
            none = {tune.seeds: DAGGER}  # all trials over, without a value
            each = zip(choice.accuracies, choice.ended, strict=True)
            tried = ", ".join(
                none.get(over, NOTHING) if value is None else f"{value:.{decimals}f}" for value, over in each
            )
            if choice.chosen < 0:
                entries.append(f"not yet\n({tried})")
            else:
                entries.append(f"{names[choice.chosen]}{EDGE * at_edge(tune, choice.chosen)}\n({tried})")
        lines.append((spec.columns[column].label, *entries))
    head = ("", *(spec.rows[row].label for row in rows))
    edges = sum(choice.chosen >= 0 and at_edge(tune, choice.chosen) for choice in own.values())
    legend = f"Behind each choice the validation {what}, in their order; {DAGGER} diverged."
    if edges:
        says += f" {edges} of {len(own)} choices, marked {EDGE}, have the smallest or largest of three or more values: a value "
        says += "beyond may be better."
    return [
        Heading("What was tuned"),
        Text(says),
        Fold("every choice", (Table(head, tuple(lines), "l" * len(head)), Text(legend, small=True))),
    ]
