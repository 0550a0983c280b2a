"""``credit doctor``: check this machine's installation; one line for each component, with ok, warn or fail and a remedy."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

Line = tuple[str, str, str]
"""State (ok, warn or fail), the component, and the finding or the remedy."""


def main(args: list[str]) -> int:
    """Check all components and print a line for each; return 1 if one failed, else 0.

    Args:
        args: the arguments behind ``credit doctor``.
    """
    parser = argparse.ArgumentParser(prog="credit doctor", description="Say what this machine lacks to train.")
    parser.parse_args(args)
    states = []
    for probe in (_python, _packages, _torch, _compiler, _data, _runs, _wandb):
        for state, subject, text in probe():
            states.append(state)
            print(f"{_colour(state)} {subject:<14} {text}", flush=True)
    return 1 if "fail" in states else 0


def _colour(state: str) -> str:
    code = {"ok": 32, "warn": 33, "fail": 31}[state]
    return f"\033[{code}m{state:<4}\033[0m" if sys.stdout.isatty() else f"{state:<4}"


def _python() -> Iterator[Line]:
    here = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        yield "ok", "python", f"{here} at {sys.executable}"
    else:
        yield "fail", "python", f"{here}: credit needs 3.11 to 3.13; install one and make the environment anew"


def _packages() -> Iterator[Line]:
    try:
        declared = requires("credit") or []
    except PackageNotFoundError:
        yield (
            "warn",
            "credit",
            "not installed here (found beside the working directory); `make env` or pip install -e .",
        )
        return
    missing = [name for name in map(_bare_name, filter(_always, declared)) if not _version(name)]
    if missing:
        yield "fail", "packages", f"missing: {', '.join(missing)}; pip install {' '.join(missing)}"
    else:
        yield "ok", "packages", f"credit {version('credit')} with everything it needs"


def _always(requirement: str) -> bool:
    return "extra ==" not in requirement


def _bare_name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _torch() -> Iterator[Line]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield "fail", "torch", f"cannot be imported ({error}); install torch and torchvision together, in one command"
        return
    try:
        import torchvision  # the import loads its operators, which fail where the two do not match

        pair = f"{torch.__version__} with torchvision {torchvision.__version__}"
        yield "ok", "torch", f"{pair}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        yield "fail", "torchvision", f"does not match torch {torch.__version__} ({reason}); install both in one command"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            yield "ok", f"cuda:{index}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
    elif shutil.which("nvidia-smi"):
        built = torch.version.cuda or "no CUDA"
        yield "warn", "cuda", f"there is an NVIDIA driver but torch (built for {built}) sees no GPU; update the driver"
    else:
        yield "ok", "cuda", "no GPU here; runs use the CPU (trainer.device=auto)"


def _compiler() -> Iterator[Line]:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler and shutil.which(compiler):
        first = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
        yield "ok", "compiler", f"{first}, for trainer.compile=true on the CPU"
    else:
        yield "warn", "compiler", "no C++ compiler: trainer.compile=true will not work on the CPU; install g++"


def _data() -> Iterator[Line]:
    """Yield a line for each data set, whether it is found."""
    from credit.core.config.schema import DataConfig
    from credit.core.errors import UserError
    from credit.data import describe

    root = Path(os.environ.get("CREDIT_DATA") or "data")
    named = "CREDIT_DATA" if os.environ.get("CREDIT_DATA") else "./data, CREDIT_DATA is not set"
    if not root.is_dir():
        yield "warn", "data", f"no folder {root} ({named}); Digits needs none, for the others set CREDIT_DATA"
    for kind in ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"):
        try:
            spec = describe(DataConfig(kind=kind))
            yield (
                "ok",
                kind,
                f"{spec.train_size} training and {spec.test_size} test examples, shape {tuple(spec.shape)}",
            )
        except UserError as error:
            yield "warn", kind, " ".join(str(error).split())
    yield _imagenet32(root)
    yield _tables(root)


def _imagenet32(root: Path) -> Line:
    """Return the line about ImageNet32, whose absence is no warning, because few users have it."""
    from credit.core.config.schema import DataConfig
    from credit.core.errors import UserError
    from credit.data import describe
    from credit.data.sources.images.imagenet32 import FOLDER

    if not (root / FOLDER).is_dir():
        return "ok", "imagenet32", f"not in {root}; if you want it: https://image-net.org/download-images.php"
    try:
        spec = describe(DataConfig(kind="imagenet32"))
    except UserError as error:
        return "warn", "imagenet32", " ".join(str(error).split())
    return (
        "ok",
        "imagenet32",
        f"{spec.train_size} training and {spec.test_size} test examples, shape {tuple(spec.shape)}",
    )


def _tables(root: Path) -> Line:
    """Return the line about tabular data sets: those found and those missing."""
    from credit.core.config.schema import DataConfig
    from credit.core.errors import UserError
    from credit.data import describe
    from credit.data.sources.tables.tabular import TABLES

    missing = []
    for name in TABLES:
        try:
            describe(DataConfig(kind="tabular", name=name, batch_size=1))
        except UserError:
            missing.append(name)
    found = ", ".join(name for name in TABLES if name not in missing)
    if not missing:
        return "ok", "tabular", found
    fetch = f"credit-train data=tabular data.name={missing[0]} data.download=true"
    return "warn", "tabular", f"{found}; not in {root / 'tabular'}: {', '.join(missing)}. To fetch one: {fetch}"


def _runs() -> Iterator[Line]:
    folder = Path(os.environ.get("CREDIT_RUNS") or "runs").absolute()
    nearest_there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest_there):
            free = shutil.disk_usage(nearest_there).free / 2**30
    except OSError as error:
        yield "fail", "runs", f"{folder} cannot be written ({error.strerror}); set CREDIT_RUNS to a folder that can"
        return
    state = "warn" if free < 1 else "ok"
    yield state, "runs", f"go to {folder}, {free:.1f} GiB free{'; make room' if free < 1 else ''}"


def _wandb() -> Iterator[Line]:
    from credit.runs.wandb_mirror import logged_in

    if not _version("wandb"):
        yield "warn", "wandb", "not installed: logger=wandb will not work; pip install wandb"
    elif logged_in(os.environ):
        yield "ok", "wandb", f"{_version('wandb')}, logged in; used with logger=wandb"
    else:
        yield "ok", "wandb", f"{_version('wandb')}, not logged in: logger=wandb writes offline; `wandb login` to upload"
