"""Noticing a training loss far above that of a network that knows nothing: a run that exploded can end with finite numbers."""

import math
from typing import Any

TIMES = 100
"""The loss is large from so many times log(classes) on, the cross-entropy of equal probabilities for all classes."""


def larger(held: dict[str, Any] | None, loss: float, classes: int, step: int, epoch: float) -> dict[str, Any] | None:
    """Return the largest training loss of a run so far, where it is a large one.

    Args:
        held: what was returned before; None at the beginning.
        loss: a training loss, finite.
        classes: how many classes there are.
        step: the step whose loss it is, or the last one of those whose mean it is, counted from 1.
        epoch: epochs done.

    Returns:
        ``loss``, ``step``, ``epoch`` and the ``limit`` that it exceeds; None where no loss was large.
    """
    limit = TIMES * math.log(classes)
    if loss <= max(limit, held["loss"] if held else 0.0):
        return held
    return {"loss": loss, "step": step, "epoch": epoch, "limit": limit}


def words(found: dict[str, Any]) -> str:
    """Return what a user reads of what `larger` returned."""
    return (
        f"the training loss reached {found['loss']:.3g} at step {found['step']}, above {TIMES} log(classes) = "
        f"{found['limit']:.3g}: "
        "the run exploded for a while, or its inputs or first weights are far too large. Compare with a smaller optimizer.lr"
    )
