"""What every test shares: one thread, a runs folder of its own, and the real data where it is unpacked."""

import os
from pathlib import Path

import pytest

# Before torch is imported: small tensors on many threads are slower, and one thread gives the same sums everywhere.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point CREDIT_RUNS at the test's temporary folder, so that no test reads or leaves a run in the checkout."""
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def data_root() -> Path:
    """The folder that holds the real data sets, absolute; the test is skipped where there is none."""
    root = Path(os.environ.get("CREDIT_DATA") or Path(__file__).resolve().parent.parent / "data")
    if not root.is_dir():
        pytest.skip(f"no real data in {root}: unpack real data there, or point CREDIT_DATA at it")
    return root.resolve()
