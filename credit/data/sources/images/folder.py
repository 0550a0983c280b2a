"""ImageNet-style folders: ``train/<class>/*`` with ``val/<class>/*``, ``test/<class>/*`` or both, decoded once into bytes."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.config.data_files import IMAGE_SUFFIXES as SUFFIXES
from credit.core.config.data_files import ignored, visible_files
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError, nearest
from credit.data.sources.files import Arrays, some
from credit.data.sources.images.decoding import decode, open_image
from credit.data.sources.images.on_disk import Files

LAYOUT = (
    "Put it there, or say where it is: data.path=<folder>. It holds train/<class>/ and val/<class>/ (or test/<class>/) with one "
    "folder a class, for ILSVRC2012 train/n03710193/*.JPEG and val/n03710193/*.JPEG (its validation images come in one "
    "folder: sort them by their labels first)"
)
"""What an image folder looks like, for those who have none yet."""
RENAMED = ("valid", "validation", "dev")
"""Names of a validation part that are not read, and are refused rather than left out."""
_CHUNK = 512  # images decoded between two looks at the queue; bounds memory for sets of millions

Labelled = list[tuple[Path, int]]
"""Files with their class numbers."""


@dataclass
class Listing:
    """An image folder's files, not decoded.

    Attributes:
        classes: folder names under ``train/``, sorted; a class's number is its place here, as in torchvision.
        train, val, test: files sorted by path; `val` is empty where the folder has no validation part of its own.
        size: (height, width) every image gets.
        notes: what a user must know of how the folder was read.
    """

    classes: list[str]
    train: Labelled
    val: Labelled
    test: Labelled
    size: tuple[int, int]
    notes: list[str]


def list_folder(folder: Path, image_size: int | None, only: Sequence[str] | None = None) -> Listing:
    """List an image folder and settle the image size (``image_size`` squared, or that of the first image).

    Beside ``test/``, ``val/`` is the validation part. Without ``test/``, ``val/`` is the test part (ImageNet's habit).
    Hidden files and folders, ``__MACOSX`` and ``@eaDir`` are ignored.

    Args:
        folder: holds the parts.
        image_size: pixels, or None.
        only: names of the class folders that are taken, in any order; None: all.

    Raises:
        UserError: a missing part, a class folder without an image, fewer than two classes, a class that has no training
            folder, or a class of `only` that has no folder, or is named twice.
    """
    parts, notes = _parts(folder)
    there = {name: _classes(path, only) for name, path in parts.items()}
    classes = there["train"]
    if len(classes) < 2:
        raise UserError(f"{parts['train']}: holds one class folder, {classes[0]}, and a classifier needs two or more")
    files: dict[str, Labelled] = {"val": []}
    for name, path in parts.items():
        unknown = [entry for entry in there[name] if entry not in classes]
        if unknown:
            raise UserError(
                f"{path}: class {unknown[0]} has no folder in {parts['train']}; every class must have training images"
            )
        number = {entry: label for label, entry in enumerate(classes) if entry in there[name]}
        files[name], unread = _images(path, number, "leave it out of data.classes" if only else "remove the folder")
        lacking = [entry for entry in classes if entry not in number]
        if lacking:
            notes.append(f"{path} has no folder for {some(lacking, 'class', 'classes')}")
        if unread:
            counts = ", ".join(f"{count} {which}" for which, count in sorted(unread.items()))
            notes.append(f"{path}: files that are not read: {counts}")
    if image_size is None:
        with open_image(files["train"][0][0]) as image:
            size = image.height, image.width
    else:
        size = image_size, image_size
    return Listing(classes, files["train"], files["val"], files["test"], size, notes)


def read_folder(folder: Path, cfg: DataConfig) -> Arrays:
    """Read an image folder: RGB, shorter side resized to ``resize`` (bilinear, antialiased), the centre cropped out.

    Without ``image_size`` all images must have one size and are taken as they are.

    Args:
        folder: holds the parts.
        cfg: the options `image_size`, `resize`, `classes`, `alpha` and `hold` (``decoded``: all images now; ``files``: each
            whenever it is asked for).

    Raises:
        UserError: as `list_folder`; an image that cannot be decoded (named); more bytes than this machine's memory.
    """
    listing = list_folder(folder, cfg.image_size, cfg.classes)
    height, width = listing.size
    read = functools.partial(decode, size=listing.size, shorter=cfg.resize or cfg.image_size, alpha=cfg.alpha)
    parts = [*listing.train, *listing.val], listing.test
    y_train, y_test = (torch.tensor([label for _, label in part]) for part in parts)
    paths = [[path for path, _ in part] for part in parts]
    if cfg.hold == "files":
        x_train = x_test = torch.empty(0, 3, height, width, dtype=torch.uint8)
        files = Files([*paths[0], *paths[1]], read, listing.size)
    else:
        check_memory(folder, len(y_train) + len(y_test), height, width)
        x_train, x_test = (_decode_all(part, read, listing.size) for part in paths)
        files = None
    return Arrays(
        x_train, y_train, x_test, y_test, listing.classes, files=files, val=len(listing.val), notes=listing.notes
    )


def _parts(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of the parts train, val (where it is one of its own) and test, and what a user must know of them."""
    there = {name: folder / name for name in ("train", "val", "test") if (folder / name).is_dir()}
    for name in RENAMED:
        if (folder / name).is_dir():
            raise UserError(
                f"{folder / name}: a folder of this name is not read. Rename it to val/ (the validation part beside a folder "
                "test/, else the test part), or move it away"
            )
    if "train" not in there or len(there) < 2:
        raise UserError(
            f"data=image_folder: {folder} needs a folder train/ and a folder val/ or test/, each with one folder a "
            f"class that holds its images ({', '.join(SUFFIXES)})"
        )
    if len(there) == 3 and _class_folders(there["test"]):
        return there, [f"{there['val']} is the validation part, {there['test']} the test part"]
    notes = []
    if len(there) == 3:
        unlabelled = there.pop("test")
        if next(visible_files(unlabelled), None) is None:
            raise UserError(
                f"{unlabelled}: is empty, so it is no test part. Fill it, or remove it; then {there['val']} is the test part"
            )
        notes.append(f"{unlabelled} has no class folders, so its images have no labels and are not read")
    if "val" in there:
        there["test"] = there.pop("val")
        notes.append(f"{there['test']} is the test part")
    return there, notes


def _classes(part: Path, only: Sequence[str] | None) -> list[str]:
    """Return the class folders of a part that are taken, sorted."""
    present = _class_folders(part)
    if not present:
        wanted = ", so none of data.classes is there" if only is not None else ""
        raise UserError(f"{part} holds no class folder{wanted}. {LAYOUT}")
    return present if only is None else _chosen(only, part, present)


def _class_folders(part: Path) -> list[str]:
    return sorted(entry.name for entry in part.iterdir() if not ignored(entry.name) and entry.is_dir())


def _chosen(only: Sequence[str], part: Path, present: list[str]) -> list[str]:
    """Return the chosen classes, sorted as all classes are."""
    if len(only) < 2 or len(set(only)) < len(only):
        twice = next((name for name in only if list(only).count(name) > 1), None)
        why = "a classifier needs two or more" if twice is None else f"{twice} is named twice"
        raise UserError(f"data.classes=[{','.join(only)}]: {why}; write data.classes=[n03710193,n03710637]")
    for name in only:
        if name not in present:
            raise UserError(
                f"data.classes: class {name} has no folder in {part}, which holds {len(present)} classes; "
                f"{nearest(name, present)}"
            )
    return sorted(only)


def _images(part: Path, number: dict[str, int], instead: str) -> tuple[Labelled, Counter[str]]:
    """Return the images of a part's classes with their numbers, and how many files are not read, by what they are.

    Raises:
        UserError: a class without images; `instead` says what may be done but for adding some.
    """
    images: Labelled = []
    loose = sum(path.suffix.lower() in SUFFIXES and not ignored(path.name) for path in part.iterdir())
    unread = Counter({"in no class folder": loose} if loose else {})
    for name, label in number.items():
        before = len(images)
        for path in sorted(visible_files(part / name)):
            suffix = path.suffix.lower()
            if suffix in SUFFIXES:
                images.append((path, label))
            elif suffix != ".sha256":
                unread[f"of suffix {suffix}" if suffix else "without a suffix"] += 1
        if len(images) == before:
            raise UserError(
                f"{part / name}: holds no image ({', '.join(SUFFIXES)}), so its class would be empty. Unpack the class's images "
                f"there, or {instead}"
            )
    return images, unread


def check_memory(folder: Path, count: int, height: int, width: int) -> None:
    """Refuse more images of three channels than this machine's memory holds.

    Raises:
        UserError: what they take.
    """
    needed = count * 3 * height * width
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(
            f"{folder}: {count} images of {height} x {width} take "
            f"{needed / 2**30:.0f} GiB decoded, this machine has {memory / 2**30:.0f} GiB. "
            "Write data.hold=files, which decodes them batch by batch, or a smaller data.image_size"
        )


def _decode_all(paths: list[Path], read: Callable[[Path], np.ndarray], size: tuple[int, int]) -> Tensor:
    images = torch.empty(len(paths), 3, *size, dtype=torch.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        for start in range(0, len(paths), _CHUNK):
            for offset, image in enumerate(pool.map(read, paths[start : start + _CHUNK])):
                images[start + offset] = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return images
