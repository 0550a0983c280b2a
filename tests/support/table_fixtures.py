"""What the tests of tables share: a folder of the user's own, forgotten afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from credit.core.user_files import use_folders
from credit.runs.provenance import COMMAND
from tests.support.table_digits import NAME, Digits, copy_runs, train_all


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for configuration files, ``conf`` in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf"
    folder.mkdir()
    yield folder
    use_folders([])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Digits, Path]]:
    """The table `tests.support.table_digits`, trained, and the folder its runs lie in."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDIT_RUNS", str(folder / "runs"))
        patch.setenv(COMMAND, f"credit table {NAME}")
        yield train_all(folder / "conf"), folder / "runs"


@pytest.fixture
def digits(trained: tuple[Digits, Path]) -> Digits:
    """The same in the test's own runs folder, to be changed at will."""
    copy_runs(trained[1])
    return trained[0]
