"""Reading the pickles that CIFAR and ImageNet32 come as, without running anything that stands in them."""

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

from credit.core.errors import UserError
from credit.core.reading import reading
from credit.data.sources.digests import verified_bytes

_NAMES = {
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "numeric._frombuffer")
    ),
}
"""Everything that a pickle may name, of NumPy 1 and 2."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; any other global is refused, so nothing in the file can run."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in _NAMES:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise UserError(f"it names {module}.{name}, which may be code and was not run; fetch it again")


def read_pickle(path: Path, digest: str) -> dict[str, Any]:
    """Return the dict in one of CIFAR's pickles, after its digest was checked.

    Raises:
        UserError: another digest (nothing is unpickled then), or a pickle that holds more than arrays.
    """
    return unpickle_arrays(io.BytesIO(verified_bytes(path, digest)), path)


def unpickle_arrays(stream: BinaryIO, path: Path, *, wrapped: bool = False) -> dict[str, Any]:
    """Return the dict of arrays, lists and numbers in a pickle of Python 2 or 3; nothing in it can run.

    Args:
        stream: its bytes.
        path: where they come from, for messages.
        wrapped: the dict is the one entry of an array of objects, as ``np.save`` writes it.

    Raises:
        UserError: a pickle that holds more than arrays, is damaged, or holds no dict.
    """
    with reading(path, "a whole pickle of arrays", "it is truncated or has another format: fetch or unpack it again"):
        try:
            content = _ArraysOnly(stream, encoding="latin1").load()
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        content = content.item() if wrapped else content
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not arrays by name")
    return content
