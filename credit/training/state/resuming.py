"""Where the runs of a pass go on: those that were trained together from their newest common step, so that they stay together.

Replicas of one pass are bit for bit the same only in the same company from the same step. A kill between two of their
checkpoints leaves some a step ahead: these go back to the newest step of which all have a whole checkpoint.
"""

from collections.abc import Sequence
from typing import Any

from credit.training.run_recorder import RunRecorder
from credit.training.state import checkpoint

States = list[dict[str, Any] | None]


def resume_together(recorders: Sequence[RunRecorder]) -> list[list[RunRecorder]]:
    """Put runs where their checkpoints left them, and return those that go on in one pass, in order of their step.

    Runs without a checkpoint begin together, those trained by themselves so far go on with those at the same step.

    Raises:
        UserError: a checkpoint is of another run, or of other data or code.
    """
    waiting = {
        recorder.run.cfg.seed: (recorder, checkpoint.latest(recorder.folder, recorder.screen.warn))
        for recorder in recorders
    }
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
    at_step: dict[tuple[int, bool], list[RunRecorder]] = {}  # given up before its result was written, one is over
    for recorder in recorders:
        at_step.setdefault((recorder.run.step, recorder.run.ended), []).append(recorder)
    return [group for _, group in sorted(at_step.items())]


def _belongs(seed: int, state: dict[str, Any] | None, company: set[int]) -> bool:
    """Return whether a run was trained in this company, or what was left of it: its newest checkpoint says so, or it has none."""
    own = set(state.get("together", ())) if state is not None else company
    return seed in company and len(own) > 1 and (own <= company or company <= own)


def _common(parts: Sequence[tuple[RunRecorder, dict[str, Any] | None]]) -> States:
    """Return the runs' whole checkpoints of the newest step that all have one of; all None where there is none.

    Newer ones are dropped: their steps are made again.
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
