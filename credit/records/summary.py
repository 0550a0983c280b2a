"""Several runs as one table: the runs that differ in their seed alone become a mean and a spread."""

import statistics
from collections.abc import Iterable
from typing import Any

from credit.records.identity import UNDECIDING, labels

MEASURES = ("best.test_top1", "last.test_top1", "best.val_top1", "last.memorised", "seconds_per_epoch")


def summarise(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a group, in the order the groups appear.

    Args:
        results: contents of `result.json` files.

    Returns:
        Rows with ``group``, ``settings`` (what tells this group from the others, by name), ``runs``, ``seeds``,
        ``status`` (how many runs ended how) and, for each of `MEASURES`, ``{"mean", "std", "n"}``: the sample standard
        deviation, None for one run; None instead of the mapping where no run has the number. Only complete runs count, those
        given up among them: what a diverged run had reached before is no result of its settings.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["group"], []).append(result)
    settings = distinguishing([members[0]["config"] for members in groups.values()])
    return [_row(group, members, told) for (group, members), told in zip(groups.items(), settings, strict=True)]


def distinguishing(configs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return for each configuration the settings that tell it from the others.

    Rule and noise always; arch and data where they differ; any other option where it differs between configurations
    that share rule, arch, data and noise.
    """
    words = [labels(config) for config in configs]
    flat = [_flatten(config) for config in configs]
    shown = [key for key in ("rule", "arch", "data", "noise") if key in ("rule", "noise") or _differ(words, key)]
    extra: list[str] = []
    for word in {tuple(item.values()): item for item in words}.values():
        alike = [item for item, label in zip(flat, words, strict=True) if label == word]
        extra += [key for key in sorted({*alike[0]}) if key not in extra and _differ(alike, key)]
    untold = {f"{group}.{option}" for group, options in UNDECIDING.items() for option in options}
    extra = [key for key in extra if key.split(".")[0] not in ("seed", "logger") and key not in untold]
    return [
        {**{key: label[key] for key in shown}, **{key: str(item.get(key, "")) for key in extra}}
        for label, item in zip(words, flat, strict=True)
    ]


def summary_table(rows: list[dict[str, Any]], title: str = "") -> Any:
    """Return the rows of `summarise` as a `rich.table.Table`; accuracies in per cent."""
    from rich.table import Table  # only where a table is shown

    table = Table(title=title or None, title_justify="left")
    names = list(rows[0]["settings"]) if rows else []
    memorised = any(row["last.memorised"] for row in rows)
    for name in names:
        table.add_column(name)
    headings = ["runs", "test (best by val)", "test (last)", *(["wrong labels learnt"] if memorised else []), "s/epoch"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [row["settings"][name] for name in names]
        cells += [_status(row), _percent(row["best.test_top1"]), _percent(row["last.test_top1"])]
        cells += [_percent(row["last.memorised"])] if memorised else []
        pace = row["seconds_per_epoch"]
        table.add_row(*cells, "-" if pace is None else f"{pace['mean']:.2g}")
    return table


def _row(group: str, members: list[dict[str, Any]], settings: dict[str, str]) -> dict[str, Any]:
    status: dict[str, int] = {}
    for member in members:
        ended = "given up" if member["status"] == "complete" and member.get("stopped") else member["status"]
        status[ended] = status.get(ended, 0) + 1
    row: dict[str, Any] = {"group": group, "settings": settings, "runs": len(members), "status": status}
    row["seeds"] = sorted(member["config"]["seed"] for member in members)
    counted = [member for member in members if member["status"] == "complete"]
    for measure in MEASURES:
        values = [value for member in counted if (value := _look_up(member, measure)) is not None]
        row[measure] = _mean_and_spread(values)
    return row


def _mean_and_spread(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "n": len(values)}


def _look_up(result: dict[str, Any], path: str) -> float | None:
    value: Any = result
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


def _percent(measure: dict[str, Any] | None) -> str:
    if measure is None:
        return "-"
    spread = "" if measure["std"] is None else f" ± {100 * measure['std']:.2f}"
    return f"{100 * measure['mean']:.2f}{spread} %"


def _status(row: dict[str, Any]) -> str:
    odd = [f"{count} {status}" for status, count in row["status"].items() if status != "complete"]
    return str(row["runs"]) + (f" ({', '.join(odd)})" if odd else "")
