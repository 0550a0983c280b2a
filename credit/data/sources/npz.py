"""Sets in ``.npz`` files of one's own: images as bytes, or rows of numbers. Objects in them are never unpickled."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.core.reading import reading, reason
from credit.data.sources.digests import check_sidecar, corrupt, member_crcs
from credit.data.sources.files import CHANNELS, Arrays, Whole, check_classes
from credit.data.storage import Rows

PARTS = ("train", "val", "test")
"""Parts of an ``.npz`` set, its arrays named ``x_<part>`` and ``y_<part>``; `val` may be left out."""
LAYOUTS = ("NHWC", "NCHW")
"""Orders of the dimensions of stored images with channels: channels last or first."""


@dataclass
class NpzHead:
    """Header of an ``.npz`` set, read without its examples: stored shapes and labels by part, class names, layout of images.

    `rows`: the examples are rows of numbers, not images.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)
    names: list[str] | None = None
    layout: str | None = None
    rows: bool = False

    @property
    def task(self) -> str:
        """What the targets are for: ``classification`` of labels, ``regression`` of floats."""
        return "regression" if self.labels["train"].is_floating_point() else "classification"

    @property
    def whole(self) -> Whole:
        """The set before limits and splits."""
        counts = {part: len(labels) for part, labels in self.labels.items()}
        shape, val = self.shapes["train"][1:], counts.get("val", 0)
        if self.task == "regression":
            outputs = self.labels["train"].shape[1]
        else:
            largest = int(max(labels.max() for labels in self.labels.values()))
            outputs = largest + 1 if self.names is None else len(self.names)
        if self.rows:
            return Whole(shape, outputs, counts["train"] + val, counts["test"], Rows(), val, self.task)
        chw = (1, *shape) if len(shape) == 2 else shape if self.layout == "NCHW" else (shape[2], *shape[:2])
        return Whole(chw, outputs, counts["train"] + val, counts["test"], val=val, task=self.task)


def read_npz(path: Path) -> Arrays:
    """Return the set in an ``.npz`` with ``x_train y_train x_test y_test`` and, optionally, ``x_val y_val names layout``.

    Images are uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), rows of numbers floats (N, F); labels are integers from 0, numbers to
    predict floats (N,) or (N, K).

    Raises:
        UserError: not an npz, missing or unfit members, a number of a row that is not finite, or a member whose bytes do
            not match their checksum.
    """
    check_sidecar(path)
    head = npz_head(path)
    whole, examples = head.whole, {}
    with _open(path) as archive:
        for part in head.labels:
            stored = torch.from_numpy(_member(path, archive, f"x_{part}"))
            if head.rows:
                examples[part] = stored.float().contiguous()
                _check_finite(path, f"x_{part}", examples[part])
                continue
            stored = stored.permute(0, 3, 1, 2) if head.layout == "NHWC" and stored.dim() == 4 else stored
            examples[part] = stored.reshape(-1, *whole.shape).contiguous()
    names = head.names or [f"{'y' * (head.task == 'regression')}{place}" for place in range(whole.outputs)]
    x_train, y_train = (
        torch.cat([held["train"], held["val"]]) if whole.val else held["train"] for held in (examples, head.labels)
    )
    notes = [f"{path}: x_val, y_val are the validation part"] if whole.val else []
    return Arrays(
        x_train, y_train, examples["test"], head.labels["test"], names, whole.storage, val=whole.val, notes=notes,
        task=head.task,
    )  # fmt: skip


def _check_finite(path: Path, key: str, rows: Tensor) -> None:
    finite = rows.isfinite().all(1)
    if not finite.all():
        raise UserError(
            f"{path}: row {int((~finite).nonzero()[0])} of {key} has a number that is not finite, or too large for float32; "
            "replace it or leave the row out"
        )


def npz_head(path: Path) -> NpzHead:
    """Check an ``.npz`` set by its headers and labels, without reading its examples (milliseconds).

    Raises:
        UserError: as `read_npz`, but for the examples themselves.
    """
    head = NpzHead()
    with _open(path) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        parts = _npz_parts(path, found)
        for part in parts:
            head.shapes[part], head.rows = _example_shape(path, archive, f"x_{part}")
            head.labels[part] = _labels(path, f"y_{part}", _member(path, archive, f"y_{part}"))
        if "names" in found:
            head.names = [str(name) for name in np.atleast_1d(_member(path, archive, "names")).tolist()]
        given = str(_member(path, archive, "layout")) if "layout" in found else None
    for part in parts:
        count, labelled, shape = head.shapes[part][0], len(head.labels[part]), head.shapes[part][1:]
        if count != labelled:
            raise UserError(f"{path}: {count} examples in x_{part}, {labelled} in y_{part}")
        if not count:
            raise UserError(f"{path}: x_{part} is empty; every part needs at least one example")
        if shape != head.shapes["train"][1:]:
            raise UserError(
                f"{path}: examples of x_train are {head.shapes['train'][1:]}, those of x_{part} {shape}; all must have one size"
            )
    head.layout = None if head.rows else _layout(path, head.shapes["train"], given)
    if len({(one.dtype, one.shape[1:]) for one in head.labels.values()}) > 1:
        kinds = ", ".join(f"y_{part} {one.dtype} {tuple(one.shape)}" for part, one in head.labels.items())
        raise UserError(f"{path}: targets are {kinds}; all parts have labels, or floats of one number of columns")
    if head.task == "regression":
        if head.names is not None and len(head.names) != head.labels["train"].shape[1]:
            raise UserError(f"{path}: {len(head.names)} names for {head.labels['train'].shape[1]} columns of targets")
        return head
    check_classes(path, torch.cat(list(head.labels.values())), head.names)
    return head


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of an ``.npz``.

    Raises:
        UserError: not an npz.
    """
    with _open(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


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


def _header(path: Path, archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _reporting(path, archive, key), archive.open(key + ".npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        return shape, dtype


def _example_shape(path: Path, archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], bool]:
    """Return the stored shape of a part's examples, and whether these are rows of numbers."""
    shape, dtype = _header(path, archive, key)
    if dtype.kind == "f" and len(shape) == 2 and shape[1]:
        return shape, True
    if dtype != np.uint8:
        raise UserError(
            f"{path}: {key} is {dtype}; images are held as whole numbers 0..255 in one byte. "
            f"If they lie in 0..1, save ({key} * 255).round().astype('uint8')"
        )
    if len(shape) == 3 or (len(shape) == 4 and (shape[3] in CHANNELS or shape[1] in CHANNELS)):
        return shape, False
    raise UserError(
        f"{path}: {key} has shape {tuple(shape)}; write (N, H, W), (N, H, W, C) or (N, C, H, W), C of 1, 3, 4; rows "
        f"of numbers are floats (N, F): {key}.astype('float32')"
    )


def _npz_parts(path: Path, found: Sequence[str]) -> list[str]:
    """Return the parts that a set's members give."""
    parts = [part for part in PARTS if part != "val" or {"x_val", "y_val"} & set(found)]
    keys = [f"{axis}_{part}" for part in parts for axis in "xy"]
    missing = [key for key in keys if key not in found]
    if missing:
        raise UserError(
            f"{path}: has no {', '.join(missing)} (it holds {', '.join(found) or 'nothing'}). "
            "Save it as np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...), and x_val=... y_val=... where the set "
            "has a validation part of its own"
        )
    unread = [name for name in found if name[:2].lower() in ("x_", "y_") and name not in keys]
    if unread:
        raise UserError(
            f"{path}: {', '.join(unread)} would not be read; the parts of a set are x_train y_train, x_val y_val (the validation "
            "part) and x_test y_test. Rename it, or leave it out"
        )
    return parts


def _layout(path: Path, shape: tuple[int, ...], given: str | None) -> str | None:
    """Return the layout of images (N, ., ., .): as given, else the one in which the number of channels is one of `CHANNELS`."""
    if given is not None and given not in LAYOUTS:
        raise UserError(
            f"{path}: layout is {given!r}; write layout='NHWC' (channels last) or layout='NCHW' (channels first)"
        )
    if len(shape) == 3:
        return None
    fitting = [name for name in LAYOUTS if shape[name.index("C")] in CHANNELS]
    if given is None and len(fitting) > 1:
        last, first = (
            f"{'x'.join(str(shape[name.index(axis)]) for axis in 'HW')} of {shape[name.index('C')]}" for name in LAYOUTS
        )
        raise UserError(
            f"{path}: images of shape {shape} are {last} channels if channels are last, {first} if they are first. Say which: "
            f"save layout='NHWC' (last) or layout='NCHW' (first) in the file; grey images may be saved as (N, H, W)"
        )
    if given is not None and given not in fitting:
        raise UserError(
            f"{path}: layout={given} of images of shape {shape} has {shape[given.index('C')]} channels; write C of 1, 3, 4"
        )
    return given or fitting[0]


def _labels(path: Path, key: str, labels: np.ndarray) -> Tensor:
    if labels.dtype.kind == "f" and labels.ndim in (1, 2) and labels.size:
        targets = torch.from_numpy(labels.astype(np.float32).reshape(len(labels), -1))
        _check_finite(path, key, targets)
        return targets
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {key} is {labels.dtype} of shape {labels.shape}; write one whole number an example, from 0; or floats "
            "(N,) or (N, K), numbers to predict"
        )
    counted = labels.astype(np.int64)
    if counted.size and counted.min() < 0:
        raise UserError(f"{path}: {key} holds label {counted.min()}; classes are counted from 0")
    return torch.from_numpy(counted)


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    with (
        reading(path, "a whole .npz", "it is truncated or has another format: delete it, and make or copy it again"),
        zipfile.ZipFile(path) as archive,
    ):
        yield archive


@contextmanager
def _reporting(path: Path, archive: zipfile.ZipFile, key: str) -> Iterator[None]:
    """Turn what zipfile and NumPy say of a damaged member into an error that names file, member and both checksums."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        expected, found = member_crcs(path, archive.getinfo(key + ".npy"))
        if expected != found:
            raise corrupt(path, "crc32", expected, found, f"member {key}.npy") from error
        raise UserError(f"{path}: {key} cannot be read: {reason(error)}. Save it as a plain NumPy array") from error


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with _reporting(path, archive, key), archive.open(key + ".npy") as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # the checksum is compared at the member's end
        return array
