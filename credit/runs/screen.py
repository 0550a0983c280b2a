"""Show a run's progress in the terminal: a progress bar with the time left, or plain lines without a terminal."""

import sys
import time
from types import TracebackType
from typing import Any

from credit.tasks.primary import ACCURACY, Primary

_REFRESH = 0.1  # seconds between redraws of the bar


class Screen:
    """The terminal output of one run. Lines go to standard output, warnings to standard error.

    Args:
        total: number of steps of the whole run.
        show: False suppresses all output but warnings (for jobs of a sweep).
        bar: draw a progress bar if standard output is a terminal.
        primary: the measure that evaluations are printed with.
    """

    def __init__(self, total: int, *, show: bool = True, bar: bool = True, primary: Primary = ACCURACY) -> None:
        self.primary = primary
        self._total, self._show = total, show
        self._started, self._first, self._step, self._drawn = time.perf_counter(), 0, 0, 0.0
        self._bar: Any = None
        if show and bar and sys.stdout.isatty():
            self._bar = _bar(total)
            self._bar.start()

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def begin(self, step: int) -> None:
        """Set the step that this process starts at, so that the time left is computed from the steps of this process."""
        self._started, self._first, self._step = time.perf_counter(), step, step
        if self._bar is not None:
            self._bar.reset(0, total=self._total, completed=step)

    def step(self, step: int) -> None:
        """Set the number of steps done. The bar is redrawn at most every 0.1 s, so that a call at every step is cheap."""
        self._step = step
        if self._bar is not None:
            now = time.perf_counter()
            if now - self._drawn >= _REFRESH:
                self._drawn = now
                self._bar.update(0, completed=step, left=_duration(self._left()))
                self._bar.refresh()

    def line(self, text: str) -> None:
        """Print one line, unless the screen is silent."""
        if not self._show:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print one warning, also on a silent screen."""
        if self._bar is not None:
            self._bar.console.print(f"warning: {text}", markup=False, highlight=False, style="yellow")
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def evaluated(self, row: dict[str, Any], epochs: float, whose: str = "") -> None:
        """Print the losses and accuracies of an evaluation in one line.

        Args:
            row: a row of `metrics.jsonl`, or the mean of several runs' rows.
            epochs: number of epochs of the run.
            whose: label of the runs, printed behind the epoch; empty for one run.
        """
        parts = [f"epoch {row['epoch']:g}/{epochs:g}", *([whose] if whose else [])]
        parts += [f"loss {row['train_loss']:.4g}" if row.get("train_loss") is not None else "loss -"]
        for split in ("train", "val", "test"):
            value = row.get(f"{split}_{self.primary.name}")
            if value is not None and (split, self.primary.name) != ("train", "loss"):
                parts.append(f"{split} {self.primary.text(value)}")
        if row.get("memorized") is not None:
            parts.append(f"wrong labels memorized {row['memorized']:.2%}")
        if self._bar is None and self._step < self._total:
            parts.append(f"{_duration(self._left())} left")
        self.line("  ".join(parts))

    def _left(self) -> float:
        done = self._step - self._first
        return (time.perf_counter() - self._started) / max(done, 1) * (self._total - self._step)


def _bar(total: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # only where a bar is drawn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps  {task.fields[left]} left"))
    # No refresh thread, which would compete with the training for the interpreter lock.
    bar = Progress(*columns, auto_refresh=False)
    bar.add_task("train", total=total, left="?")
    return bar


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
