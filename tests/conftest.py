"""What every test shares: one thread, a runs folder of its own, and the real data for the tests that ask for it."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is imported: small tensors on many threads are slower, and one thread gives the same sums everywhere.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

pytest_plugins = ("tests.support.small_runs", "tests.support.table_fixtures")


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_runs_folder(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Point CREDIT_RUNS at a folder of the test's own, so that no test reads or leaves a run in the checkout.

    The folder is in `tmp_path` where a test has one; most tests make no run and are spared a folder.
    """
    if "tmp_path" in request.fixturenames:
        folder = request.getfixturevalue("tmp_path")
    else:
        folder = tmp_path_factory.getbasetemp() / f"test-{next(_numbers)}"
    monkeypatch.setenv("CREDIT_RUNS", str(folder / "runs"))


@pytest.hookimpl(tryfirst=True)  # before pytest looks at what -m asks for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use real data, so that ``-m data`` runs them."""
    for item in items:
        if "need_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


@pytest.fixture
def need_data() -> Callable[..., Path]:
    """Return the function ``need_data(*entries)``: the absolute folder of the real data.

    An entry is the name of a published set or a path in the folder. The test is skipped where one of them is not there.
    """

    def folder(*entries: str) -> Path:
        from credit.data.sources import catalog  # here: imports torch, which the threads above come before

        root = Path(os.environ.get("CREDIT_DATA") or Path(__file__).resolve().parent.parent / "data").resolve()
        for entry in entries:
            whole = entry in catalog.KNOWN and not catalog.missing_files(entry, root)
            if not (whole or (root / f"{entry}.npz").is_file() or (root / entry).exists()):
                pytest.skip(f"{entry} is not in {root}: unpack real data there, or point CREDIT_DATA at it")
        return root

    return folder


@pytest.fixture
def registry_as_it_was() -> Iterator[None]:
    """Forget what a test registers."""
    from credit.core import registry

    with registry.temporary():
        yield
