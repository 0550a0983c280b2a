"""When a run is given up before its last step: ``trainer.stop_when``."""

from typing import Any

from credit.core.config.schema import TrainerConfig


def collapse(trainer: TrainerConfig, best: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what result.json says of a run whose validation accuracy collapsed; None for one that goes on.

    The rule of the dual-propagation authors' code (paper 3, Table 3): with ``trainer.stop_when=collapsed`` a run ends where, after
    epoch ``trainer.collapse_after``, validation accuracy falls below ``trainer.collapse_share`` of its best.

    Args:
        trainer: the run's options.
        best: its best evaluation by validation accuracy, up to this one.
        row: this evaluation: ``epoch``, ``step``, ``val_top1``.
    """
    if trainer.stop_when != "collapsed" or best is None or row["epoch"] <= trainer.collapse_after:
        return None
    if row["val_top1"] >= trainer.collapse_share * best["val_top1"]:
        return None
    told = {"why": "collapsed", "epoch": row["epoch"], "step": row["step"], "val_top1": row["val_top1"]}
    return told | {"best_val_top1": best["val_top1"], "share": trainer.collapse_share}
