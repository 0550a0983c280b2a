"""Detect a training loss far above that of uniform predictions: a run whose loss exploded can end with finite numbers."""

import math
from typing import Any

TIMES = 100
"""A loss is large above this factor times log(classes), the cross-entropy of uniform predictions."""


def larger(held: dict[str, Any] | None, loss: float, classes: int, step: int, epoch: float) -> dict[str, Any] | None:
    """Return the largest training loss of a run so far, if it is large.

    Args:
        held: the previous return value; None at the beginning.
        loss: a finite training loss.
        classes: number of classes.
        step: the step of the loss, or the last step of a mean loss, counted from 1.
        epoch: number of epochs done.

    Returns:
        ``loss``, ``step``, ``epoch`` and the ``limit`` that the loss exceeds; None if no loss was large.
    """
    limit = TIMES * math.log(classes)
    if loss <= max(limit, held["loss"] if held else 0.0):
        return held
    return {"loss": loss, "step": step, "epoch": epoch, "limit": limit}


def words(found: dict[str, Any]) -> str:
    """Return the warning about a large loss, from the return value of `larger`."""
    return (
        f"the training loss reached {found['loss']:.3g} at step {found['step']}, above {TIMES} log(classes) = "
        f"{found['limit']:.3g}: "
        "the run exploded for a while, or its inputs or first weights are far too large. Compare with a smaller optimizer.lr"
    )
