"""Show a running sweep: a live table on a terminal, one line for each finished job elsewhere."""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from credit.runs import read_metrics
from credit.sweeps.processes import Outcome
from credit.tasks.primary import ACCURACY, Primary, primary_of

FINISHED_SHOWN = 8  # a long sweep stays on one screen
REFRESH = 0.5  # seconds


class SweepProgress:
    """The screen of a sweep: a context manager whose `watch` is a callback of `credit.sweeps.processes.run_jobs`.

    Args:
        units: title and run folders of each unit, in order.
        skipped: number of finished jobs that are not run again; None prints nothing.
        notes: lines to print before the first job.
    """

    def __init__(self, units: Sequence[tuple[str, list[Path]]], skipped: int | None, notes: Sequence[str] = ()) -> None:
        self._units, self._notes = units, notes
        self._total = sum(len(folders) for _, folders in units)
        self._skipped = skipped
        self._running: dict[int, float] = {}
        self._finished: dict[int, Outcome] = {}
        self._drawn = 0.0
        self._live: Any = None

    def __enter__(self) -> "SweepProgress":
        if self._skipped is not None:
            skipped = f", {self._skipped} already complete" if self._skipped else ""
            jobs = "1 job" if self._total == 1 else f"{self._total} jobs"
            print(f"{jobs} to run{skipped}", flush=True)
        for note in self._notes:
            print(note, flush=True)
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self._table(), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, event: str, index: int, outcome: Outcome | None) -> None:
        """Update the screen at an event of `credit.sweeps.processes.Watch`."""
        if event == "started":
            self._running[index] = time.perf_counter()
        elif event == "finished" and outcome is not None:
            self._running.pop(index)
            self._finished[index] = outcome
            if self._live is None:
                print(
                    f"[{self._count(self._finished)}/{self._total}] {self._title(index)}: {_ended(outcome)}", flush=True
                )
        now = time.perf_counter()
        if self._live is not None and (event == "finished" or now - self._drawn >= REFRESH):
            self._drawn = now
            self._live.update(self._table(), refresh=True)

    def _title(self, index: int) -> str:
        return self._units[index][0]

    def _count(self, units: Iterable[int]) -> int:
        """Return the number of jobs in the units with the given indices."""
        return sum(len(self._units[index][1]) for index in units)

    def _table(self) -> Any:
        from rich.table import Table

        done = self._count(self._finished)
        table = Table(title=f"{done} of {self._total} jobs done", title_justify="left")
        for heading in ("job", "state"):
            table.add_column(heading)
        for index in list(self._finished)[-FINISHED_SHOWN:]:
            outcome = self._finished[index]
            table.add_row(self._title(index), _ended(outcome), style="red" if outcome.error else "")
        for index, started in self._running.items():
            table.add_row(self._title(index), self._state(index, time.perf_counter() - started), style="bold")
        left = self._total - done - self._count(self._running)
        if left:
            table.add_row(f"{left} more", "waiting", style="dim")
        return table

    def _state(self, index: int, seconds: float) -> str:
        """Return the progress of a unit, from the metrics file of its first run: the last epoch and the last test accuracy."""
        rows = read_metrics(self._units[index][1][0])
        if not rows:
            return f"running, {seconds:.0f} s"
        last: dict[str, Any] = next((row for row in reversed(rows) if row.get("test_loss") is not None), {})
        shown = ACCURACY if "test_top1" in last or not last else Primary("loss", "loss", share=False)
        return (
            f"epoch {rows[-1].get('epoch', 0):g}, test {_short(shown, last.get(f'test_{shown.name}'))}, {seconds:.0f} s"
        )


def _ended(outcome: Outcome) -> str:
    """Return the end of a unit as a text: one run's status and accuracy, or several runs' counts of statuses and mean accuracy."""
    if outcome.error is not None:
        return f"failed: {outcome.error.splitlines()[0]}"
    seconds = f"{outcome.seconds:.1f} s"
    if len(outcome.value) == 1:
        [(result, error)] = outcome.value
        failed = "" if error is None else f"failed: {error.splitlines()[0]}"
        return failed or f"{result['status']}, test {_short(primary_of(result), _on_test(result))}, {seconds}"
    states = Counter("failed" if result is None else result["status"] for result, _ in outcome.value)
    complete = [result for result, _ in outcome.value if result and result["status"] == "complete"]
    known = [value for result in complete if (value := _on_test(result)) is not None]
    primary = primary_of(complete[0]) if complete else ACCURACY
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{told}, test {_short(primary, statistics.fmean(known) if known else None)} (mean), {seconds} together"


def _on_test(result: dict[str, Any]) -> float | None:
    value: float | None = (result.get("best") or result.get("last") or {}).get(f"test_{primary_of(result).name}")
    return value


def _short(primary: Primary, value: float | None) -> str:
    if primary.share:
        return "-" if value is None else f"{100 * value:.1f} %"
    return primary.text(value)
