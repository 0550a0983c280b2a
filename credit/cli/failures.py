"""How a command ends: mistakes on one screen with exit code 2, our own errors with their traceback."""

import sys
from collections.abc import Callable

from credit.core.errors import UserError


def reported(command: str, body: Callable[[], int]) -> int:
    """Run `body` and return the exit code; print a `UserError` or an interruption as one paragraph on stderr.

    Any other exception is a fault of this program and passes through: Python prints its traceback and exits with 1.
    """
    try:
        return body()
    except UserError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `credit list | head` closed our output; nothing is wrong
        sys.stderr.close()
        return 141
