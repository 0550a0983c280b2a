"""Files that cannot be read are refused in one paragraph: what the file is, what is wrong with it, what to do."""

import os
import socket
from pathlib import Path

import pytest

from credit.core.errors import UserError
from credit.core.reading import read_text, reading, regular_size


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")  # opening it would wait for a writer
    Path("link").symlink_to("nothing")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        for name, words in {
            "pipe": "pipe is a named pipe; give a regular file",
            "folder": "folder is a folder; give a regular file",
            "link": "link is a link to nothing, which is not there; copy the file itself",
            "socket": "socket is a socket; give a regular file",
            "/dev/zero": "/dev/zero is a device; give a regular file",
            "nowhere": "nowhere cannot be read: .*No such file or directory",
            "nul\0byte": "cannot be read: .*null",
        }.items():
            with pytest.raises(UserError, match=words), reading(Path(name), "a picture", "draw it again"):
                raise AssertionError("the block was entered")


def test_every_exception_becomes_one_line_with_the_file_and_the_remedy(tmp_path: Path):
    path = tmp_path / "picture"
    path.write_bytes(b"abc")
    for error, words in {
        ValueError("bad\n  header"): "bad header",
        KeyError(): "KeyError",
        MemoryError("Unable to allocate 72 TiB"): "it asks for more memory than there is",
        RuntimeError(
            "GLOBAL os.system was not an allowed global"
        ): "it names os.system, which may be code and was not run",
        ValueError("use allow_pickle=True"): "it has objects that may be code and were not loaded, or another format",
        OSError("x" * 1000): "x" * 200,
    }.items():
        with pytest.raises(UserError) as caught, reading(path, "a picture", "draw it again"):
            raise error
        assert str(caught.value) == f"corrupt data: {path} (3 bytes) is not a picture: {words}; draw it again"
    with pytest.raises(UserError, match="^as it is$"), reading(path, "a picture", "draw it again"):
        raise UserError("as it is")
    with pytest.raises(KeyboardInterrupt), reading(path, "a picture", "draw it again"):
        raise KeyboardInterrupt


def test_text_is_utf_8(tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes("größe".encode())
    assert read_text(path) == "größe" and regular_size(path) == 7
    path.write_bytes("größe".encode("latin-1"))
    with pytest.raises(UserError, match="is not a text in UTF-8: .*invalid start byte; save it in that encoding"):
        read_text(path)
