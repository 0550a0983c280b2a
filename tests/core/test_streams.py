"""Streams that cannot be written fall silent, and what is computed goes on."""

import io
import os
import sys

from credit.core.streams import Lasting, lasting_streams


class Full(io.StringIO):
    """A stream on a full disk, which was written to so often."""

    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails_is_written_to_once():
    full = Full()
    stream = Lasting(full)
    for _ in range(3):
        print("a line", file=stream, flush=True)
    assert full.tried == 1 and not stream.isatty()


def test_a_closed_pipe_ends_nothing_and_leaves_nothing_to_flush():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = Lasting(pipe)
        stream.writelines(["some ", "words\n"])
        stream.flush()
        stream.write("more")
    # Closing the pipe flushed what was buffered, without an error.


def test_streams_are_put_back(capsys):
    before = sys.stdout, sys.stderr
    with lasting_streams():
        print("a line")
        assert isinstance(sys.stdout, Lasting) and sys.stdout.encoding == before[0].encoding
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr().out == "a line\n"
