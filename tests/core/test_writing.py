"""Files are written whole or not at all, and what the disk refuses is an error in words."""

import errno
import os
from pathlib import Path

import pytest

from credit.core.errors import UserError
from credit.core.writing import DiskError, check_room, write_json, write_whole, writing
from tests.support.disks import largest_file


def test_a_file_that_the_disk_refuses_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    with largest_file(4096), pytest.raises(DiskError) as told:
        write_whole(path, bytes(10_000))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["result.json"]
    free = os.statvfs(tmp_path)
    assert f"{path} cannot be written (File too large): it takes 10,000 bytes, and " in str(told.value)
    assert free.f_bavail > 0 and " are free on that disk" in str(told.value)


def test_a_folder_that_is_gone_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file or directory.*the folder was deleted or moved; put it back"):
        write_whole(tmp_path / "gone" / "a", b"a")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "delete what is not needed"), (errno.EROFS, "make the folder writable")]
)
def test_the_advice_is_that_of_the_reason(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(DiskError, match=advice), writing(tmp_path / "a", 3):
        raise OSError(number, os.strerror(number))


def test_room_is_checked_without_a_change_of_the_disk(tmp_path: Path) -> None:
    check_room(tmp_path / "a" / "b", 1000)
    with pytest.raises(DiskError, match="needs at least 1,000,000,000,000,000,000 bytes, and .* are free"):
        check_room(tmp_path / "a" / "b", 10**18)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file; set CREDIT_RUNS to another folder"):
        check_room(tmp_path / "file" / "b", 1000)
    assert os.listdir(tmp_path) == ["file"]
