"""Detect a training loss far above that of uniform predictions: a run whose loss exploded can end with finite numbers."""

from typing import Any

TIMES = 100
"""A loss is large above this factor times that of predictions without information: log(classes) of uniform ones."""


def larger(
    held: dict[str, Any] | None, loss: float, uninformed: tuple[float, str], step: int, epoch: float
) -> dict[str, Any] | None:
    """Return the largest training loss of a run so far, if it is large.

    Args:
        held: the previous return value; None at the beginning.
        loss: a finite training loss.
        uninformed: the loss of predictions without information, and its name (`credit.tasks.base.Task.uninformed`).
        step: the step of the loss, or the last step of a mean loss, counted from 1.
        epoch: number of epochs done.

    Returns:
        ``loss``, ``step``, ``epoch``, the ``limit`` that the loss exceeds and what it is ``of``; None if no loss was large.
    """
    limit, name = TIMES * uninformed[0], uninformed[1]
    if loss <= max(limit, held["loss"] if held else 0.0):
        return held
    return {"loss": loss, "step": step, "epoch": epoch, "limit": limit, "of": name}


def words(found: dict[str, Any]) -> str:
    """Return the warning about a large loss, from the return value of `larger`."""
    return (
        f"the training loss reached {found['loss']:.3g} at step {found['step']}, above {TIMES} {found['of']} = "
        f"{found['limit']:.3g}: "
        "the run exploded for a while, or its inputs or first weights are far too large. Compare with a smaller optimizer.lr"
    )
