"""Exit codes and error messages of commands."""

import sys
from collections.abc import Callable

from credit.core.errors import UserError
from credit.core.processes import FAILED, first_to_fail


def reported(command: str, body: Callable[[], int]) -> int:
    """Run `body` and return its exit code; print a `UserError` or an interruption as one paragraph on stderr.

    Any other exception is a bug and propagates: Python prints its traceback and exits with 1. Of the processes of torchrun, the
    first one that fails prints its error, and the others end with 2.

    Args:
        command: name of the command, for the messages.
        body: the command.

    Returns:
        The exit code: that of `body`, also where it exits by itself (143 of a run stopped by SIGTERM), 2 for a `UserError`, 130 for
        Ctrl-C, 141 for a closed output.
    """
    try:
        return body()
    except UserError as error:
        if first_to_fail():
            print(f"{command}: {error}", file=sys.stderr, flush=True)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `credit list | head` closed the output; no error
        sys.stderr.close()
        return 141
    except Exception:
        if first_to_fail():
            raise
        return FAILED
