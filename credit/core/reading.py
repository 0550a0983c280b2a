"""Reading files that others wrote: whatever a parser raises becomes one error in words."""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from credit.core.errors import UserError

_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever is raised while a file is parsed into a `UserError` of one paragraph: the file, what is wrong, what to do.

    Args:
        path: the file; anything but a regular file is refused first, because a named pipe would be waited for.
        what: what the file should be, as the continuation of ``is not``: ``a whole .npz``.
        remedy: what to do: ``copy it again``.

    Raises:
        UserError: as described; a `UserError` of the block is raised as it is.
    """
    size = regular_size(path)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"corrupt data: {path} ({size} bytes) is not {what}: {reason(error)}; {remedy}") from error


def regular_size(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        UserError: there is none, or it is something else: a folder, a named pipe, a device, a link to nothing.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which is not there; copy the file itself"
            ) from error
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    for is_one, word in _SPECIAL:
        if is_one(found.st_mode):
            raise UserError(f"{path} is {word}; give a regular file")
    return found.st_size


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        UserError: it is not there, or no text in UTF-8.
    """
    with reading(path, "a text in UTF-8", "save it in that encoding (iconv -t utf-8)"):
        return path.read_text(encoding="utf-8")


def reason(error: BaseException) -> str:
    """Return the message of an exception in one line of at most 200 characters; its type where there is none."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    words = " ".join(str(error).split())
    if named := re.search(r"GLOBAL (\S+)", words):
        return f"it names {named[1]}, which may be code and was not run"
    if "allow_pickle" in words or "weights_only" in words:  # torch and NumPy advise to load it without protection
        return "it has objects that may be code and were not loaded, or another format"
    words = words[:200]
    return words.rstrip(".;: ") or type(error).__name__
