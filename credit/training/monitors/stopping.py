"""Early stopping: ``trainer.stop_when``."""

from typing import Any

from credit.core.config.schema import TrainerConfig


def early(trainer: TrainerConfig, best: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry ``stopped`` of result.json for a run that is given up; None for one that continues.

    ``collapsed``: see `collapse`. ``no_gain``: the best validation accuracy is ``trainer.patience`` epochs old.

    Args:
        trainer: the run's options.
        best: the best evaluation by validation accuracy so far.
        row: the present evaluation, with ``epoch``, ``step`` and ``val_top1``.
    """
    if trainer.stop_when == "collapsed":
        return collapse(trainer, best, row)
    if trainer.stop_when != "no_gain" or best is None or row["epoch"] - best["epoch"] < trainer.patience:
        return None
    told = {"why": "no gain", "epoch": row["epoch"], "step": row["step"], "val_top1": row["val_top1"]}
    return told | {"best_val_top1": best["val_top1"], "best_epoch": best["epoch"]}


def collapse(trainer: TrainerConfig, best: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry ``stopped`` of result.json for a run whose validation accuracy collapsed; None for one that continues.

    The criterion is that of the dual-propagation authors' code (paper 3, Table 3): with ``trainer.stop_when=collapsed`` a run ends
    when, after epoch ``trainer.collapse_after``, validation accuracy is below ``trainer.collapse_share`` times its best.

    Args:
        trainer: the run's options.
        best: the best evaluation by validation accuracy so far.
        row: the present evaluation, with ``epoch``, ``step`` and ``val_top1``.
    """
    if best is None or row["epoch"] <= trainer.collapse_after:
        return None
    if row["val_top1"] >= trainer.collapse_share * best["val_top1"]:
        return None
    told = {"why": "collapsed", "epoch": row["epoch"], "step": row["step"], "val_top1": row["val_top1"]}
    return told | {"best_val_top1": best["val_top1"], "share": trainer.collapse_share}
