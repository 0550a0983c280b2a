"""Where a result came from: command, code, versions, machine."""

import contextlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("credit", "torchvision", "timm", "numpy", "hydra-core")

COMMAND = "CREDIT_COMMAND"
"""Environment variable in which the command line hands on its own words to the processes it starts."""


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for as long as the context lasts; processes started meanwhile inherit them."""
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


def provenance(device: str, *, threads: str | None = None) -> dict[str, Any]:
    """Return what someone needs to repeat a run: command line, commit, versions, machine and threads.

    Args:
        device: the torch device the run is on, as text.
        threads: the reason for the number of CPU threads, where there is one.
    """
    import torch  # here: this package is read by commands that must answer before torch has loaded

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
        "commit": _commit(),
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
    """Return the commit of the checkout this package runs from, marked where files differ; None when installed."""
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
