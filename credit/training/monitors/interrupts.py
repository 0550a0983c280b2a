"""Ctrl-C and SIGTERM during a run: finish the step, write a checkpoint, then leave."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    signal: int | None = None

    def leave(self) -> None:
        """End the way the signal would have ended the process."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first signal into a request that the loop reads between two steps; a second one ends at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        for handled, handler in before.items():
            signal.signal(handled, handler)

    before = {number: signal.signal(number, note) for number in _HANDLED}
    try:
        yield request
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
