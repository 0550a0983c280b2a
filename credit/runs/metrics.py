"""A run's metrics in ``metrics.jsonl``: one JSON object a line, one line for each step that was evaluated or measured.

Every line has ``epoch``, ``step`` and ``lr``. Keys such as ``test_top1`` are present where the network was evaluated, and a
diagnostic's name where it measured (``trainer.measure_every`` may be shorter than ``trainer.eval_every``).
"""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

from credit.core.reading import reading
from credit.core.writing import DiskError, writing

METRICS = "metrics.jsonl"


class MetricsFile:
    """The metrics file of a run, open for appending; a line is synced to the disk when `append` returns.

    Args:
        folder: the run's folder, which must exist.

    Raises:
        DiskError: the file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS
        with writing(self._path, 0):
            # Closed by close(), it outlives this call. Unbuffered: what the disk refuses is not written again at the end.
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def append(self, row: dict[str, Any]) -> None:
        """Append one line; numbers that are not finite become null, because JSON has none.

        Raises:
            DiskError: the disk refuses the line, of which nothing is left in the file, or the file was deleted or moved.
        """
        line = (json.dumps(finite_or_null(row), allow_nan=False) + "\n").encode()
        self.check_in_place()
        before = self.size()
        with writing(self._path, len(line)):
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise

    def check_in_place(self) -> None:
        """Check that the file is still in the run's folder: a file that is open can be written after it was deleted or moved.

        Raises:
            DiskError: it is not.
        """
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno())):
                return
        except OSError:
            pass
        raise DiskError(
            f"{self._path} was deleted or moved while the run trained, so that nothing more of the run would be kept. To go on "
            "from the last checkpoint, put its folder back; without the folder the run begins anew"
        )

    def size(self) -> int:
        """Return the file's length in bytes, which a checkpoint records."""
        return self._file.seek(0, os.SEEK_END)

    def cut_back(self, size: int) -> bool:
        """Truncate the file to `size` bytes; return False if the file is shorter than that already."""
        present = self.size()
        with writing(self._path, 0):
            self._file.truncate(min(size, present))
            os.fsync(self._file.fileno())
        return present >= size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run as a list of rows, oldest first; empty without a file.

    A last line that a crash cut short is left out.

    Raises:
        UserError: the file is damaged: not text, or a line that is no row (a JSON object with a whole number ``step``).
    """
    path, rows = folder / METRICS, []
    if not path.exists():
        return []
    with reading(path, "a run's metrics", f"train the run again: its command with rerun=true, or delete {folder}"):
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError(f"line {number} is no row of metrics")
            rows.append(row)
    return rows


def finite_or_null(value: Any) -> Any:
    """Return plain JSON values with every number that is not finite replaced by None."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
