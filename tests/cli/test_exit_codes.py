"""The exit codes of `credit-train`, which sweeps and schedulers read."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from credit.cli import failures
from credit.cli.train import main
from credit.core import registry
from credit.core.errors import DIVERGED, OK, RESUMABLE
from credit.core.user_files import use_folders
from credit.training.state import checkpoint
from tests.support.disks import largest_file

STOPPING = """
import os
import signal

import credit

calls = 0


@credit.rules.gate("stopping")
def stopping(pre, post):
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return (pre > 0).to(pre.dtype)
"""


def test_a_run_stopped_by_a_signal_returns_the_signals_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "stopping.py").write_text(STOPPING)
    words = [
        "rule=bp",
        "rule.gate=stopping",
        "data=digits",
        "arch.widths=[8]",
        "trainer.epochs=1",
        "trainer.progress=false",
    ]
    before = signal.getsignal(signal.SIGTERM)
    with registry.temporary():
        assert main(["--config-dir", str(tmp_path), *words]) == 128 + signal.SIGTERM
        [folder] = (tmp_path / "runs").iterdir()
        assert checkpoint.steps(folder) and not (folder / "result.json").exists()
        assert main(["--config-dir", str(tmp_path), *words]) == 0
        use_folders([])
    assert (folder / "result.json").exists() and signal.getsignal(signal.SIGTERM) == before
    assert main(["rule=nothing", "data=digits"]) == 2


def test_a_run_that_diverges_and_one_that_the_disk_stops_have_codes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))
    words = ["rule=bp", "data=digits", "arch.widths=[64]", "trainer.steps=3", "trainer.progress=false"]
    assert main([*words, "optimizer.lr=1e30"]) == main([*words, "optimizer.lr=1e30"]) == DIVERGED
    capsys.readouterr()
    with largest_file(16_000):
        assert main(words) == RESUMABLE
    told = capsys.readouterr().err
    assert "checkpoints/step-000000003.ckpt cannot be written (File too large): it takes " in told
    assert told.endswith("The run stopped at step 3; it has no checkpoint. Afterwards the same command goes on\n")
    assert main(words) == OK


def test_an_unforeseen_error_is_one_paragraph_and_a_file_with_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))

    def body() -> int:
        raise ZeroDivisionError("division\nby zero")

    assert failures.reported("credit-train", body) == 1
    [file] = (tmp_path / "runs" / "errors").iterdir()
    told = capsys.readouterr().err
    assert told.startswith(
        "credit-train: ZeroDivisionError: division by zero. This error was not foreseen; the trace is in "
    )
    assert str(file) in told and "Traceback" not in told and "in body" in file.read_text()
    monkeypatch.setenv("CREDIT_DEBUG", "1")
    assert failures.reported("credit-train", body) == 1
    assert "in body" in capsys.readouterr().err


def test_out_of_memory_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise MemoryError

    assert failures.reported("credit-train", body) == 1
    assert "out of memory" in (words := capsys.readouterr().err) and "Write a smaller data.batch_size, or" in words


@pytest.mark.slow
def test_a_closed_output_or_a_full_disk_ends_no_training(tmp_path: Path) -> None:
    words = "rule=bp arch.widths=[8] data.limit_train=200 trainer.progress=false trainer.epochs=3"
    for number, redirection in enumerate(("| head -1", "> /dev/full 2> /dev/full", ">&- 2>&-")):
        runs = tmp_path / str(number)
        line = f"set -o pipefail; {sys.executable} -m credit.cli.train {words} {redirection}"
        done = subprocess.run(["bash", "-c", line], env={**os.environ, "CREDIT_RUNS": str(runs)}, check=False)
        [result] = runs.glob("bp-*/result.json")
        assert done.returncode == 0 and json.loads(result.read_text())["status"] == "complete"


@pytest.mark.slow
def test_a_closed_terminal_stops_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    words = ["rule=bp", "arch.widths=[8]", "data.limit_train=200", "trainer.epochs=100000", "schedule=constant"]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["CREDIT_RUNS"] = str(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "credit.cli.train", *words])
    ends = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/*")) and time.monotonic() < ends:
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    [folder] = tmp_path.glob("bp-*")
    assert checkpoint.steps(folder) and not (folder / "result.json").exists()
