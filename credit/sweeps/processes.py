"""Run jobs in processes of their own, forked from a server that has done the slow imports, so that each starts in milliseconds.

The module is independent of what a job does. A job that raises or is killed becomes an `Outcome` and does not affect other jobs.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from credit.core.errors import UserError

LOG_TAIL = 4000  # characters of a failed job's output that are kept
TICK = 0.25  # seconds between polls of the running jobs
PATIENCE = 10.0  # seconds a stopped job gets before it is killed


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        value: the job's return value, None if it failed.
        error: the reason of a failure as a text, None if there is a value.
        seconds: the job's duration.
        log: the last characters of a failed job's output.
    """

    value: Any
    error: str | None
    seconds: float
    log: str = ""


@dataclass
class _Job:
    index: int
    process: ForkServerProcess
    receiver: Connection
    log: Path
    started: float
    message: tuple[Any, str | None] | None = None  # (value, error) once the job has sent it


Watch = Callable[[str, int, Outcome | None], None]
"""A callback, called with ("started", index, None), ("finished", index, outcome) and, at least every `TICK`, ("tick", -1, None)."""


def run_jobs(
    work: Callable[[Any], Any], payloads: Sequence[Any], *, parallel: int, preload: Sequence[str], watch: Watch
) -> list[Outcome]:
    """Run ``work(payload)`` for each payload, each in a new process, at most `parallel` at a time.

    Args:
        work: a module-level function; its return value is pickled.
        payloads: the argument of each job; pickled.
        parallel: number of concurrent processes.
        preload: names of the modules that the fork-server imports once, before the first job.
        watch: called at each event.

    Returns:
        One outcome for each payload, in order. On `KeyboardInterrupt` the running jobs are stopped before it propagates.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    outcomes: dict[int, Outcome] = {}
    running: list[_Job] = []
    with tempfile.TemporaryDirectory(prefix="credit-jobs-") as logs:
        try:
            while len(outcomes) < len(payloads):
                while len(running) < parallel and len(running) + len(outcomes) < len(payloads):
                    index = len(running) + len(outcomes)
                    running.append(_start(context, work, payloads[index], index, Path(logs)))
                    watch("started", index, None)
                # Wait for messages too: a job blocks on a message longer than the pipe's buffer until it is read.
                silent = [job.receiver for job in running if job.message is None]
                multiprocessing.connection.wait([*silent, *(job.process.sentinel for job in running)], timeout=TICK)
                for job in running:
                    _listen(job)
                for job in [job for job in running if not job.process.is_alive()]:
                    running.remove(job)
                    outcomes[job.index] = _collect(job)
                    watch("finished", job.index, outcomes[job.index])
                watch("tick", -1, None)
        finally:
            _stop(running)
    return [outcomes[index] for index in range(len(payloads))]


def _start(context: Any, work: Callable[[Any], Any], payload: Any, index: int, logs: Path) -> _Job:
    receiver, sender = context.Pipe(duplex=False)
    log = logs / f"{index}.log"
    # The fork-server keeps the environment of its own start, so the present one travels with the job.
    process = context.Process(target=_serve, args=(work, payload, sender, str(log), dict(os.environ)))
    process.start()
    sender.close()
    return _Job(index, process, receiver, log, time.perf_counter())


def _serve(work: Callable[[Any], Any], payload: Any, sender: Connection, log: str, environment: dict[str, str]) -> None:
    """Run one job: its output is written to `log`, its return value or error is sent to `sender`."""
    os.setsid()  # Ctrl-C reaches only the command, which stops its jobs by SIGTERM and gives them time to save
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    message: tuple[Any, str | None]
    try:
        message = (work(payload), None)
    except UserError as error:
        message = (None, str(error))
    except KeyboardInterrupt:
        message = (None, "interrupted")
    except Exception as error:  # the sweep reports any exception of a job, with the traceback in its log
        traceback.print_exc()
        message = (None, f"{type(error).__name__}: {error}")
    sender.send(message)
    sender.close()


def _end_with_parent() -> None:
    """End this process when the parent process ends, because nothing would collect its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _listen(job: _Job) -> None:
    """Receive a job's message if it has been sent."""
    with contextlib.suppress(EOFError):  # it died without a message
        if job.message is None and job.receiver.poll():
            job.message = job.receiver.recv()


def _collect(job: _Job) -> Outcome:
    seconds = time.perf_counter() - job.started
    job.process.join()
    _listen(job)
    value, error = job.message or (None, _death(job.process.exitcode))
    job.receiver.close()
    log = job.log.read_text(errors="replace")[-LOG_TAIL:] if error is not None and job.log.exists() else ""
    return Outcome(value, error, seconds, log)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        memory = ", perhaps for want of memory" if exitcode == -9 else ""
        return f"killed by signal {-exitcode}{memory}"
    return f"ended without a result (exit code {exitcode})"


def _stop(running: list[_Job]) -> None:
    for job in running:
        job.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for job in running:
        job.process.join(max(0.0, deadline - time.monotonic()))
        if job.process.is_alive():
            job.process.kill()
            job.process.join()
        job.receiver.close()
