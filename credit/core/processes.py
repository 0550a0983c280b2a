"""The processes that torchrun starts for one run, by its environment variables, and their end where one of them fails.

A process that fails notes that in torchrun's store. The others see it, wherever they wait, and end seconds later, when its error is
printed: a collective would wait for it until its timeout. Imports torch only where a run has several processes.
"""

import datetime
import functools
import os
import sys
import threading
from typing import Any

FAILED = 2
"""Exit code of a process that ends because another one failed."""

_PERIOD, _GRACE = 0.5, 3.0
"""Seconds between looks at the store, and to the end, in which the process that failed prints its error."""
_failing = threading.Event()


def world_size() -> int:
    """Return the number of processes that share the run; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ.get("RANK") or 0)


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or 0)


@functools.cache
def first_to_fail() -> bool:
    """Note that this process fails, and return whether it is the first one, whose error is the one to print."""
    _failing.set()
    store = _store()
    return store is None or int(store.add(_key(), 1)) == 1


def end_with_others() -> None:
    """From now on, end this process with exit code `FAILED` as soon as another one has failed; do nothing without torchrun."""
    store = _store()
    if store is not None:
        threading.Thread(target=_watch, args=(store,), daemon=True).start()


def _watch(store: Any) -> None:
    while not _failing.wait(_PERIOD):
        if store.check([_key()]) and not _failing.wait(_GRACE):
            sys.stdout.flush()
            os._exit(FAILED)


def _key() -> str:
    return f"credit/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _store() -> Any:
    """Return a connection to torchrun's store; None where there is one process, or another launcher."""
    if world_size() == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=datetime.timedelta(seconds=10))
