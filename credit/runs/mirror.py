"""Start the W&B mirror in a process of its own, warn if it dies, and wait for its end for a bounded time."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from credit.runs.screen import Screen

PATIENCE = 20.0  # seconds that the end of a run may wait for W&B, and one more for each further run
LOG = "wandb_mirror.log"


class Mirror:
    """A subprocess that reads metrics.jsonl and forwards it to W&B; the training process never imports wandb.

    A context manager around a run, or around several that are trained together. The training writes `done` to the subprocess's
    stdin when it is over; a stdin closed without it means that the training died.

    Args:
        folders: the runs' folders, each with its config.json; the mirror's log is written to the first.
        screen: shows one warning if the mirror dies.
    """

    def __init__(self, folders: Sequence[Path], screen: Screen) -> None:
        self._folders, self._screen, self._warned = list(folders), screen, False
        self._patience = PATIENCE + len(self._folders) - 1
        command = [sys.executable, "-m", "credit.runs.wandb_mirror", *(str(one.resolve()) for one in folders)]
        with open(self._folders[0] / LOG, "ab") as log:
            # A session of its own: Ctrl-C at the terminal stops the training, which then lets the mirror finish.
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=_environment()
            )

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._finish()

    def check(self) -> None:
        """Warn once if the subprocess has ended; costs microseconds."""
        status = self._process.poll()
        if status is not None and not self._warned:
            self._warn(f"stopped ({_reason(status)})")

    def _finish(self) -> None:
        try:
            self._process.communicate(b"done\n", timeout=self._patience)
        except subprocess.TimeoutExpired:
            self._warn(f"was not done {self._patience:.0f} s after the run and was stopped")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._warned = True
        except BrokenPipeError:  # it has ended already; its exit status is reported below
            self._process.wait()
        if self._process.returncode != 0:
            self.check()

    def _warn(self, what: str) -> None:
        self._warned = True
        later = shlex.join(["python", "-m", "credit.runs.wandb_mirror", *map(str, self._folders)])
        runs = "run" if len(self._folders) == 1 else "runs"
        self._screen.warn(
            f"the W&B mirror {what}; training is not affected. Forward the {runs} later with: {later}  "
            f"(log: {self._folders[0] / LOG})"
        )


def no_mirror(folders: Sequence[Path], screen: Screen) -> Any:
    """Return a context manager that does nothing: the runs' metrics stay in their folders.

    A logger of one's own is a function or class with the same arguments that returns a context manager. The context's value is
    None or an object with ``check()``, which is called during training. It may read the folders' config.json and metrics.jsonl,
    which grows while the runs train.
    """
    return contextlib.nullcontext()


def _environment() -> dict[str, str]:
    """Return the subprocess's environment, in which a checkout of this package can be imported from any working directory."""
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package_parent}{os.pathsep}{path}" if path else package_parent}


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
