"""Writing files: whole or not at all, and whatever the disk refuses becomes one error in words."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from credit.core.errors import UserError
from credit.core.reading import reason

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "delete what is not needed"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make the folder writable"),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), "the folder was deleted or moved; put it back"),
}


class DiskError(OSError):
    """A file cannot be written. The command line prints it in one paragraph and exits with `credit.core.errors.RESUMABLE`."""

    def __str__(self) -> str:
        return str(self.args[-1])


@contextlib.contextmanager
def writing(path: Path, size: int) -> Iterator[None]:
    """Turn an `OSError` into a `DiskError`, which gives the path, the reason, the bytes needed and those that are free.

    Args:
        path: the file that is written.
        size: its length in bytes.

    Raises:
        DiskError: as described; one of the block is raised as it is.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        why = error.strerror or reason(error)
        advice = _ADVICE.get(error.errno or 0, "check the disk")
        raise DiskError(
            f"{path} cannot be written ({why}): it takes {size:,} bytes, and {_room(path.parent)} on that disk; {advice}"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file's bytes atomically: write and sync a temporary file beside it, rename it, and sync the folder.

    Raises:
        DiskError: the disk refuses; the file is as it was, and no temporary file is left.
    """
    beside = path.with_name(path.name + ".tmp")
    with writing(path, len(content)):
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: a reader, or a crash, finds either the whole old file or the whole new one.

    Raises:
        ValueError: a number in the value is not finite.
        DiskError: the disk refuses.
    """
    write_whole(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Sync a folder to the disk, so that renames in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_room(folder: Path, size: int) -> None:
    """Check that a folder can be created or written, and that its disk has room, without a change of the disk.

    Args:
        folder: the folder, which need not exist.
        size: the bytes that will be written at least.

    Raises:
        UserError: no folder can be there, or it cannot be written.
        DiskError: there is not enough room.
    """
    there = next(part for part in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(part))
    if not there.is_dir():
        raise UserError(f"{folder} cannot be a folder of runs: {there} is a file; set CREDIT_RUNS to another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written (by the rights of {there}); set CREDIT_RUNS to another folder")
    if shutil.disk_usage(there).free < size:
        raise DiskError(
            f"{folder} needs at least {size:,} bytes, and {_room(there)} on that disk; delete what is not needed, or set "
            "CREDIT_RUNS to a folder on another disk"
        )


def _room(folder: Path) -> str:
    """Return how many bytes are free on a folder's disk, in words."""
    try:
        return f"{shutil.disk_usage(folder).free:,} are free"
    except OSError:
        return "it is not known how many are free"
