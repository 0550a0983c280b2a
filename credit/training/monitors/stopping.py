"""Early stopping: ``trainer.stop_when``."""

from typing import Any

from credit.core.config.schema import TrainerConfig
from credit.tasks.primary import ACCURACY, Primary


def early(
    trainer: TrainerConfig, best: dict[str, Any] | None, row: dict[str, Any], primary: Primary = ACCURACY
) -> dict[str, Any] | None:
    """Return the entry ``stopped`` of result.json for a run that is given up; None for one that continues.

    ``collapsed``: see `collapse`. ``no_gain``: the best validation measure is ``trainer.patience`` epochs old.

    Args:
        trainer: the run's options.
        best: the best evaluation so far, by the primary measure on the validation part.
        row: the present evaluation, with ``epoch``, ``step`` and that measure.
        primary: the measure.
    """
    if trainer.stop_when == "collapsed":
        return collapse(trainer, best, row, primary)
    if trainer.stop_when != "no_gain" or best is None or row["epoch"] - best["epoch"] < trainer.patience:
        return None
    return _stopped("no gain", best, row, primary) | {"best_epoch": best["epoch"]}


def collapse(
    trainer: TrainerConfig, best: dict[str, Any] | None, row: dict[str, Any], primary: Primary = ACCURACY
) -> dict[str, Any] | None:
    """Return the entry ``stopped`` of result.json for a run whose validation accuracy collapsed; None for one that continues.

    The criterion is that of the dual-propagation authors' code (paper 3, Table 3): with ``trainer.stop_when=collapsed`` a run ends
    when, after epoch ``trainer.collapse_after``, validation accuracy is below ``trainer.collapse_share`` times its best.

    Args:
        trainer: the run's options.
        best: the best evaluation so far, by the primary measure on the validation part.
        row: the present evaluation, with ``epoch``, ``step`` and that measure.
        primary: the measure.
    """
    if best is None or row["epoch"] <= trainer.collapse_after:
        return None
    key = f"val_{primary.name}"
    if row[key] >= trainer.collapse_share * best[key]:
        return None
    return _stopped("collapsed", best, row, primary) | {"share": trainer.collapse_share}


def _stopped(why: str, best: dict[str, Any], row: dict[str, Any], primary: Primary) -> dict[str, Any]:
    key = f"val_{primary.name}"
    return {"why": why, "epoch": row["epoch"], "step": row["step"], key: row[key], f"best_{key}": best[key]}
