"""Write a report's numbers as CSV: report.csv (a line for each cell and measure) and runs.csv (a line for each run).

Columns of times end in ``_seconds``, so that two reports of the same runs can be compared without them.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from credit.tables.measures.collect import STATUSES, Cell, Collection, Run
from credit.tables.measures.measures import measure

REPORT, RUNS = "report.csv", "runs.csv"
_TIMES = {"epoch_seconds": "seconds_per_epoch", "run_seconds": "total_seconds"}


def report_csv(held: Collection) -> str:
    """Return the text of report.csv: a line for each cell and measure, published and measured."""
    names, timed = _names(held)
    lines = [_cell_line(held, cell, name, timed) for cell in held.runs for name in names]
    return _text([line for line in lines if line])


def runs_csv(held: Collection) -> str:
    """Return the text of runs.csv: a line for each run, with all measures."""
    return _text([_run_line(held, run) for run in held.all()])


def _names(held: Collection) -> tuple[list[str], list[str]]:
    """Return the measures with lines of their own, and the times with columns; in a table of times all have lines."""
    names = list(held.spec.measures)
    if measure(names[0]).is_time:
        return names, []
    return [name for name in names if not measure(name).is_time], [name for name in names if measure(name).is_time]


def _cell_line(held: Collection, cell: Cell, name: str, timed: list[str]) -> dict[str, Any]:
    published = held.spec.published_in(name).get(cell)
    if not held.runs[cell] and published is None:
        return {}
    summary = held.summary(cell, name)
    honest = held.honest(cell) if name == "accuracy" else None
    ended = Counter(run.status for run in held.runs[cell])
    line = {
        "row": cell[0],
        "column": cell[1],
        "measure": name,
        "unit": measure(name).unit,
        "published_mean": published.mean if published else None,
        "published_std": published.std if published else None,
        "published_n": published.n if published else None,
        "measured_mean": summary.mean,
        "measured_std": summary.std,
        "measured_n": summary.n,
        "difference": held.difference(cell, name),
        "honest_mean": honest.mean if honest else None,
        "honest_std": honest.std if honest else None,
        **{status: ended[status] for status in STATUSES},
    }
    if held.twins:
        line["identical_to"] = "/".join(held.twins.get(cell, ()))
    if held.marks():
        line |= {"mark": summary.mark, "published_mark": published.mark if published else ""}
    line |= {f"{of}_seconds": held.summary(cell, of).mean for of in timed}
    return line | {column: held.summary(cell, of).mean for column, of in _TIMES.items()}


def _run_line(held: Collection, run: Run) -> dict[str, Any]:
    mode, job = held.spec.accuracy, run.job
    result = run.result or {}
    origin = result.get("provenance") or {}
    names, timed = _names(held)
    return {
        "row": job.row,
        "column": job.column,
        **job.repeat,
        "status": run.status,
        **({"mark": run.mark} if held.marks() else {}),
        **{name: run.number(name, mode) for name in names},
        "folder": job.folder,
        "data_digest": result.get("data_digest"),
        "commit": origin.get("commit"),
        "device": (origin.get("machine") or {}).get("device"),
        **{f"{name}_seconds": run.number(name, mode) for name in timed},
        **{column: run.number(of, mode) for column, of in _TIMES.items()},
    }


def _text(lines: Iterable[dict[str, Any]]) -> str:
    held = list(lines)
    columns = list(dict.fromkeys(key for line in held for key in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in line.items()} for line in held)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value) if isinstance(value, dict | list) else value
