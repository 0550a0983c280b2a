"""Whether a run that is there can be reused, and what is printed of it, without training anything or importing torch."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.runs.folder import CHECKPOINTS, check_same_config, is_complete, read_result, run_folder, set_aside
from credit.runs.made_from import Changes, changes, refuse_resumption, refuse_reuse, words_about_package

Seen = dict[str, Any]
"""What was seen of data sets, for many runs on the same ones; see `credit.runs.made_from.changes`."""

UNCHANGED = (
    "no weight changed: training did nothing, as where the learning rate is too small for float32 to add its steps"
)
"""The note of a run whose parameters are at its end, bit for bit, those that it began with."""


def finished(cfg: RunConfig, *, console: bool = True) -> dict[str, Any] | None:
    """Return the result of a run that is over, and print so; None for one that is still to be trained.

    A change of this package's own code since then is a warning, shown in any case.

    Raises:
        UserError: the run's folder holds another configuration, its result.json is damaged, or it was made with other code of
            the user's or from other data than is there now.
    """
    folder = run_folder(cfg)
    check_same_config(folder, cfg)
    found = reusable(folder, cfg)
    if found is None:
        return None
    result = read_result(folder)
    if result is not None and console:
        print(f"already {headline(result)}  {folder}")
    for line in warnings_of([found]):
        print(f"warning: {line}", file=sys.stderr)
    return result


def reusable(folder: Path, cfg: RunConfig, seen: Seen | None = None) -> Changes | None:
    """Return what changed since a run ended that can be reused all the same; None for one that is (again) to be run.

    Args:
        folder: the run's folder.
        cfg: the run; its `rerun` decides what is run again.
        seen: see `Seen`.

    Raises:
        UserError: the user's code or the data changed, and `rerun` does not ask for the run again.
    """
    if cfg.rerun is True or not is_complete(folder):
        return None
    found = changes(folder, cfg, seen)
    if found.decisive and cfg.rerun == "changed":
        return None
    refuse_reuse(folder, found)
    return found


def check_resumable(folder: Path, cfg: RunConfig) -> None:
    """Refuse an unfinished run whose checkpoints were made with something else than is there now.

    Raises:
        UserError: naming what changed, and what to write.
    """
    if cfg.rerun is False and not is_complete(folder) and any((folder / CHECKPOINTS).glob("*.ckpt")):
        refuse_resumption(folder, changes(folder, cfg), cfg.resume)


def start_anew(folder: Path, cfg: RunConfig) -> RunConfig:
    """Set the run's folder aside where its `rerun` asks for that, and return the run without it: asked for once, done once.

    Raises:
        UserError: another process trains the run.
    """
    if cfg.rerun is True or (cfg.rerun == "changed" and _refused(folder, cfg)):
        moved = set_aside(folder)
        if moved is not None:
            print(f"starting anew; the files of before are in {moved}")
    return replace(cfg, rerun=False)


def _refused(folder: Path, cfg: RunConfig) -> bool:
    found = changes(folder, cfg)
    unfinished = not is_complete(folder) and cfg.resume != "anyway"
    return bool(found.decisive or (unfinished and found.package))


def warnings_of(found: Iterable[Changes]) -> list[str]:
    """Return one line for each thing to know about finished runs that are reused, whatever their number."""
    counted = Counter(words for one in found if (words := words_about_package(one)))
    return [f"{count} finished runs: {words}" if count > 1 else words for words, count in counted.items()]


def headline(result: dict[str, Any]) -> str:
    """Return one line about a run: ``complete: accuracy 97.21% (best by validation, epoch 18), 97.02% (last)``."""
    if result["status"] == "diverged":
        end = result["diverged"]
        why = end.get("why", "non-finite numbers")
        told = f"diverged at step {end['step']}, first in {end['where']}: {why}"
        last = result["last"]
        return f"{told}; last finite evaluation {_percent(last)} (epoch {last['epoch']:g})" if last else told
    best, last = result["best"], result["last"]
    warned = "; no weight changed" * (UNCHANGED in result.get("notes", ()))
    if large := result.get("large_loss"):
        warned += f"; the training loss reached {large['loss']:.3g} (100 log(classes) is {large['limit']:.3g})"
    if result["selected_by"] == "last":
        return f"{result['status']}: accuracy {_percent(last)} (last, epoch {last['epoch']:g}){warned}"
    chosen = f"{_percent(best)} (best by validation, epoch {best['epoch']:g})"
    told = f"{result['status']}: accuracy {chosen}, {_percent(last)} (last){warned}"
    if stopped := result.get("stopped"):
        told += (
            f"; given up at epoch {stopped['epoch']:g}: validation accuracy {stopped['val_top1']:.2%}, at best it was "
        )
        told += f"{stopped['best_val_top1']:.2%}"
    return told


def _percent(row: dict[str, Any]) -> str:
    accuracy = row.get("test_top1")
    return "-" if accuracy is None else f"{accuracy:.2%}"
