"""Downloads: one at a time, only when needed, and a failure says what to do. No network is used."""

import threading
import time

import pytest

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data.sources import catalog
from credit.data.sources.download import fetch
from tests.support.fakes import arrays, write_npz


def test_processes_that_come_together_download_once(tmp_path):
    file, calls = tmp_path / "root" / "set", []

    def download(kind, root):
        calls.append(kind)
        time.sleep(0.2)
        file.write_text("data")

    threads = [threading.Thread(target=fetch, args=("mnist", file.parent, file.is_file, download)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["mnist"] and file.read_text() == "data"


def test_a_set_that_is_there_is_not_fetched_and_leaves_no_lock(tmp_path):
    fetch("mnist", tmp_path, lambda: True, lambda kind, root: pytest.fail("fetched"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_failed_download_says_why_and_what_else_to_do(tmp_path, failure):
    def download(kind, root):
        raise failure

    with pytest.raises(UserError) as error:
        fetch("cifar10", tmp_path, lambda: False, download)
    message = str(error.value)
    assert str(failure) in message and str(tmp_path) in message and "put them there" in message


def test_reading_downloads_first_where_asked(tmp_path, monkeypatch):
    def download(kind, root):
        write_npz(root / "cifar10.npz", **arrays(shape=(32, 32, 3), classes=10))

    monkeypatch.setattr("credit.data.sources.download._with_torchvision", download)
    got = catalog.read(DataConfig(kind="cifar10", root=str(tmp_path / "new"), download=True))
    assert len(got.y_train) == 40 and got.names[0] == "airplane"
