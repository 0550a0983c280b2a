"""Reading the pickles that CIFAR and ImageNet32 come as, without running anything that stands in them."""

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

from credit.core.errors import UserError
from credit.data.sources.digests import verified_bytes


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; any other global is refused, so nothing in the file can run."""

    def find_class(self, module: str, name: str) -> Any:
        array = module.startswith("numpy") and name in ("_reconstruct", "_frombuffer", "ndarray", "dtype")
        if array or (module, name) == ("_codecs", "encode"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise UserError(f"a data pickle names {module}.{name}, which is no array: refused, and nothing in it was run")


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
    try:
        content = _ArraysOnly(stream, encoding="latin1").load()
        content = content.item() if wrapped else content
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # What unpickling says of a damaged file; the last four are what NumPy makes of nonsense.
    except (
        pickle.UnpicklingError,
        EOFError,
        UnicodeError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
    ) as error:
        raise UserError(
            f"corrupt data: {path} is no whole pickle of arrays ({str(error)[:200]}): truncated or another format; delete it and "
            "fetch or unpack it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not arrays by name")
    return content
