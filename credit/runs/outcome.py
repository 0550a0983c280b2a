"""Decide whether an existing run can be reused or resumed, and summarize its result in a line. Imports no torch."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.runs.folder import CHECKPOINTS, check_same_config, is_complete, read_result, run_folder, set_aside
from credit.runs.made_from import Changes, changes, refuse_resumption, refuse_reuse, words_about_package
from credit.tasks.primary import primary_of

Seen = dict[str, Any]
"""A cache of the files of data sets, for many runs on the same data; see `credit.runs.made_from.changes`."""

UNCHANGED = (
    "no weight changed: training did nothing, as where the learning rate is too small for float32 to add its steps"
)
"""The note of a run whose final parameters equal its initial ones bit for bit."""


def finished(cfg: RunConfig, *, console: bool = True) -> dict[str, Any] | None:
    """Return the result of a run that is over, and print its headline; None for a run that is still to be trained.

    A change of this package's code since then is a warning, printed whether or not `console` is set.

    Raises:
        UserError: the run's folder has another configuration, its result.json is damaged, or the user's code or the data have
            changed since.
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
    """Return the harmless changes since a finished run; None for a run that is to be trained (again).

    Args:
        folder: the run's folder.
        cfg: the run's configuration; its `rerun` decides whether the run is trained again.
        seen: see `Seen`.

    Raises:
        UserError: the user's code or the data have changed, and `rerun` does not permit training again.
    """
    if cfg.rerun is True or not is_complete(folder):
        return None
    found = changes(folder, cfg, seen)
    if found.decisive and cfg.rerun == "changed":
        return None
    refuse_reuse(folder, found)
    return found


def check_resumable(folder: Path, cfg: RunConfig) -> None:
    """Refuse to resume an unfinished run whose data or code have changed since its checkpoints were written.

    Raises:
        UserError: data or code have changed; the message names the changes and the options that go on all the same.
    """
    if cfg.rerun is False and not is_complete(folder) and any((folder / CHECKPOINTS).glob("*.ckpt")):
        refuse_resumption(folder, changes(folder, cfg), cfg.resume)


def start_anew(folder: Path, cfg: RunConfig) -> RunConfig:
    """Set a run's folder aside if its `rerun` demands that, and return the configuration with ``rerun=False``.

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
    """Return the warnings about finished runs that are reused; equal warnings become one line with their count."""
    counted = Counter(words for one in found if (words := words_about_package(one)))
    return [f"{count} finished runs: {words}" if count > 1 else words for words, count in counted.items()]


def headline(result: dict[str, Any]) -> str:
    """Return the summary of a result in one line: ``complete: accuracy 97.21% (best by validation, epoch 18), 97.02% (last)``.

    Args:
        result: content of a ``result.json``.
    """
    primary = primary_of(result)
    if result["status"] == "diverged":
        end = result["diverged"]
        why = end.get("why", "non-finite numbers")
        told = f"diverged at step {end['step']}, first in {end['where']}: {why}"
        last = result["last"]
        return f"{told}; last finite evaluation {primary.on_test(last)} (epoch {last['epoch']:g})" if last else told
    best, last = result["best"], result["last"]
    warned = "; no weight changed" * (UNCHANGED in result.get("notes", ()))
    if large := result.get("large_loss"):
        warned += f"; the training loss reached {large['loss']:.3g} (100 {large.get('of', 'log(classes)')} is {large['limit']:.3g})"
    if result["selected_by"] == "last":
        return f"{result['status']}: {primary.label} {primary.on_test(last)} (last, epoch {last['epoch']:g}){warned}"
    chosen = f"{primary.on_test(best)} (best by validation, epoch {best['epoch']:g})"
    told = f"{result['status']}: {primary.label} {chosen}, {primary.on_test(last)} (last){warned}"
    if stopped := result.get("stopped"):
        told += (
            f"; given up at epoch {stopped['epoch']:g}: validation {primary.label} "
            f"{primary.number(stopped[f'val_{primary.name}'])}, at best it was "
        )
        told += primary.number(stopped[f"best_val_{primary.name}"])
    return told
