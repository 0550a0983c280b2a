"""What a finished run is told as, without training anything or importing torch."""

from typing import Any

from credit.config.schema import RunConfig
from credit.records.folder import check_same_config, is_complete, read_result, run_folder

UNCHANGED = (
    "no weight changed: training did nothing, as where the learning rate is too small for float32 to add its steps"
)
"""The note of a run whose parameters are at its end, bit for bit, those that it began with."""


def finished(cfg: RunConfig, *, console: bool = True) -> dict[str, Any] | None:
    """Return the result of a run that is over, and say so on the terminal; None for one that is still to be trained.

    Raises:
        UserError: the run's folder holds another configuration, or its result.json is damaged.
    """
    folder = run_folder(cfg)
    check_same_config(folder, cfg)
    result = read_result(folder) if is_complete(folder) else None
    if result is not None and console:
        print(f"already {headline(result)}  {folder}")
    return result


def headline(result: dict[str, Any]) -> str:
    """Return one line about a run: ``complete: accuracy 97.21% (best by validation, epoch 18), 97.02% (last)``."""
    if result["status"] == "diverged":
        end = result["diverged"]
        why = end.get("why", "non-finite numbers")
        told = f"diverged at step {end['step']}, first in {end['where']}: {why}"
        last = result["last"]
        return f"{told}; last finite evaluation {_percent(last)} (epoch {last['epoch']:g})" if last else told
    best, last = result["best"], result["last"]
    unchanged = "; no weight changed" * (UNCHANGED in result.get("notes", ()))
    if result["selected_by"] == "last":
        return f"{result['status']}: accuracy {_percent(last)} (last, epoch {last['epoch']:g}){unchanged}"
    chosen = f"{_percent(best)} (best by validation, epoch {best['epoch']:g})"
    told = f"{result['status']}: accuracy {chosen}, {_percent(last)} (last){unchanged}"
    if stopped := result.get("stopped"):
        told += (
            f"; given up at epoch {stopped['epoch']:g}: validation accuracy {stopped['val_top1']:.2%}, at best it was "
        )
        told += f"{stopped['best_val_top1']:.2%}"
    return told


def _percent(row: dict[str, Any]) -> str:
    accuracy = row.get("test_top1")
    return "-" if accuracy is None else f"{accuracy:.2%}"
