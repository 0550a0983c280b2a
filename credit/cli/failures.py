"""Exit codes and error messages of commands."""

import os
import sys
import time
import traceback
from collections.abc import Callable

from credit.core.errors import BAD_INPUT, FAILED, RESUMABLE, UserError
from credit.core.reading import reason
from credit.core.streams import lasting_streams
from credit.core.writing import DiskError
from credit.runs.places import runs_root

DEBUG = "CREDIT_DEBUG"
"""Environment variable that lets the trace of an unforeseen error be printed."""


def reported(command: str, body: Callable[[], int]) -> int:
    """Run `body` and return its exit code; print what ends it as one paragraph on standard error.

    Standard output and error that cannot be written any more fall silent, and the command goes on.

    Args:
        command: name of the command, for the messages.
        body: the command.

    Returns:
        The exit code: that of `body`, also where it exits by itself (143 of a run stopped by SIGTERM), `BAD_INPUT` for a
        `UserError`, `RESUMABLE` for a `DiskError`, 130 for Ctrl-C, `FAILED` for any other exception, the trace
        of which is written to a file.
    """
    with lasting_streams():
        try:
            return body()
        except UserError as error:
            print(f"{command}: {error}", file=sys.stderr)
            return BAD_INPUT
        except DiskError as error:
            print(f"{command}: {error}. Afterwards the same command goes on", file=sys.stderr)
            return RESUMABLE
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            print(f"\n{command}: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
            return 130
        except Exception as error:
            print(f"{command}: {_paragraph(error)}", file=sys.stderr)
            return FAILED


def _paragraph(error: Exception) -> str:
    """Return what an exception that nothing foresaw is, and where its trace is."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {reason(error)}"
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        return (
            f"out of memory ({what}). Write a smaller data.batch_size, or trainer.accumulate=4, which computes each batch in four "
            f"pieces with the same result. The trace is {_kept(error)}"
        )
    return f"{what}. This error was not foreseen; the trace is {_kept(error)}"


def _kept(error: Exception) -> str:
    """Write an exception's trace to a file of its own; return where it is."""
    path = runs_root() / "errors" / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as trouble:
        return f"not kept ({reason(trouble)}): {DEBUG}=1 prints it"
    return f"in {path}; {DEBUG}=1 prints it"
