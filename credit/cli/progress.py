"""A sweep on the screen while it runs: a live table on a terminal, one line a finished job elsewhere."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from credit.records import read_metrics
from credit.records.launcher import Outcome

FINISHED_SHOWN = 8  # a long sweep stays on one screen
REFRESH = 0.5  # seconds


class SweepProgress:
    """Shows what `credit.records.launcher.run_jobs` tells it; a context manager.

    Args:
        jobs: title and run folder of each job that will run, in order.
        skipped: how many finished jobs are not run again; None where that was said already.
    """

    def __init__(self, jobs: list[tuple[str, Path]], skipped: int | None) -> None:
        self._jobs = jobs
        self._skipped = skipped
        self._running: dict[int, float] = {}
        self._finished: dict[int, Outcome] = {}
        self._drawn = 0.0
        self._live: Any = None

    def __enter__(self) -> "SweepProgress":
        if self._skipped is not None:
            skipped = f", {self._skipped} already complete" if self._skipped else ""
            jobs = "1 job" if len(self._jobs) == 1 else f"{len(self._jobs)} jobs"
            print(f"{jobs} to run{skipped}", flush=True)
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self._table(), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, event: str, index: int, outcome: Outcome | None) -> None:
        """Take one event of the launcher."""
        if event == "started":
            self._running[index] = time.perf_counter()
        elif event == "finished" and outcome is not None:
            self._running.pop(index)
            self._finished[index] = outcome
            if self._live is None:
                title = self._jobs[index][0]
                print(f"[{len(self._finished)}/{len(self._jobs)}] {title}: {_ended(outcome)}", flush=True)
        now = time.perf_counter()
        if self._live is not None and (event == "finished" or now - self._drawn >= REFRESH):
            self._drawn = now
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(title=f"{len(self._finished)} of {len(self._jobs)} jobs done", title_justify="left")
        for heading in ("job", "state"):
            table.add_column(heading)
        for index in list(self._finished)[-FINISHED_SHOWN:]:
            outcome = self._finished[index]
            table.add_row(self._jobs[index][0], _ended(outcome), style="red" if outcome.error else "")
        for index, started in self._running.items():
            table.add_row(self._jobs[index][0], self._state(index, time.perf_counter() - started), style="bold")
        left = len(self._jobs) - len(self._finished) - len(self._running)
        if left:
            table.add_row(f"{left} more", "waiting", style="dim")
        return table

    def _state(self, index: int, seconds: float) -> str:
        """Return where a running job stands, from its metrics file: the last line, and the last accuracy."""
        rows = read_metrics(self._jobs[index][1])
        if not rows:
            return f"running, {seconds:.0f} s"
        accuracy = next((row["test_top1"] for row in reversed(rows) if row.get("test_top1") is not None), None)
        return f"epoch {rows[-1].get('epoch', 0):g}, test {_percent(accuracy)}, {seconds:.0f} s"


def _ended(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"failed: {outcome.error.splitlines()[0]}"
    best = outcome.value.get("best") or outcome.value.get("last") or {}
    return f"{outcome.value['status']}, test {_percent(best.get('test_top1'))}, {outcome.seconds:.1f} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
