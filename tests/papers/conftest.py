"""What the tests of tables share: a folder of the user's own, forgotten afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from credit.config.plugins import use_folders


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for configuration files, ``conf`` in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf"
    folder.mkdir()
    yield folder
    use_folders([])
