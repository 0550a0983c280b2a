"""The exit codes of `credit-train`, which sweeps and schedulers read."""

import signal
from pathlib import Path

import pytest

from credit.cli.train import main
from credit.core import registry
from credit.core.user_files import use_folders
from credit.training.state import checkpoint

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
