"""Handle Ctrl-C, SIGTERM and SIGHUP during a run: finish the step, write a checkpoint, then leave."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """A request to stop a run.

    Attributes:
        noted: number of the signal that this process received; None while there is none.
        signal: number of the signal that the run heeds, once all of its processes have agreed on it.
    """

    noted: int | None = None
    signal: int | None = None

    def leave(self) -> None:
        """End the process in the way the signal would have.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after another signal, with the shell's exit status for it.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yield a `StopRequest` that is set by the first Ctrl-C, SIGTERM or SIGHUP; a second signal has its usual effect.

    A signal that is ignored when the run begins, as SIGHUP is under nohup, stays ignored.
    Outside the main thread signals cannot be handled, and the request is never set.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.noted = number
        for handled, handler in before.items():
            signal.signal(handled, handler)

    heeded = [number for number in _HANDLED if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield request
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
