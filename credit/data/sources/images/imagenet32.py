"""ImageNet32: ILSVRC2012 downsampled to 32x32 (Chrabaszcz et al. 2017, arXiv 1707.08819), from the files of image-net.org.

They come as pickles (``train_data_batch_1`` to ``_10``, ``val_data``) or as ``.npz`` of the same names, each with ``data`` uint8
(N, 3072), all red values of an image first, then green, then blue, row by row, and ``labels`` 1 to 1000. The public validation
set is the test part: the set has no labels for its own.

1,281,167 + 50,000 images are 4.1 GB as bytes. They are held once; each file is read into its place among them.
"""

import io
import pickletools
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from credit.core.config.data_files import data_root
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data.sources.digests import check_sidecar
from credit.data.sources.files import Arrays, Whole
from credit.data.sources.npz import npz_array, npz_header
from credit.data.sources.pickles import unpickle_arrays

TRAIN = tuple(f"train_data_batch_{number}" for number in range(1, 11))
TEST = "val_data"
CLASSES = 1000
SHAPE = (3, 32, 32)
FOLDER = "imagenet32"
"""Folder inside the data folder; the archives may be unpacked in folders of their own in it."""

_SIZE = 3 * 32 * 32
_LARGE = 2**14  # bytes of a pickle's item beyond which it is an array's content


def look(cfg: DataConfig) -> Whole:
    """Return the shape, number of classes and sizes of the set, from the files' headers.

    Raises:
        UserError: missing files (which, from where, where to put them), or files that hold something else.
    """
    train, test = _files(cfg)
    return Whole(SHAPE, CLASSES, sum(map(_count, train)), _count(test))


def read(cfg: DataConfig) -> Arrays:
    """Return the whole set: images uint8 (N, 3, 32, 32) in the order of the files, labels from 0.

    Raises:
        UserError: as `look`; damaged files, labels outside 1 to 1000, pickles that hold more than arrays.
    """
    train, test = _files(cfg)
    x_train, y_train = _read(train)
    x_test, y_test = _read([test])
    names = [str(label) for label in range(1, CLASSES + 1)]  # the files name classes by number only
    return Arrays(x_train, y_train, x_test, y_test, names)


def _files(cfg: DataConfig) -> tuple[list[Path], Path]:
    """Return the ten training files and the test file, pickles or npz."""
    if cfg.download:
        raise UserError(
            f"data.download=true with data=imagenet32: image-net.org gives it to those who log in. {_where_from(cfg)}"
        )
    folder = data_root(cfg) / FOLDER
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    found = {
        name: next((path for place in places for path in (place / name, place / f"{name}.npz") if path.is_file()), None)
        for name in (*TRAIN, TEST)
    }
    missing = [name for name, path in found.items() if path is None]
    if missing:
        there = "" if len(missing) == len(found) else " (the others are there)"
        raise UserError(
            f"data=imagenet32: ImageNet32 is not in {folder}{'' if folder.is_dir() else ', which does not exist'}.\n"
            f"  missing: {', '.join(missing)}{there}, each as it is or with .npz behind it\n{_where_from(cfg)}"
        )
    train = [path for name in TRAIN if (path := found[name]) is not None]
    test = found[TEST]
    assert test is not None
    return train, test


def _where_from(cfg: DataConfig) -> str:
    return (
        "Fetch Imagenet32_train.zip and Imagenet32_val.zip (or Imagenet32_train_npz.zip and Imagenet32_val_npz.zip) from "
        "https://image-net.org/download-images.php, 'Downsampled image data', and unpack both into "
        f"{data_root(cfg) / FOLDER}, or say where that folder lies: CREDIT_DATA=<folder> or data.root=<folder>"
    )


def _read(files: list[Path]) -> tuple[Tensor, Tensor]:
    """Return the images (N, 3, 32, 32) and labels (N,) of files, one after the other in one tensor."""
    counts = [_count(path) for path in files]
    images = torch.empty(sum(counts), *SHAPE, dtype=torch.uint8)
    labels, done = [], 0
    for path, count in zip(files, counts, strict=True):
        check_sidecar(path)
        data, given = _arrays(path)
        if data.shape != (count, _SIZE) or data.dtype != np.uint8:
            raise UserError(f"{path}: 'data' is {data.dtype} of shape {data.shape}, not uint8 of ({count}, {_SIZE})")
        labels.append(_labels(path, given, count))
        images[done : done + count].view(count, _SIZE).copy_(torch.from_numpy(data))
        done += count
        del data  # before the next file is read
    return images, torch.cat(labels)


def _labels(path: Path, given: np.ndarray, count: int) -> Tensor:
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise UserError(f"{path}: 'labels' is {given.dtype} of shape {given.shape}, not {count} whole numbers")
    if count and not 1 <= given.min() <= given.max() <= CLASSES:
        raise UserError(
            f"{path}: labels from {given.min()} to {given.max()}; ImageNet32 counts its classes from 1 to {CLASSES}"
        )
    return torch.from_numpy(given.astype(np.int64)) - 1


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a file's ``data`` and ``labels``."""
    if path.suffix == ".npz":
        return npz_array(path, "data"), npz_array(path, "labels")
    with path.open("rb") as stream:
        held = unpickle_arrays(stream, path)
    lacking = [key for key in ("data", "labels") if key not in held]
    if lacking:
        raise UserError(
            f"{path}: has no {' and no '.join(lacking)} (it holds {', '.join(map(str, held)) or 'nothing'})"
        )
    return np.asarray(held["data"]), np.asarray(held["labels"])


def _count(path: Path) -> int:
    """Return how many images a file holds, without reading them."""
    if path.suffix == ".npz":
        shape, _ = npz_header(path, "data")
        count = shape[0] if len(shape) == 2 and shape[1] == _SIZE else None
    else:
        count = _pickled_count(path)
    if not count:
        raise UserError(
            f"{path}: holds no images of 3 x 32 x 32 (uint8 (N, {_SIZE}) by the name of data): it is no file of ImageNet32"
        )
    return count


def _pickled_count(path: Path) -> int | None:
    """Return N of the array's shape (N, 3072) as the pickle's instructions have it; nothing of it is made or run."""
    before: object = None
    last: object = None
    with path.open("rb", buffering=0) as raw, _Skimmed(raw) as stream:
        try:
            for code, argument, _ in pickletools.genops(stream):
                if code.name == "TUPLE2" and last == _SIZE and isinstance(before, int):
                    return before
                before, last = last, argument
        except Exception:  # cut short, or no pickle
            return None
    return None


class _Skimmed(io.BufferedReader):
    """A pickle's bytes for `pickletools.genops`, which the content of large arrays is left out of."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < _LARGE:
            return super().read(size)
        self.seek(size, io.SEEK_CUR)
        return _LeftOut.of(size)


class _LeftOut(bytes):
    """Says that it is so many bytes."""

    size: int

    @classmethod
    def of(cls, size: int) -> Self:
        out = cls()
        out.size = size
        return out

    def __len__(self) -> int:
        return self.size
