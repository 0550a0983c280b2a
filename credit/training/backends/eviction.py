"""Parting from single runs of a pass: those that diverged, and those that are given up, while the others go on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from credit.rules.base import Step
from credit.rules.outcome import InferenceDiverged
from credit.runs.outcome import headline
from credit.training.backends.replica_batch import Cohort
from credit.training.monitors.finite import DivergedError, FiniteWatches, Lost
from credit.training.result import result_of

Results = dict[Path, dict[str, Any]]
"""Contents of result.json by the run's folder."""

Ends = dict[int, DivergedError | None]
"""Runs that leave a pass, by place: why, or None for one that is given up by ``trainer.stop_when``, which is no failure."""


@contextlib.contextmanager
def ending(ends: Ends, at: int, step: int) -> Iterator[None]:
    """Note the end of the run at a place whose inference diverges inside the block.

    Args:
        ends: receives it.
        at: the run's place.
        step: the step, counted from 1.
    """
    try:
        yield
    except InferenceDiverged as end:
        ends[at] = DivergedError.of(end, step)


def without(
    cohort: Cohort,
    lost: dict[int, Lost],
    watch: FiniteWatches,
    x: Tensor,
    y: Tensor,
    outcome: Step,
    results: Results,
    ends: Ends | None = None,
) -> tuple[Tensor, Tensor, Step]:
    """Part from the runs that the watch calls lost, by place, and from those whose end is known already.

    Returned are batch (runs, B, ...), labels (runs, B) and outcome of those that go on; the other arguments are as of `parted`.
    """
    gone: Ends = dict(ends or {})
    gone |= {at: end.error(cohort.books[at].run.rule, x[at], y[at]) for at, end in lost.items()}
    if not gone:
        return x, y, outcome
    rest = parted(cohort, gone, x, y, outcome, results)
    watch.keep(len(cohort.books))
    return rest


def parted(
    cohort: Cohort, ends: Ends, x: Tensor, y: Tensor, outcome: Step, results: Results
) -> tuple[Tensor, Tensor, Step]:
    """Take runs that end here out of a pass; return batch, labels and outcome of those that go on.

    Their results are written by `Cohort.write_left`, when the others have checkpoints without them: a pass that is killed goes on
    with the same runs.

    Args:
        cohort: the runs; those that end leave it.
        ends: which and why.
        x, y, outcome: the last step's, with the runs along the first dimension.
        results: receives the results.
    """
    for at, end in ends.items():
        book = cohort.books[at]
        told = {} if end is None else {"diverged": end.told()}
        results[book.folder] = result_of(book.run, "complete" if end is None else "diverged", **told)
        cohort.left.append((book.folder, results[book.folder]))
        book.screen.line(f"{headline(results[book.folder])}  {book.folder}")
    stay = [at for at in range(len(cohort.books)) if at not in ends]
    cohort.keep(stay)
    return x[stay], y[stay], outcome.part(stay)
