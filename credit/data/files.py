"""Reading data files into arrays: IDX and ``.npz``. Digest first, then a parser that cannot run code."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from credit.config.schema import DataConfig
from credit.data.digests import arrays_digest, check_sidecar, corrupt, member_crcs
from credit.data.on_disk import Files
from credit.data.storage import Images, Storage
from credit.errors import UserError

IMAGE_KEYS = ("x_train", "x_test")
LABEL_KEYS = ("y_train", "y_test")


@dataclass(frozen=True)
class Whole:
    """A whole set before limits and splits: an example's shape, classes, numbers of training and test examples, storage."""

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    storage: Storage = field(default_factory=Images)


@dataclass
class Arrays:
    """A whole set in memory, before any split.

    Attributes:
        x_train, x_test: uint8 (N, C, H, W) or float32 (N, F) as `storage` says; contiguous, on the CPU.
        y_train, y_test: int64 (N,), classes counted from 0.
        names: one name a class.
        storage: how the examples are held.
        files: images that stay files, training first; `x_train` and `x_test` are then empty.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    names: list[str]
    storage: Storage = field(default_factory=Images)
    files: Files | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the four arrays by name."""
        return {"x_train": self.x_train, "y_train": self.y_train, "x_test": self.x_test, "y_test": self.y_test}

    def digest(self) -> str:
        """Return the SHA-256 (hex) of examples and labels; of images that stay files that of their names and sizes."""
        found = arrays_digest(self.tensors())
        return found if self.files is None else hashlib.sha256(f"{found} {self.files.digest()}".encode()).hexdigest()


def data_root(cfg: DataConfig) -> Path:
    """Return the folder data lies in: ``data.root``, else ``$CREDIT_DATA``, else ``data`` in the current folder."""
    return Path(cfg.root or os.environ.get("CREDIT_DATA") or "data")


def parse_idx(content: bytes, path: Path) -> np.ndarray:
    """Return the uint8 array of an IDX file (MNIST's format: magic 0x0000 08 ndim, big-endian sizes, raw bytes).

    Raises:
        UserError: another format, or fewer or more bytes than its header says.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: not an IDX file of unsigned bytes (first bytes {content[:4].hex(' ') or 'none'})")
    ndim = content[3]
    start = 4 + 4 * ndim
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist())
    if len(shape) != ndim or len(content) - start != int(np.prod(shape)):
        raise UserError(
            f"{path}: its header says {shape}, but {max(len(content) - start, 0)} bytes follow (truncated?)"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


@dataclass
class NpzHead:
    """What an ``.npz`` set says without reading its images: shapes as stored, labels, names."""

    shapes: dict[str, tuple[int, ...]]
    labels: dict[str, Tensor] = field(default_factory=dict)
    names: list[str] | None = None


def read_npz(path: Path) -> Arrays:
    """Return the set in an ``.npz`` with ``x_train y_train x_test y_test`` and, optionally, ``names``.

    Images are uint8 (N, H, W), (N, H, W, C) or (N, C, H, W); labels are integers from 0. Objects are never unpickled.

    Raises:
        UserError: not an npz, missing or unfit members, or a member whose bytes do not match their checksum.
    """
    check_sidecar(path)
    head = npz_head(path)
    images = {}
    with _open(path) as archive:
        for key in IMAGE_KEYS:
            images[key] = channels_first(torch.from_numpy(_member(path, archive, key)))
    classes = class_count(path, head)
    names = head.names or [str(c) for c in range(classes)]
    return Arrays(images["x_train"], head.labels["y_train"], images["x_test"], head.labels["y_test"], names)


def npz_head(path: Path) -> NpzHead:
    """Check an ``.npz`` set by its headers and labels, without reading its images (milliseconds).

    Raises:
        UserError: as `read_npz`, but for the images' checksums.
    """
    with _open(path) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [key for key in (*IMAGE_KEYS, *LABEL_KEYS) if key not in found]
        if missing:
            raise UserError(
                f"{path}: has no {', '.join(missing)} (it holds {', '.join(found) or 'nothing'}). "
                "Save it as np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
            )
        head = NpzHead({key: _image_shape(path, archive, key) for key in IMAGE_KEYS})
        for key in LABEL_KEYS:
            head.labels[key] = _labels(path, key, _member(path, archive, key))
        if "names" in found:
            head.names = [str(name) for name in _member(path, archive, "names").tolist()]
    for images, labels in zip(IMAGE_KEYS, LABEL_KEYS, strict=True):
        if head.shapes[images][0] != len(head.labels[labels]):
            raise UserError(
                f"{path}: {head.shapes[images][0]} images in {images}, {len(head.labels[labels])} in {labels}"
            )
        if not len(head.labels[labels]):
            raise UserError(f"{path}: {images} is empty; both parts need at least one image")
    if head.shapes["x_train"][1:] != head.shapes["x_test"][1:]:
        raise UserError(
            f"{path}: training images are {head.shapes['x_train'][1:]}, test images {head.shapes['x_test'][1:]}; "
            "all must have one size"
        )
    class_count(path, head)
    return head


def npz_array(path: Path, key: str) -> np.ndarray:
    """Return one array of an ``.npz``; objects are never unpickled.

    Raises:
        UserError: not an npz, no such member, or bytes that do not match their checksum.
    """
    with _open(path) as archive:
        _refuse_without(path, archive, key)
        return _member(path, archive, key)


def npz_header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of one array of an ``.npz``, without reading it.

    Raises:
        UserError: not an npz, no such member, or a damaged header.
    """
    with _open(path) as archive:
        _refuse_without(path, archive, key)
        return _header(path, archive, key)


def _refuse_without(path: Path, archive: zipfile.ZipFile, key: str) -> None:
    found = [name.removesuffix(".npy") for name in archive.namelist()]
    if key not in found:
        raise UserError(f"{path}: has no {key} (it holds {', '.join(found) or 'nothing'})")


def class_count(path: Path, head: NpzHead) -> int:
    """Return the number of classes: that of the names, else the largest label plus one."""
    largest = int(max(labels.max() for labels in head.labels.values()))
    if head.names is not None and largest >= len(head.names):
        raise UserError(f"{path}: label {largest}, but only {len(head.names)} names (labels count from 0)")
    return len(head.names) if head.names is not None else largest + 1


def chw(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W) of images stored as (N, H, W), (N, H, W, C) or (N, C, H, W)."""
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    if shape[3] in (1, 3, 4):
        return shape[3], shape[1], shape[2]
    return shape[1], shape[2], shape[3]


def channels_first(images: Tensor) -> Tensor:
    """Return images of any of `chw`'s layouts as contiguous (N, C, H, W)."""
    if images.dim() == 3:
        return images.unsqueeze(1).contiguous()
    if images.shape[3] in (1, 3, 4):
        return images.permute(0, 3, 1, 2).contiguous()
    return images.contiguous()


def _header(path: Path, archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _reporting(path, archive, key), archive.open(key + ".npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        return shape, dtype


def _image_shape(path: Path, archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    shape, dtype = _header(path, archive, key)
    if dtype != np.uint8:
        raise UserError(
            f"{path}: {key} is {dtype}; images are held as whole numbers 0..255 in one byte. "
            f"If they lie in 0..1, save ({key} * 255).round().astype('uint8')"
        )
    if len(shape) == 3 or (len(shape) == 4 and (shape[3] in (1, 3, 4) or shape[1] in (1, 3, 4))):
        return tuple(shape)
    raise UserError(
        f"{path}: {key} has shape {tuple(shape)}; write (N, H, W), (N, H, W, C) or (N, C, H, W), C of 1, 3, 4"
    )


def _labels(path: Path, key: str, labels: np.ndarray) -> Tensor:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {key} is {labels.dtype} of shape {labels.shape}; write one whole number an image, from 0"
        )
    if labels.size and int(labels.min()) < 0:
        raise UserError(f"{path}: {key} holds label {int(labels.min())}; classes are counted from 0")
    return torch.from_numpy(labels.astype(np.int64))


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"corrupt data: {path} ({path.stat().st_size} bytes) is not a whole .npz: {error}. "
            "It is truncated or another format; delete it and make or copy it again."
        ) from error


@contextmanager
def _reporting(path: Path, archive: zipfile.ZipFile, key: str) -> Iterator[None]:
    """Turn what zipfile and NumPy say of a damaged member into an error that names file, member and both checksums."""
    try:
        yield
    except UserError:
        raise
    # NotImplementedError is zipfile's word for a compression method that a flipped bit made up.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
        expected, found = member_crcs(path, archive.getinfo(key + ".npy"))
        if expected != found:
            raise corrupt(path, "crc32", expected, found, f"member {key}.npy") from error
        raise UserError(f"{path}: {key} cannot be read: {error}. Save it as a plain NumPy array") from error


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with _reporting(path, archive, key), archive.open(key + ".npy") as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # the checksum is compared at the member's end
        return array
