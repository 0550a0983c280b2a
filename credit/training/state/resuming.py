"""Resume killed runs from their checkpoints: those trained together resume from their newest common step, and stay together.

A replica's results are reproduced bit for bit only in a batch of the same replicas from the same step. A kill between two of
their checkpoints leaves some runs a step ahead: these return to the newest step at which all have an intact checkpoint.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from credit.core.processes import rank
from credit.training.backends.ranks import shared
from credit.training.run_recorder import RunRecorder
from credit.training.state import checkpoint

States = list[dict[str, Any] | None]


def resume_together(recorders: Sequence[RunRecorder]) -> list[list[RunRecorder]]:
    """Restore runs from their checkpoints, and return the groups that continue in one replica batch, in order of their step.

    Runs without a checkpoint start together; runs trained separately so far join those at the same step.

    Raises:
        UserError: a checkpoint is of another run, or of other data or code.
    """
    waiting = {
        recorder.run.cfg.seed: (recorder, shared(partial(checkpoint.latest, recorder.folder, recorder.screen.warn)))
        for recorder in recorders
    }
    if rank() > 0:  # whose file of metrics is its own
        waiting = {seed: (one, state and {**state, "metrics_size": 0}) for seed, (one, state) in waiting.items()}
    while waiting:
        newest = next(
            (state for _, state in waiting.values() if state is not None and len(state.get("together", ())) > 1), None
        )
        company = set(newest["together"]) if newest is not None else set()
        mates = [seed for seed, (_, state) in waiting.items() if _belongs(seed, state, company)] or list(waiting)
        parts = [waiting.pop(seed) for seed in mates]
        states = _common(parts) if company else [state for _, state in parts]
        for (recorder, _), state in zip(parts, states, strict=True):
            recorder.go_on(state)
    at_step: dict[tuple[int, bool], list[RunRecorder]] = {}  # a run given up before its result was written has ended
    for recorder in recorders:
        at_step.setdefault((recorder.run.step, recorder.run.ended), []).append(recorder)
    return [group for _, group in sorted(at_step.items())]


def _belongs(seed: int, state: dict[str, Any] | None, company: set[int]) -> bool:
    """Return whether a run belongs to a replica batch of the given seeds, by its newest checkpoint or for want of one."""
    own = set(state.get("together", ())) if state is not None else company
    return seed in company and len(own) > 1 and (own <= company or company <= own)


def _common(parts: Sequence[tuple[RunRecorder, dict[str, Any] | None]]) -> States:
    """Return the runs' intact checkpoints at the newest common step; all None if there is no common step.

    Newer checkpoints are deleted; their steps are computed again.
    """
    states = [state for _, state in parts]
    while len({None if state is None else state["step"] for state in states}) > 1:
        least = min((-1 if state is None else state["step"]) for state in states)
        states = [
            state
            if (-1 if state is None else state["step"]) == least
            else checkpoint.latest(recorder.folder, recorder.screen.warn, before=least + 1)
            for (recorder, _), state in zip(parts, states, strict=True)
        ]
    for (recorder, _), state in zip(parts, states, strict=True):
        checkpoint.drop_after(recorder.folder, -1 if state is None else state["step"])
    return states
