"""Summarize runs in a table: the mean and standard deviation over runs that differ only in their seed."""

import statistics
from collections.abc import Iterable
from typing import Any

from credit.runs.identity import labels, undeciding
from credit.runs.selection import Selection, select, task_of
from credit.tasks.primary import ACCURACY, Primary, primary_of

MEASURES = ("best.val", "best.test", "last.test", "last.memorized", "seconds_per_epoch")
"""The numbers of a row, as dotted keys of ``result.json``; ``val`` and ``test`` stand for the task's primary measure there."""

SHORTEST_PACE = 1.0
"""Seconds of training below which the time of an epoch is mostly start-up and noise, and is not reported."""


def summarise(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each group of runs that differ only in their seed, in the order of appearance.

    Args:
        results: contents of `result.json` files.

    Returns:
        Rows with ``group``, ``settings`` (texts of the options that differ between the groups, by name), ``options`` (those of
        them that are numbers), ``primary`` (the primary measure of the task),
        ``task`` (a text that is equal for rows with the same labels and splits), ``runs``, ``seeds``,
        ``status`` (the number of runs by how they ended) and, for each of `MEASURES`, ``{"mean", "std", "n"}`` or None where no
        run has the number. ``std`` is the sample standard deviation, None for one run. Only complete runs count, those given up
        among them; the accuracy of a diverged run before it diverged does not.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["group"], []).append(result)
    settings = distinguishing([members[0]["config"] for members in groups.values()])
    return [_row(group, members, told) for (group, members), told in zip(groups.items(), settings, strict=True)]


def seconds_per_epoch(result: dict[str, Any]) -> float | None:
    """Return the seconds per epoch of a result; None if the run trained for less than `SHORTEST_PACE` in all."""
    return None if (result.get("seconds") or 0.0) < SHORTEST_PACE else result.get("seconds_per_epoch")


def distinguishing(configs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return for each configuration the settings in which it differs from the others.

    Rule and noise are always included, arch and data where they differ, and any other option where it differs between
    configurations that share rule, arch, data and noise.
    """
    words = [labels(config) for config in configs]
    flat = [_flatten(config) for config in configs]
    shown = [key for key in ("rule", "arch", "data", "noise") if key in ("rule", "noise") or _differ(words, key)]
    extra: list[str] = []
    for word in {tuple(item.values()): item for item in words}.values():
        alike = [item for item, label in zip(flat, words, strict=True) if label == word]
        extra += [key for key in sorted({*alike[0]}) if key not in extra and _differ(alike, key)]
    untold = {option for config in configs for option in undeciding(config)}
    extra = [
        key for key in extra if key.split(".")[0] not in ("seed", "logger", "rerun", "resume") and key not in untold
    ]
    return [
        {**{key: label[key] for key in shown}, **{key: _text(item.get(key, "")) for key in extra}}
        for label, item in zip(words, flat, strict=True)
    ]


def summary_table(rows: list[dict[str, Any]], title: str = "", width: int | None = None) -> tuple[Any, list[str]]:
    """Return the rows of `summarise` as a `rich.table.Table` with accuracies in per cent, and the lines to print below the table.

    The best row of each task by its measure on the validation part is marked with `credit.runs.selection.MARK`.

    Args:
        rows: rows of `summarise`.
        title: title above the table.
        width: number of characters in a line. Of a wider table the least important columns are left out, and a line below names
            them. None shows all columns.
    """
    selection = select(rows)
    names = list(rows[0]["settings"]) if rows else []
    shown = [heading for heading, (_, measure, _) in _COLUMNS.items() if _worth_a_column(rows, measure)]
    constant = [name for name in names if len(rows) > 1 and len({row["settings"][name] for row in rows}) == 1]
    spare = [*(heading for heading in _LEAST_FIRST if heading in shown), *constant]
    if "test at best val" not in shown:
        spare.remove("test (last)")
    left_out: list[str] = []
    table = _table(rows, title, names, shown, selection)
    while width is not None and spare and _natural_width(table) > width:
        left_out.append(spare.pop(0))
        kept, numbers = ([one for one in some if one not in left_out] for some in (names, shown))
        table = _table(rows, title, kept, numbers, selection)
    return table, [*_alike(rows, left_out, constant), *selection.lines]


_COLUMNS = {
    "val (best)": ("val\n(best)", "best.val", 2),
    "test at best val": ("test at\nbest val", "best.test", 2),
    "test (last)": ("test\n(last)", "last.test", 2),
    "wrong labels memorized": ("wrong labels\nmemorized", "last.memorized", 2),
    "s/epoch": ("s/epoch", "seconds_per_epoch", 0),
}
"""Columns of numbers by name: heading, measure, decimals of a percentage (0 for a number with two significant digits)."""

_UNBROKEN = 14
"""Characters of an option's value that stay on one line, however narrow the table is."""

_LEAST_FIRST = ("s/epoch", "test (last)", "wrong labels memorized")
"""The columns of numbers that a narrow table leaves out, in this order."""


def _worth_a_column(rows: list[dict[str, Any]], measure: str) -> bool:
    """Return whether a measure has a column: the last test accuracy always, any other measure if a row has it."""
    return measure == "last.test" or any(row[measure] for row in rows)


def _table(rows: list[dict[str, Any]], title: str, names: list[str], shown: list[str], selection: Selection) -> Any:
    from rich.markup import escape  # only where a table is shown
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for name in names:  # a value is broken only where it is long
        longest = max(len(row["settings"][name]) for row in rows)
        table.add_column(name.replace(".", ".\n"), overflow="fold", min_width=min(longest, _UNBROKEN))
    table.add_column("runs", justify="right", overflow="fold")
    for heading in shown:
        table.add_column(_COLUMNS[heading][0], justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        cells = [escape(row["settings"][name]) for name in names] + [_status(row)]  # a [value] is no markup
        for heading in shown:
            _, measure, decimals = _COLUMNS[heading]
            primary = ACCURACY if measure == "last.memorized" else row["primary"]
            text = _with_spread(row[measure], primary, decimals) if decimals else _pace(row[measure])
            cells.append(text + selection.mark(index) * (measure == "best.val"))
        table.add_row(*cells, style="bold" if selection.mark(index).strip() else None)
    return table


def _natural_width(table: Any) -> int:
    """Return the number of characters in a line of the table if no cell is broken."""
    from rich.console import Console

    console = Console()
    return int(console.measure(table, options=console.options.update(width=10_000)).maximum)


def _alike(rows: list[dict[str, Any]], left_out: list[str], constant: list[str]) -> list[str]:
    """Return lines about the columns that a narrow table leaves out."""
    same = [f"{name}={rows[0]['settings'][name]}" for name in left_out if name in constant]
    numbers = [name for name in left_out if name not in constant]
    lines = [f"All rows: {', '.join(same)}."] if same else []
    return lines + ([f"Too narrow for the columns {', '.join(numbers)}."] if numbers else [])


def _row(group: str, members: list[dict[str, Any]], settings: dict[str, str]) -> dict[str, Any]:
    status: dict[str, int] = {}
    for member in members:
        ended = "given up" if member["status"] == "complete" and member.get("stopped") else member["status"]
        status[ended] = status.get(ended, 0) + 1
    flat = _flatten(members[0]["config"])
    row: dict[str, Any] = {"group": group, "settings": settings, "runs": len(members), "status": status}
    row["options"] = {key: flat[key] for key in settings if _is_number(flat.get(key))}
    row["task"], row["primary"] = task_of(flat), primary_of(members[0])
    row["seeds"] = sorted(member["config"]["seed"] for member in members)
    counted = [member for member in members if member["status"] == "complete"]
    for measure in MEASURES:
        values = [value for member in counted if (value := _look_up(member, measure)) is not None]
        row[measure] = _mean_and_spread(values)
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean_and_spread(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "n": len(values)}


def _look_up(result: dict[str, Any], path: str) -> float | None:
    """Return the number at a dotted path of a result; those of the best epoch only if validation chose the epoch."""
    if path == "seconds_per_epoch":
        return seconds_per_epoch(result)
    if path.startswith("best.") and result.get("selected_by") == "last":
        return None
    value: Any = result
    if path.endswith((".val", ".test")):
        path += f"_{primary_of(result).name}"
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _differ(items: list[dict[str, Any]], key: str) -> bool:
    return any(item.get(key) != items[0].get(key) for item in items)


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item})
    return flat


def _text(value: Any) -> str:
    """Return an option's value as written on the command line: ``1`` for the rate 1.0."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _with_spread(measure: dict[str, Any] | None, primary: Primary, decimals: int) -> str:
    if measure is None:
        return "-"
    if not primary.share:
        return primary.text(measure["mean"]) + ("" if measure["std"] is None else f" ± {measure['std']:.2g}")
    spread = "" if measure["std"] is None else f" ± {100 * measure['std']:.{decimals}f}"
    return f"{100 * measure['mean']:.{decimals}f}{spread} %"


def _pace(measure: dict[str, Any] | None) -> str:
    return "-" if measure is None else f"{measure['mean']:.2g}"


def _status(row: dict[str, Any]) -> str:
    odd = [f"{count} {status}" for status, count in row["status"].items() if status != "complete"]
    return str(row["runs"]) + (f" ({', '.join(odd)})" if odd else "")
