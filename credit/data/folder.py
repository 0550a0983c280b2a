"""ImageNet-style folders: ``train/<class>/*`` and ``val/<class>/*`` (or ``test/``), decoded once into bytes."""

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from credit.data.digests import check_sidecar
from credit.data.files import Arrays
from credit.data.on_disk import Files
from credit.errors import UserError, nearest

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = (
    "Put it there, or say where it is: data.path=<folder>. It holds train/<class>/ and val/<class>/ (or test/<class>/) with one "
    "folder a class, for ILSVRC2012 train/n03710193/*.JPEG and val/n03710193/*.JPEG (its validation images come in one "
    "folder: sort them by their labels first)"
)
"""What an image folder looks like, for those who have none yet."""
_CHUNK = 512  # images decoded between two looks at the queue; bounds memory for sets of millions


@dataclass
class Listing:
    """An image folder's files, not decoded.

    Attributes:
        classes: folder names under ``train/``, sorted; a class's number is its place here, as in torchvision.
        train, test: files with their class numbers, sorted by path.
        size: (height, width) every image gets.
    """

    classes: list[str]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]
    size: tuple[int, int]


def list_folder(folder: Path, image_size: int | None, only: Sequence[str] | None = None) -> Listing:
    """List an image folder and settle the image size (``image_size`` squared, or that of the first image).

    ``val/`` is the test set if it is there (ImageNet's habit), else ``test/``.

    Args:
        folder: holds the parts.
        image_size: pixels, or None.
        only: names of the class folders that are taken, in any order; None: all.

    Raises:
        UserError: a missing or empty part, a test class that has no training folder, or a class of `only` that has no folder
            or no image, or is named twice.
    """
    held_out = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or held_out is None:
        raise UserError(
            f"data=image_folder: {folder} needs a folder train/ and a folder val/ or test/, each with one folder a "
            f"class that holds its images ({', '.join(SUFFIXES)})"
        )
    classes = sorted(entry.name for entry in (folder / "train").iterdir() if entry.is_dir())
    there = sorted(entry.name for entry in held_out.iterdir() if entry.is_dir())
    unknown = [name for name in there if name not in classes]
    if only is not None:
        classes = _chosen(only, folder / "train", classes)
        _chosen(only, held_out, there)
    elif unknown:
        raise UserError(
            f"{held_out}: class {unknown[0]} has no folder in {folder / 'train'}; test classes must be trained"
        )
    train, test = _images(folder / "train", classes), _images(held_out, classes)
    for part, files in (("train", train), (held_out.name, test)):
        if not files:
            raise UserError(f"{folder / part}: holds no image ({', '.join(SUFFIXES)}) in any class folder")
        present = {classes[label] for _, label in files}
        lacking = [] if only is None else [name for name in classes if name not in present]
        if lacking:
            raise UserError(
                f"data.classes: {folder / part / lacking[0]} holds no image ({', '.join(SUFFIXES)}); unpack the class's images "
                f"there, or leave it out of data.classes"
            )
    if image_size is not None:
        return Listing(classes, train, test, (image_size, image_size))
    with _opened(train[0][0]) as image:
        return Listing(classes, train, test, (image.height, image.width))


def read_folder(
    folder: Path,
    image_size: int | None,
    resize: int | None = None,
    only: Sequence[str] | None = None,
    hold: str = "decoded",
) -> Arrays:
    """Read an image folder: RGB, shorter side resized to ``resize`` (bilinear, antialiased), the centre cropped out.

    Without ``image_size`` all images must have one size and are taken as they are.

    Args:
        folder: holds the parts.
        image_size: pixels of a side of what is kept.
        resize: pixels of the shorter side before; None: ``image_size``.
        only: names of the class folders that are taken; None: all.
        hold: ``decoded``: all images, now; ``files``: each whenever it is asked for.

    Raises:
        UserError: as `list_folder`; an image that cannot be decoded (named); more bytes than this machine's memory.
    """
    listing = list_folder(folder, image_size, only)
    height, width = listing.size
    shorter = resize or image_size
    if hold == "files":
        both = [*listing.train, *listing.test]
        files = Files(
            [path for path, _ in both], functools.partial(_decode, size=listing.size, shorter=shorter), listing.size
        )
        none, labels = torch.empty(0, 3, height, width, dtype=torch.uint8), torch.tensor([label for _, label in both])
        y_train, y_test = labels.split([len(listing.train), len(listing.test)])
        return Arrays(none, y_train, none, y_test, listing.classes, files=files)
    needed = (len(listing.train) + len(listing.test)) * 3 * height * width
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(
            f"{folder}: {len(listing.train) + len(listing.test)} images of {height} x {width} take "
            f"{needed / 2**30:.0f} GiB decoded, this machine has {memory / 2**30:.0f} GiB. "
            "Write data.hold=files, which decodes them batch by batch, or a smaller data.image_size"
        )
    x_train, y_train = _decode_all(listing.train, listing.size, shorter)
    x_test, y_test = _decode_all(listing.test, listing.size, shorter)
    return Arrays(x_train, y_train, x_test, y_test, listing.classes)


def _chosen(only: Sequence[str], part: Path, present: list[str]) -> list[str]:
    """Return the chosen classes, sorted as all classes are."""
    if len(only) < 2 or len(set(only)) < len(only):
        twice = next((name for name in only if list(only).count(name) > 1), None)
        why = "a classifier needs two or more" if twice is None else f"{twice} is named twice"
        raise UserError(f"data.classes=[{','.join(only)}]: {why}; write data.classes=[n03710193,n03710637]")
    for name in only:
        if name in present:
            continue
        if not present:
            raise UserError(f"{part} holds no class folder, so none of data.classes is there. {LAYOUT}")
        raise UserError(
            f"data.classes: class {name} has no folder in {part}, which holds {len(present)} classes; {nearest(name, present)}"
        )
    return sorted(only)


def _images(part: Path, classes: list[str]) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((part / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]


def _opened(path: Path) -> Image.Image:
    check_sidecar(path)
    try:
        return Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"corrupt data: {path} is no readable image: {error}") from error


def _decode(path: Path, size: tuple[int, int], shorter: int | None) -> np.ndarray:
    """Return one image as uint8 (H, W, 3): resized to a shorter side of so many pixels, the centre of `size` kept."""
    height, width = size
    with _opened(path) as image:
        if shorter is None and (image.height, image.width) != size:
            raise UserError(
                f"{path} is {image.height} x {image.width}, the first image {height} x {width}: "
                f"give the size all shall have, for example data.image_size={min(size)}"
            )
        try:
            if shorter is not None:
                image.draft("RGB", (2 * shorter, 2 * shorter))  # JPEG only: skip detail the resize would drop
            rgb = image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise UserError(f"corrupt data: {path} ({path.stat().st_size} bytes) cannot be decoded: {error}") from error
    if shorter is not None and (min(rgb.size) != shorter or rgb.size != (width, height)):
        ratio = shorter / min(rgb.size)
        rgb = rgb.resize(
            (max(shorter, round(rgb.width * ratio)), max(shorter, round(rgb.height * ratio))), Image.Resampling.BILINEAR
        )
        left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
        rgb = rgb.crop((left, top, left + width, top + height))
    return np.asarray(rgb)


def _decode_all(files: list[tuple[Path, int]], size: tuple[int, int], shorter: int | None) -> tuple[Tensor, Tensor]:
    images = torch.empty(len(files), 3, *size, dtype=torch.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        for start, chunk in _chunks(files):
            decoded = pool.map(lambda item: _decode(item[0], size, shorter), chunk)
            for offset, image in enumerate(decoded):
                images[start + offset] = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return images, torch.tensor([label for _, label in files])


def _chunks(files: list[tuple[Path, int]]) -> Iterator[tuple[int, list[tuple[Path, int]]]]:
    for start in range(0, len(files), _CHUNK):
        yield start, files[start : start + _CHUNK]
