"""Record the provenance of a result: command, code, versions and machine."""

import contextlib
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from credit.core.user_files import user_folders
from credit.runs.user_code import package_code

_PACKAGES = ("credit", "torchvision", "timm", "numpy", "hydra-core")

COMMAND = "CREDIT_COMMAND"
"""Environment variable with the words of the command line, for the processes that it starts."""


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables while the context lasts; processes started in it inherit them."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


_JOBS: dict[str, str] = {}


def job_command(words: Iterable[str]) -> str:
    """Return the shell command that trains one job of a sweep or a table by itself.

    Args:
        words: the job's settings as arguments of `credit-train`; ``rerun`` and ``resume`` are left out.
    """
    folders = [word for folder in user_folders() for word in ("--config-dir", str(folder))]
    kept = [word for word in words if word.lstrip("+").partition("=")[0] not in ("rerun", "resume")]
    return shlex.join(["credit-train", *folders, *kept])


def note_job_commands(commands: Mapping[str, str]) -> None:
    """Store the commands of this process's jobs, by the run's name, for the provenance of their results."""
    _JOBS.update(commands)


def noted_command(name: str, threads: int | None = None) -> str | None:
    """Return the stored command of a run, or None if there is none.

    Args:
        name: the run's name.
        threads: CPU threads to add to the command as ``trainer.threads``; None adds nothing.
    """
    command = _JOBS.get(name)
    return command if command is None or threads is None else f"{command} trainer.threads={threads}"


def provenance(
    device: str,
    *,
    threads: str | None = None,
    made_from: Mapping[str, Any] | None = None,
    job: str | None = None,
) -> dict[str, Any]:
    """Return the facts needed to repeat a run: command line, commit, versions, machine and threads.

    Args:
        device: name of the run's torch device.
        threads: the reason for the number of CPU threads, if there is one.
        made_from: the run's record of its code and data (`credit.runs.made_from`).
        job: the command that trains this run alone.

    Returns:
        ``command`` as it was typed, ``job_command``, ``commit``, ``code_sha256`` (of this package's sources that decide numbers),
        ``user_code`` (digests of the user's files, by name), ``versions`` and ``machine``.
    """
    import torch  # deferred: commands that answer without torch import this module

    machine: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if threads is not None:
        machine["threads_because"] = threads
    if device.startswith("cuda"):
        machine["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return {
        "command": os.environ.get(COMMAND) or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "job_command": job,
        "commit": _commit(),
        "code_sha256": hashlib.sha256(json.dumps(package_code()).encode()).hexdigest(),
        "user_code": {key: entry["sha256"] for key, entry in (made_from or {}).get("code", {}).items()},
        "versions": {"python": platform.python_version(), **_versions(), "torch": str(torch.__version__)},
        "machine": machine,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that was never installed
            found[name] = "not installed"
    return found


def _commit() -> str | None:
    """Return the commit of this package's checkout, marked ``-dirty`` if files differ from it; None for an installed package."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
