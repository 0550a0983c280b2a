"""A fixed matrix of short training runs, each with a digest of its final weights: did a change of code change a result?

    python scripts/fixed_matrix.py record              train every row and write scripts/fixed_matrix.json
    python scripts/fixed_matrix.py check               train every row and compare; exit code 1 where one differs
    python scripts/fixed_matrix.py check --rows 'mlp/*' --jobs 2
    python scripts/fixed_matrix.py list                print the rows and their words

The rows are in scripts/fixed_matrix.yaml: a stable name and the words that `credit-train` takes. A change that gives an option or
a rule another name changes the words there, not the name of the row, and the digests must stay. They are of one kind of CPU and one
version of torch, both recorded: elsewhere sums round otherwise, so record first on the code before a change.

A row has five parts, digests (the first 16 digits of a SHA-256) but for the loss:

    model      parameters and buffers by name, and the averaged ones
    rule       values of the rule's own state, and the warm start's, without names
    optimizer  values of the rest of the checkpoint's tensors, without names: the optimizer's, running sums, diagnostics'
    numbers    all numbers of metrics.jsonl but seconds, and where a run diverged, without names
    loss       the last training loss, as a hexadecimal number

A refused row is compared in that it is refused; the words are recorded for the reader. All depends on the command line of
`credit-train`, on the files of a run's folder and on the names in a checkpoint, which `Folder` reads, and on nothing else.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported: sums in one order
    os.environ[_variable] = "1"

ROOT = Path(__file__).resolve().parent.parent
MATRIX, RECORD = (ROOT / "scripts" / f"fixed_matrix.{ending}" for ending in ("yaml", "json"))
PARTS = ("model", "rule", "optimizer", "numbers", "loss")
EXPECTED = {"complete", "refused", "diverged"}
STOPPED = 143  # exit code after SIGTERM
sys.path.insert(0, str(ROOT))


# ---------------------------------------------------------------- what depends on the package


def credit_train() -> Callable[[list[str]], int]:
    """Return the function behind the command `credit-train`: words to exit code."""
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][
        "credit-train"
    ].partition(":")
    command: Callable[[list[str]], int] = getattr(importlib.import_module(module), name)
    return command


@dataclass(frozen=True)
class Folder:
    """A run's folder."""

    path: Path

    def result(self) -> dict[str, Any]:
        """Return what the run came to."""
        result: dict[str, Any] = json.loads((self.path / "result.json").read_text())
        return result

    def parts(self) -> dict[str, str]:
        """Return the run's digests and its last training loss by part."""
        import torch

        result, checkpoints = self.result(), self.checkpoints()
        parts = {"numbers": _values_digest(_numbers([self.metrics(), result.get("diverged")]))}
        if result["last"] is not None:
            parts["loss"] = float(result["last"]["train_loss"]).hex()
        if checkpoints:
            content = checkpoints[-1].read_bytes().partition(b"\n")[2]  # behind a line with its digest
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            rest = {name: state[name] for name in ("optimizer", "running", "diagnostics")}
            parts |= {
                "model": _names_digest({"model": state["model"], "average": state["average"]}),
                "rule": _values_digest(value for _, value in _leaves([state["rule"], state["warm"]])),
                "optimizer": _values_digest(value for _, value in _leaves(rest)),
            }
        return parts

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of the run's metrics."""
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    def checkpoints(self) -> list[Path]:
        """Return the run's checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.ckpt"))

    def cut_back(self) -> None:
        """Leave the folder as a kill during the run's last steps would have left it."""
        kept, last = self.checkpoints()[-2:]
        assert kept != last, f"{self.path} has one checkpoint, so there is nothing to go on from"
        last.unlink()
        (self.path / "result.json").unlink()


# ---------------------------------------------------------------- digests


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings and lists, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{at}")
    elif value is not None:
        yield name, value


def _bytes(value: Any) -> bytes:
    """Return a tensor's type, shape and raw bytes, or a plain value as text."""
    import torch

    if not isinstance(value, torch.Tensor):
        return (value.hex() if isinstance(value, float) else repr(value)).encode()
    raw: bytes = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{value.dtype}{tuple(value.shape)}".encode() + raw


def _short(content: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in content)).hexdigest()[:16]


def _names_digest(state: dict[str, Any]) -> str:
    """Return the digest of names and values, in the order of names."""
    return _short(
        name.encode() + b"=" + _bytes(value) for name, value in sorted(_leaves(state), key=lambda leaf: leaf[0])
    )


def _values_digest(values: Iterable[Any]) -> str:
    """Return the digest of values in an order of their own: names may change, and places."""
    return _short(sorted(map(_bytes, values)))


def _numbers(value: Any) -> list[float]:
    """Return the numbers of nested mappings and lists, without those of time."""
    if isinstance(value, dict):
        return [number for key, inner in value.items() if key != "seconds" for number in _numbers(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in _numbers(inner)]
    return [float(value)] if isinstance(value, int | float) else []


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """One row: its words, and whether its run is interrupted and must end as the uninterrupted one does."""

    name: str
    words: str
    resumed: bool = False


def read_rows(patterns: Iterable[str]) -> list[Row]:
    """Return the rows whose names match one of the patterns."""
    import yaml

    matrix = yaml.safe_load(MATRIX.read_text())
    rows = [
        Row(f"{net}/{rule}", f"{settings} {words}")
        for net, settings in matrix["crossed"].items()
        for rule, words in matrix["rules"].items()
    ]
    rows += [
        Row(f"{section}/{name}", words, section == "resumed")
        for section, members in matrix["rows"].items()
        for name, words in members.items()
    ]
    known = matrix["settings"]
    rows = [Row(row.name, _filled(row.words, known), row.resumed) for row in rows]
    return [row for row in rows if any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns)]


def _filled(words: str, known: dict[str, str]) -> str:
    """Replace each ``@name`` by the settings of this name; of an option that is given twice the later one stays."""
    while "@" in words:
        words = " ".join(known[word[1:]] if word.startswith("@") else word for word in words.split())
    options = [(word.partition("=")[0], word) for word in words.split()]
    last = {name: at for at, (name, _) in enumerate(options)}
    return " ".join(word for at, (name, word) in enumerate(options) if last[name] == at)


def write_inputs(folder: Path) -> None:
    """Write the made-up images and the user's files of the matrix into `folder`."""
    import numpy as np
    import yaml
    from PIL import Image

    for name, content in yaml.safe_load(MATRIX.read_text())["files"].items():
        path = folder / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    draw = np.random.RandomState(0)  # a stream that numpy keeps as it is
    means = draw.randint(60, 196, (10, 32, 32, 3))
    arrays: dict[str, Any] = {}
    for part, count in (("train", 160), ("test", 40)):
        labels = np.arange(count) % 10
        noise = draw.randint(-50, 51, (count, 32, 32, 3))
        arrays |= {f"x_{part}": (means[labels] + noise).astype(np.uint8), f"y_{part}": labels}
        for at, (image, label) in enumerate(zip(arrays[f"x_{part}"], labels, strict=True)):
            path = folder / "folder" / part / f"class{label}" / f"{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    for name in ("images", "cifar10"):
        np.savez(folder / f"{name}.npz", **arrays)


def run_row(row: Row, inputs: Path) -> dict[str, Any]:
    """Train a row and return its status and parts."""
    words = shlex.split(row.words.replace("{inputs}", str(inputs)))
    os.chdir(inputs)  # nothing of the caller's folder is read
    with tempfile.TemporaryDirectory(prefix="fixed-matrix-") as folder:
        root = Path(folder)
        if not row.resumed:
            return _run(words, root / "runs")
        first = _run(words, root / "runs")
        stopped = first["status"] == f"exit {STOPPED}"
        if not stopped:
            for run in _runs(root / "runs"):
                run.cut_back()
        second = _run(words, root / "runs")
        whole = _run(words, root / "whole") if stopped else first
        if whole == second and second["status"] == "complete":
            return second
        return {"status": "resumed run differs", **second, "whole": whole}


def _run(words: list[str], root: Path) -> dict[str, Any]:
    """Give the words to `credit-train` and return its status and the parts of what it trained, several runs' by their seed."""
    os.environ |= {"CREDIT_RUNS": str(root), "CREDIT_DATA": str(Path.cwd() / "data")}
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            code = credit_train()(words)
    except Exception as error:  # a fault of the package: a row like any other
        return {"status": "crashed", "words": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    if code == 2:
        line = told.getvalue().partition("credit-train: ")[2].partition("\n")[0]
        return {"status": "refused", "words": line.replace(str(Path.cwd()), "{inputs}")}
    runs = _runs(root)
    if code not in (0, 1) or not runs:
        return {"status": f"exit {code}", "words": told.getvalue().strip()[-500:]}
    statuses = {run.result()["status"] for run in runs}
    every = [run.parts() for run in runs]
    return {"status": " ".join(sorted(statuses))} | {
        part: " ".join(parts.get(part, "none") for parts in every) for part in PARTS
    }


def _runs(root: Path) -> list[Folder]:
    """Return the folders of finished runs by their seed."""
    runs = [Folder(path.parent) for path in root.glob("*/result.json")]
    return sorted(runs, key=lambda run: run.result()["config"]["seed"])


# ---------------------------------------------------------------- the command


def run_all(rows: list[Row], jobs: int) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield each row with its outcome, in order."""
    with tempfile.TemporaryDirectory(prefix="fixed-matrix-inputs-") as folder:
        inputs = Path(folder)
        write_inputs(inputs)
        run = partial(run_row, inputs=inputs)
        if jobs == 1:
            yield from zip(rows, map(run, rows), strict=True)
            return
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            yield from zip(rows, pool.map(run, rows), strict=True)


def machine() -> dict[str, str]:
    """Return what decides how sums round: the CPU and the versions."""
    import numpy as np
    import torch

    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "cpu": models[0] if models else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def record(rows: list[Row], jobs: int) -> int:
    """Train the rows and write their digests into the record; those of other rows stay where the machine is the same."""
    old = json.loads(RECORD.read_text()) if RECORD.exists() else {"machine": {}, "rows": {}}
    kept = old["rows"] if old["machine"] == machine() else {}
    found: dict[str, Any] = {}
    for row, outcome in run_all(rows, jobs):
        found[row.name] = {"overrides": row.words, **outcome}
        if outcome["status"] not in EXPECTED:
            print(f"{row.name}: {outcome['status']}\n    {row.words}\n    {outcome}", flush=True)
    names = [row.name for row in read_rows(["*"])]
    lines = [f"{json.dumps(name)}: {json.dumps((kept | found)[name])}" for name in names if name in kept | found]
    RECORD.write_text(f'{{"machine": {json.dumps(machine())},\n"rows": {{\n' + ",\n".join(lines) + "\n}}\n")
    counts = Counter(outcome["status"] for outcome in found.values())
    print(f"recorded {len(found)} rows: {', '.join(f'{count} {status}' for status, count in counts.items())}")
    return int(not counts.keys() <= EXPECTED)


def check(rows: list[Row], jobs: int, parts: list[str]) -> int:
    """Train the rows and print those that differ from the record."""
    old = json.loads(RECORD.read_text())
    if old["machine"] != machine():
        print(f"warning: recorded on {old['machine']}, and this is {machine()}: sums may round otherwise")
    differing: list[str] = []
    counts: Counter[str] = Counter()
    for row, outcome in run_all(rows, jobs):
        known = old["rows"].get(row.name, {"status": "not recorded"})
        different = [part for part in ("status", *parts) if known.get(part) != outcome.get(part)]
        if different:
            differing.append(row.name)
            counts.update(different)
            told = f" ({known['status']} before, {outcome['status']} now: {outcome.get('words', '')})" * (
                "status" in different
            )
            print(
                f"differs: {row.name}: {', '.join(different)}{told}\n{outcome.get('traceback', '')}", end="", flush=True
            )
    of_what = f" ({', '.join(f'{part} {count}' for part, count in counts.items())})" if counts else ""
    print(f"{len(differing)} of {len(rows)} rows differ{of_what}")
    return int(bool(differing))


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("record", "check", "list"))
    parser.add_argument("--rows", nargs="+", default=["*"], help="patterns of row names, such as 'mlp/*'")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to compare beside the status")
    given = parser.parse_args()
    rows = read_rows(given.rows)
    if not rows:
        parser.error(f"--rows {' '.join(given.rows)}: no row has such a name")
    if given.command == "list":
        for row in rows:
            print(f"{row.name}: {row.words}")
        return 0
    began = time.perf_counter()
    code = record(rows, given.jobs) if given.command == "record" else check(rows, given.jobs, list(given.parts))
    print(f"{time.perf_counter() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
