"""Forward runs' metrics.jsonl and result.json to W&B: ``python -m credit.runs.wandb_mirror FOLDER...``.

It is a process of its own that only reads the runs' files, so that W&B cannot affect the training. Several folders are those of
runs trained together in one process. It follows the files while its standard input is open, and ends at the line ``done``;
started without a training it forwards the lines that exist.
"""

import contextlib
import fcntl
import json
import netrc
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

from credit.core.config.schema import LoggerConfig
from credit.runs.folder import read_config, read_result
from credit.runs.metrics import METRICS

_POLL = 0.5  # seconds between polls of the files
_STATE = "wandb_mirror.json"
_BROKEN = 3


def main(folders: Sequence[Path]) -> int:
    """Forward runs until they end.

    Returns:
        The exit status: 0, or 3 if W&B failed (`credit.runs.mirror.Mirror` turns that into one warning).
    """
    os.nice(5)  # the training has priority on few cores
    with contextlib.ExitStack() as locks:
        # The mirror of a killed run may still be finishing. In one order, so that no two mirrors wait for each other.
        for folder in sorted({folder.resolve() for folder in folders}):
            fcntl.flock(locks.enter_context(open(folder / "wandb_mirror.lock", "w")), fcntl.LOCK_EX)
        try:
            _mirror([folder.resolve() for folder in folders])
        # Any failure of W&B is logged, and the process ends without waiting for W&B's service.
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return _BROKEN
    return 0


def _mirror(folders: list[Path]) -> None:
    mirrored = [(_begin(folder), _Follower(folder)) for folder in folders]
    alive, signal = True, b""
    while alive:
        for run, follower in mirrored:
            for row in follower.new_rows():
                run.log(flat(row), step=row["step"])
                follower.forwarded(row["step"])
        alive = not signal.endswith(b"done\n")
        if alive and select.select([sys.stdin.buffer], [], [], _POLL)[0]:
            received = os.read(sys.stdin.fileno(), 4096)
            signal += received
            if not received:  # the training has died: forward the remaining lines, then end
                signal += b"done\n"
    for folder, (run, _) in zip(folders, mirrored, strict=True):
        result = read_result(folder) or {"status": "unfinished"}
        run.summary.update(flat({key: result[key] for key in ("status", "best", "last") if result.get(key)}))
        run.finish(exit_code=0 if result["status"] == "complete" else 1)


def _begin(folder: Path) -> Any:
    """Return a W&B run for the run in a folder, beside those that this process has opened already."""
    import wandb

    held = read_config(folder)
    logger = LoggerConfig(**held["config"]["logger"])
    return wandb.init(
        project=logger.project,
        id=held["hash"] + (f"-{reruns}" if (reruns := held.get("reruns")) else ""),  # anew, it is another
        name=held["name"],
        group=held["group"],
        tags=logger.tags,
        config=held["config"],
        dir=str(folder),
        mode=mode(logger.mode, os.environ),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True),
    )


class _Follower:
    """Read whole new lines of metrics.jsonl, and store on disk the last step that was forwarded.

    A resumed run truncates its file and writes the same rows again; these are not forwarded twice.
    """

    def __init__(self, folder: Path) -> None:
        self._metrics, self._state = folder / METRICS, folder / _STATE
        self._offset, self._last = 0, -1
        if self._state.exists():
            self._last = int(json.loads(self._state.read_text())["step"])

    def new_rows(self) -> list[dict[str, Any]]:
        if not self._metrics.exists():
            return []
        with open(self._metrics, "rb") as file:
            return self._read(file)

    def forwarded(self, step: int) -> None:
        self._last = step
        self._state.write_text(json.dumps({"step": step}))

    def _read(self, file: BinaryIO) -> list[dict[str, Any]]:
        if file.seek(0, os.SEEK_END) < self._offset:  # the file was truncated
            self._offset = 0
        file.seek(self._offset)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        rows = [json.loads(line) for line in whole.splitlines()]
        return [row for row in rows if row["step"] > self._last]


def mode(wanted: str, environment: Any) -> Any:
    """Return W&B's mode: the wanted one; for ``auto`` $WANDB_MODE, else online when logged in, else offline.

    Args:
        wanted: ``auto``, ``online`` or ``offline``.
        environment: mapping of environment variables.
    """
    if wanted != "auto":
        return wanted
    return environment.get("WANDB_MODE") or ("online" if logged_in(environment) else "offline")


def logged_in(environment: Any) -> bool:
    """Return whether a key for W&B exists: in $WANDB_API_KEY, or in the netrc file for W&B's host.

    Args:
        environment: mapping of environment variables.
    """
    if environment.get("WANDB_API_KEY"):
        return True
    path = Path(environment.get("NETRC") or Path(environment.get("HOME", "~")).expanduser() / ".netrc")
    host = urlparse(environment.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested metrics under W&B's flat names ``a/b``, without None and lists (which are for pictures)."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}/"))
        elif value is not None and not isinstance(value, list):
            out[f"{prefix}{key}"] = value
    return out


if __name__ == "__main__":
    status = main([Path(word) for word in sys.argv[1:]])
    os._exit(status)  # not sys.exit: W&B's exit hooks would report the ended service at length
