"""A run's folder: its path, the lock that gives one process the right to write, and whether the run in it is over."""

import contextlib
import fcntl
import itertools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.writing import check_room, sync_folder, write_json
from credit.runs.identity import decisive, group_name, run_hash, run_name
from credit.runs.places import CONFIG, RESULT, runs_root

LOCK = "lock"
CHECKPOINTS = "checkpoints"
"""Name of the folder of a run's checkpoints, inside the run's folder."""

EARLIER = "earlier"
"""Name of the folder, beside the runs, of the runs that ``rerun=true`` set aside."""

_DONE = ("complete", "diverged")


def run_folder(cfg: RunConfig) -> Path:
    """Return the path of a run's folder: the run's name in the folder of all runs. No folder is created."""
    return runs_root() / run_name(cfg)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``result.json``, or None if the file does not exist yet.

    Raises:
        UserError: the file exists but is not a JSON object.
    """
    return read_json(folder / RESULT, "delete it and give the same command again: the run goes on from its checkpoint")


def is_complete(folder: Path) -> bool:
    """Return whether a run is over: it finished or it diverged, so that repeating the command would end in the same result.

    A run that failed (a full disk, an interrupted download) is not over: repeating the command resumes it.
    """
    result = read_result(folder)
    return result is not None and result.get("status") in _DONE


def check_same_config(folder: Path, cfg: RunConfig) -> None:
    """Refuse a run's folder whose configuration differs from `cfg` in an option that decides the result.

    Raises:
        UserError: the configurations differ; the message names the folder and the settings that differ.
    """
    held = read_json(folder / CONFIG, f"delete {folder} to start this run anew")
    if held is None:
        return
    wanted = json.loads(json.dumps(decisive(cfg)))
    there = held.get("decisive", {})
    if there != wanted:
        raise UserError(
            f"the run folder {folder} holds another configuration (different: {', '.join(different_settings(there, wanted))}); "
            f"move it away or delete it, or set CREDIT_RUNS to another folder"
        )


def _reruns(folder: Path) -> int:
    """Return how many times a run was set aside."""
    return next(n for n in itertools.count() if not (folder.parent / EARLIER / f"{folder.name}.{n + 1}").exists())


def different_settings(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the dotted names of the settings in which two nested mappings differ, sorted."""
    different = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            different += [f"{key}.{inner}" for inner in different_settings(a, b)]
        elif a != b:
            different.append(key)
    return different


def set_aside(folder: Path) -> Path | None:
    """Move a run's folder into the folder ``earlier`` beside it, in one rename.

    Returns:
        The new path, or None if the folder has no run.

    Raises:
        UserError: another process trains the run.
    """
    if not (folder / CONFIG).is_file():
        return None
    with locked(folder):
        earlier = folder.parent / EARLIER
        earlier.mkdir(exist_ok=True)
        moved = folder.rename(earlier / f"{folder.name}.{_reruns(folder) + 1}")
        sync_folder(earlier)
        sync_folder(folder.parent)
    return moved


def write_config(folder: Path, cfg: RunConfig) -> None:
    """Write ``config.json``: the run's names, its number of restarts, its configuration, and the part that decides the result."""
    names = {"name": run_name(cfg), "group": group_name(cfg), "hash": run_hash(cfg)}
    write_json(
        folder / CONFIG, {**names, "reruns": _reruns(folder), "config": cfg.as_dict(), "decisive": decisive(cfg)}
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.json``: ``name``, ``group``, ``hash``, ``reruns``, ``config`` and ``decisive``.

    Raises:
        UserError: the file does not exist or cannot be read.
    """
    held = read_json(folder / CONFIG, f"delete {folder} to start this run anew")
    if held is None:
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
    return held


def check_usable(folder: Path, size: int) -> None:
    """Check, before data are loaded and without a new folder, that a run's folder can be written and no process trains in it.

    Args:
        folder: the run's folder.
        size: the bytes that the run will write at least.

    Raises:
        UserError: another process trains the run, or the folder cannot be written.
        DiskError: its disk has less room.
    """
    check_room(folder, size)
    if folder.exists():
        with locked(folder):
            pass


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process; the kernel releases the lock when the process ends, also by a crash.

    Raises:
        UserError: another process has the lock (the message names that process), or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = open(folder / LOCK, "a+")  # noqa: SIM115 - closed below
    except OSError as error:
        raise _unusable(folder, error) from error
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise UserError(
                f"{owner} is training this very run in {folder}; wait for it, or stop it and give this command again "
                f"to resume"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"the run folder {folder} cannot be used ({error.strerror}: {error.filename}); "
        f"set CREDIT_RUNS to a folder that can be written"
    )


def read_json(path: Path, remedy: str) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if the file does not exist.

    Args:
        path: the file.
        remedy: advice for the error message about a damaged file.

    Raises:
        UserError: the file cannot be read, is not JSON or is not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path.parent, error) from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged (not JSON); {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (a {type(value).__name__}, not an object); {remedy}")
    return value
