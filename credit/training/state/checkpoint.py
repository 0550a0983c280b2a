"""Checkpoint files, written atomically and verified by a digest.

A file is one header line (``credit-checkpoint 1 <SHA-256> <length>``) followed by the output of `torch.save`. It is read with
``weights_only=True`` after its digest was verified, so that code in a pickle is refused and never executed.
"""

import copy
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from credit.core.errors import UserError
from credit.core.reading import reading, reason
from credit.core.writing import sync_folder, write_whole, writing
from credit.runs.folder import CHECKPOINTS as FOLDER

_NAME, _FORMAT = b"credit-checkpoint", b"1"
_KEPT = 2


class DamagedError(Exception):
    """A checkpoint file differs from the one that was written."""


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` steps in a run's folder."""
    return folder / FOLDER / f"step-{step:09d}.ckpt"


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and return its path; earlier ones are kept until `prune`.

    Args:
        folder: the run's folder.
        step: number of steps done.
        state: tensors and plain values in dicts and lists.

    Raises:
        DiskError: the disk refuses; earlier checkpoints are as they were.
    """
    buffer = io.BytesIO()
    torch.save(_compact(state), buffer)
    content = buffer.getvalue()
    header = b" ".join([_NAME, _FORMAT, hashlib.sha256(content).hexdigest().encode(), str(len(content)).encode()])
    path = path_of(folder, step)
    if not path.parent.exists():
        with writing(path, len(content)):
            path.parent.mkdir()
            sync_folder(folder)
    write_whole(path, header + b"\n" + content)
    return path


def prune(folder: Path, *keep: int | None) -> None:
    """Delete all checkpoints of a run but the last two and those at the steps in `keep`, such as the best one."""
    kept = {*_present(folder)[-_KEPT:], *(path_of(folder, step) for step in keep if step is not None)}
    for old in _present(folder):
        if old not in kept:
            old.unlink()


def drop_after(folder: Path, step: int) -> None:
    """Delete a run's checkpoints at steps above the given one."""
    for path in _present(folder):
        if path > path_of(folder, step):
            path.unlink()


def steps(folder: Path) -> list[int]:
    """Return the steps of a run's checkpoints, oldest first, without reading the files."""
    return [int(path.stem.partition("-")[2]) for path in _present(folder)]


def _compact(value: Any) -> Any:
    """Return nested values with views of larger tensors copied.

    `torch.save` writes the whole storage of a view, and the weights of a replica are a view of all replicas' weights.
    """
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() <= value.numel() * value.element_size()
        return value if whole else value.detach().clone()
    if isinstance(value, dict):
        held = copy.copy(value)  # keeps a state_dict's type and its metadata of versions
        held.update({key: _compact(one) for key, one in value.items()})
        return held
    if isinstance(value, list | tuple):
        return type(value)(_compact(one) for one in value)
    return value


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint file, on the CPU.

    Raises:
        DamagedError: the file is truncated, was changed, or contains anything but tensors and plain values.
        UserError: it is no regular file, or a newer version of credit wrote it.
    """
    with reading(path, "a checkpoint", "delete it"):
        header, _, content = path.read_bytes().partition(b"\n")
    words = header.split(b" ")
    if len(words) != 4 or words[0] != _NAME or not words[1].isdigit():
        raise DamagedError("it does not begin like a checkpoint")
    if words[1] != _FORMAT:
        raise UserError(
            f"{path} has format {words[1].decode()}, and this version of credit reads format {_FORMAT.decode()}: use the version "
            "that wrote it, or begin the run anew with rerun=true"
        )
    if words[3] != str(len(content)).encode():
        raise DamagedError(f"{len(content)} bytes, {words[3].decode(errors='replace')} were written")
    if hashlib.sha256(content).hexdigest().encode() != words[2]:
        raise DamagedError("its SHA-256 is not the one it was written with")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch also warns about what it then refuses
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedError(f"torch refuses it: {reason(error)}") from None
    if not isinstance(state, dict):
        raise DamagedError("it holds no training state")
    return state


def latest(folder: Path, warn: Callable[[str], None], before: int | None = None) -> dict[str, Any] | None:
    """Return the content of a run's newest intact checkpoint, or None if none was ever written.

    A damaged checkpoint is renamed to ``*.corrupt`` with a warning, and the one before it is read.

    Args:
        folder: the run's folder.
        warn: shows a warning.
        before: read only checkpoints at steps below this one; None for no limit.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    for unfinished in (folder / FOLDER).glob("*.tmp"):  # a kill during a write
        unfinished.unlink()
    for path in reversed(_present(folder)):
        if before is not None and path >= path_of(folder, before):
            continue
        try:
            return read(path)
        except DamagedError as damage:
            aside = path.with_name(path.name + ".corrupt")
            path.replace(aside)
            warn(f"checkpoint {path} is damaged ({damage}); set aside as {aside.name}, looking for one before it")
    damaged = sorted((folder / FOLDER).glob("*.corrupt"))
    if damaged:
        raise UserError(
            f"every checkpoint in {folder / FOLDER} is damaged ({', '.join(path.name for path in damaged)}): the run "
            f"cannot be resumed. To train it again from the beginning, delete {folder} and give the same command."
        )
    return None


def _present(folder: Path) -> list[Path]:
    """Return the checkpoint files, oldest first."""
    return sorted(path for path in (folder / FOLDER).glob("step-*.ckpt") if re.fullmatch(r"step-\d+\.ckpt", path.name))
