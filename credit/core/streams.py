"""Standard output and error that cannot end a command: where they cannot be written any more, they fall silent."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any


class Lasting:
    """A stream of text; the first write that fails silences it (a closed pipe or terminal, a full disk).

    Args:
        stream: whose other attributes this one has too.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._silent = stream, False

    def write(self, text: str) -> int:
        """Write a text, or nothing where the stream is silent; return the text's length."""
        if not self._silent:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # ValueError: the file is closed
                self._fall_silent()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what is buffered, or nothing where the stream is silent."""
        if not self._silent:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._fall_silent()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal that can be written."""
        return not self._silent and bool(self._stream.isatty())

    def _fall_silent(self) -> None:
        """Send what is buffered, and what other writers of the file descriptor write, to nowhere."""
        self._silent = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Make standard output and error of this process `Lasting`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and Lasting(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
