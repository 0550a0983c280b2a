"""The provenance of a table's numbers: code, machine, data, times, and the commands that repeat each cell."""

import shlex
from collections.abc import Iterable
from itertools import product
from typing import Any

from credit.core.config import check
from credit.runs.made_from import MADE_FROM, changes
from credit.runs.summary import SHORTEST_PACE
from credit.tables.measures.collect import Collection, Run
from credit.tables.measures.measures import MEASURES, measure
from credit.tables.report.blocks import Block, Code, Fold, Heading, Table, Text
from credit.tables.report.words import NOTHING, measured, number, plural


def times(held: Collection, grid: list[Block]) -> list[Block]:
    """Return the section with all times; empty without a result.

    Args:
        held: the table's runs.
        grid: tables of the spec's measures of time.
    """
    lines, total = [], 0.0
    for cell, runs in held.runs.items():
        if not any(run.result for run in runs):
            continue
        seconds = held.values(cell, "total_seconds").values()
        total += sum(seconds)
        row, column = held.spec.rows[cell[0]].label, held.spec.columns[cell[1]].label
        summaries = [(name, held.summary(cell, name)) for name in ("seconds_per_epoch", "total_seconds")]
        found = [measured(one, MEASURES[name].decimals) if one.n else NOTHING for name, one in summaries]
        lines.append((row, column, *found))
    if not lines:
        return []
    table = Table(("row", "column", "seconds an epoch", "seconds a run"), tuple(lines), "llrr")
    beside = sum(run.number("total_seconds", "last") or 0.0 for run in held.beside())
    more = f", trials and timings {beside / 3600:.2f} more" if beside else ""
    short = Text(f"{NOTHING}: trained for less than {SHORTEST_PACE:g} s, too short to time an epoch.", small=True)
    rest = "" if held.spec.lines == "columns" else " Other times are nowhere on this page."
    says = Text(f"All completed runs together: {total / 3600:.2f} hours of training{more}.{rest}")
    if measure(held.spec.measures[0]).is_time:
        says = Text(f"All completed runs together: {total / 3600:.2f} hours.")
    return [
        Heading("Times"),
        *grid,
        says,
        Fold("seconds of every cell", (table, *[short] * any(line[2] == NOTHING for line in lines))),
    ]


def provenance(held: Collection) -> list[Block]:
    """Return the section with command, commit, versions, machine, data, and the commands that repeat each cell."""
    results = [run.result for run in held.all() if run.result]
    origins = [result["provenance"] for result in results if result.get("provenance")]
    lines = [("command", f"`{held.manifest.command}`")]
    lines.append(("commit", _told(origin.get("commit") for origin in origins)))
    for part in ("versions", "machine"):
        keys = dict.fromkeys(key for origin in origins for key in origin.get(part) or {})
        told = [f"{key} {_told((origin.get(part) or {}).get(key) for origin in origins)}" for key in keys]
        lines.append((part, ", ".join(told) or NOTHING))
    blocks: list[Block] = [Heading("Where it comes from"), Table(("", ""), tuple(lines), "ll")]
    if any(" and " in text for _, text in lines[1:]):
        blocks.append(
            Text("Runs of different code or machines stand in one table; runs.csv says which is which.", small=True)
        )
    blocks.append(Fold("digests of the data", (_digests(held),)))
    blocks.append(Fold("the words that repeat each cell", (Code("\n".join(_commands(held))),)))
    return blocks


def _digests(held: Collection) -> Table:
    lines = []
    for row in held.spec.rows.values():
        runs = [run for cell, found in held.runs.items() if cell[0] == row.name for run in found]
        digests = list(dict.fromkeys(str(d) for run in runs if run.result and (d := run.result.get("data_digest"))))
        if digests:
            rest = len(digests) - 1
            more = f" and {plural(rest, 'other')} (labels or folds drawn anew; see runs.csv)" if rest else ""
            lines.append((row.label, f"`{digests[0]}`{more}"))
    return Table(("row", "SHA-256 of images or features, labels and split"), tuple(lines), "ll")


def _commands(held: Collection) -> Iterable[str]:
    for (row, column), runs in held.runs.items():
        if runs:
            yield f"# {held.spec.rows[row].label}, {held.spec.columns[column].label}"
            yield from _cell_commands(held, runs)


def _cell_commands(held: Collection, runs: list[Run]) -> list[str]:
    """Return one multirun command if the repeats are a full Cartesian product, else a command for each run."""
    job = runs[0].job
    if job.runner != "train":
        return [f"{held.manifest.command}  # {job.runner}: part of the table's own command"]
    if len(runs) == 1:
        return [shlex.join(["credit-train", *job.words])]
    told = [_repeat_words(run) for run in runs]
    values = {key: list(dict.fromkeys(words[key] for words in told)) for key in told[0]}
    found = [tuple(words.values()) for words in told]
    if sorted(found) != sorted(product(*values.values())) or any("," in value for line in found for value in line):
        return [shlex.join(["credit-train", *run.job.words]) for run in runs]
    common = [word for word in job.words if word.partition("=")[0] not in values]
    return [shlex.join(["credit-train", "-m", *common, *(f"{key}={','.join(each)}" for key, each in values.items())])]


def _repeat_words(run: Run) -> dict[str, str]:
    """Return the values of the settings in which a cell's runs differ, as written in the run's words."""
    words = {key: value for key, _, value in (word.partition("=") for word in run.job.words)}
    return {key: words.get(key, str(value)) for key, value in run.job.repeat.items()}


def changed_words(held: Collection) -> list[str]:
    """Return sentences about runs whose data, user's code or package's code have changed since; empty for none."""
    seen: dict[str, Any] = {}
    stale: dict[str, list[str]] = {}
    package: list[str] = []
    over = [run for run in (*held.all(), *held.beside()) if run.result is not None]
    for run in over:
        if not (run.job.path() / MADE_FROM).exists():  # older than such records
            continue
        found = changes(run.job.path(), check(run.job.config), seen)
        for words in found.decisive:
            stale.setdefault(words, []).append(f"{run.job.row}/{run.job.column}")
        package += [run.job.folder] if found.package and not found.decisive else []
    lines = [
        f"Made from something else than is there now ({words}): {', '.join(dict.fromkeys(cells))}. These numbers are yesterday's; "
        "`credit table` with rerun=changed runs them again."
        for words, cells in stale.items()
    ]
    if package:
        lines.append(f"{len(package)} of {plural(len(over), 'run')} made with another version of credit's own code.")
    return lines


def _told(values: Iterable[Any]) -> str:
    """Return the distinct values joined by "and"; a dash without any."""
    told = list(dict.fromkeys(str(value) for value in values if value is not None))
    return " and ".join(told) or NOTHING


def runs_words(held: Collection) -> str:
    """Return the numbers of runs by status as a text: ``12 of 12 runs complete``."""
    status = held.status()
    total = sum(status.values())
    plain = not held.marks()  # with marks, the dagger has another meaning
    odd = [
        f"{count} {name}{' †' * (name == 'diverged' and plain)}" for name, count in status.items() if name != "complete"
    ]
    given_up = sum(bool(run.result and run.result.get("stopped")) for run in held.all())
    odd += [f"{given_up} of the complete ones given up"] if given_up else []
    text = f"{number(status.get('complete', 0), 0)} of {plural(total, 'run')} complete"
    for what, runs in (("trial", held.trials), ("timing", [run for found in held.costs.values() for run in found])):
        over = sum(run.status in ("complete", "diverged") for run in runs)
        odd += [f"{over} of {plural(len(runs), what)} over"] if runs else []
    return text + "".join(f", {word}" for word in odd)
