"""A whole set before any split, and what its labels must be; the parser of IDX files."""

import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data.sources.digests import arrays_digest
from credit.data.sources.images.on_disk import Files
from credit.data.storage import Images, Storage

CHANNELS = (1, 3, 4)
"""Numbers of channels that stored images may have."""


@dataclass(frozen=True)
class Whole:
    """A whole set before limits and splits.

    Attributes:
        shape: of one example.
        outputs: number of outputs that a network needs: of classes, of numbers to predict, or of different tokens.
        train, test: numbers of examples; `train` counts the set's own validation part too.
        storage: how the examples are held.
        val: examples of the set's own validation part, the last ones of `train`; 0: it has none.
        task: what the targets are for, a name of `credit.tasks`: ``classification``, ``regression`` or ``tokens``.
    """

    shape: tuple[int, ...]
    outputs: int
    train: int
    test: int
    storage: Storage = field(default_factory=Images)
    val: int = 0
    task: str = "classification"


@dataclass
class Arrays:
    """A whole set in memory, before any split.

    Attributes:
        x_train, x_test: uint8 (N, C, H, W) or float32 (N, F) as `storage` says; contiguous, on the CPU.
        y_train, y_test: targets: int64 (N,), classes counted from 0; float32 (N, K), numbers; int64 (N, T), the next tokens.
        names: one name an output: of each class, number or token.
        storage: how the examples are held.
        files: images that stay files, training first; `x_train` and `x_test` are then empty.
        val: examples of the set's own validation part, the last ones of `y_train`; 0: it has none.
        notes: what a user must know of how the set was read.
        task: as of `Whole`.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    names: list[str]
    storage: Storage = field(default_factory=Images)
    files: Files | None = None
    val: int = 0
    notes: list[str] = field(default_factory=list)
    task: str = "classification"

    @property
    def labels(self) -> tuple[Tensor, Tensor]:
        """The labels of both parts that splits are stratified by, int64 (N,); 0 where the targets are no classes."""
        parts = self.y_train, self.y_test
        if self.task == "classification":
            return parts
        train, test = (torch.zeros(len(part), dtype=torch.int64) for part in parts)
        return train, test

    def tensors(self) -> dict[str, Tensor]:
        """Return the four arrays by name."""
        return {"x_train": self.x_train, "y_train": self.y_train, "x_test": self.x_test, "y_test": self.y_test}

    def digest(self) -> str:
        """Return the SHA-256 (hex) of examples and labels; of images that stay files that of their names and sizes."""
        found = arrays_digest(self.tensors())
        return found if self.files is None else hashlib.sha256(f"{found} {self.files.digest()}".encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """The functions that inspect and read one kind of data set; both take the checked data options.

    `drawn`: every split seed has a sample of its own.
    """

    look: Callable[[DataConfig], Whole]
    read: Callable[[DataConfig], Arrays]
    drawn: bool = False


def sklearn_folder() -> Path:
    """Return the folder of scikit-learn, without the second that importing its data sets takes."""
    spec = importlib.util.find_spec("sklearn")
    return Path((spec.submodule_search_locations or ["."])[0] if spec else ".")


def parse_idx(content: bytes, path: Path) -> np.ndarray:
    """Return the uint8 array of an IDX file (MNIST's format: magic 0x0000 08 ndim, big-endian sizes, raw bytes).

    Raises:
        UserError: another format, or fewer or more bytes than its header says.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: not an IDX file of unsigned bytes (first bytes {content[:4].hex(' ') or 'none'})")
    ndim = content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise UserError(f"{path}: its header has {ndim} sizes, and the file ends before them (truncated?)")
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist())
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path}: its header says {shape}, but {max(len(content) - start, 0)} bytes follow (truncated?)"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def check_classes(path: Path | str, labels: Tensor, names: Sequence[str] | None) -> None:
    """Refuse labels of a whole set that make no classification, or count classes of which there is no example.

    Args:
        path: of the set, for messages.
        labels: int64 (N,), of all parts.
        names: of the classes; with names a class may be without examples.

    Raises:
        UserError: a label beyond the names, labels that are left out below the largest, or a single class.
    """
    present = labels.unique().tolist()
    count = present[-1] + 1
    if names is not None and count > len(names):
        raise UserError(f"{path}: label {count - 1}, but only {len(names)} names (labels count from 0)")
    if len(present) < 2:
        raise UserError(f"{path}: every label is {present[0]}, and a classifier needs two or more classes")
    if names is None and len(present) < count:
        first = next(place for place, label in enumerate(present) if place != label)
        lacking = (
            f"label {first} has"
            if count - len(present) == 1
            else f"{count - len(present)} of the labels, {first} the first, have"
        )
        renumbered = (
            f"y - {present[0]}" if present[0] + len(present) == count else "np.unique(y, return_inverse=True)[1]"
        )
        raise UserError(
            f"{path}: labels go up to {count - 1}, but {lacking} no example, and each would count as a class. Number the "
            f"classes from 0 without gaps ({renumbered}, of all parts together), or, if they are meant, save names=[...] with "
            f"the {count} classes' names"
        )


def some(names: Sequence[str], one: str, several: str) -> str:
    """Return the count and the first of some names: ``class 7`` or ``12 classes (1, 2, 3, ...)``."""
    if len(names) == 1:
        return f"{one} {names[0]}"
    return f"{len(names)} {several} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
