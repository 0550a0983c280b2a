"""Image sets by the name of torchvision's class: read by the class, never downloaded, held as bytes.

Parts are those of the class, its validation part included; a set without parts has a stratified fifth as its test part, the same
for every run. Grey images have one channel, all others three. Images of several sizes need ``data.image_size``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from credit.core.config.data_files import TORCHVISION_FILES, data_root
from credit.core.config.schema import DataConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError, nearest
from credit.data.options import TorchvisionData
from credit.data.sources.files import Arrays, Whole, check_classes
from credit.data.sources.images.decoding import resized
from credit.data.sources.images.folder import check_memory
from credit.data.splits import stratified

TEST_SHARE = 0.2
"""Share of the test part of a set that has none."""

_TRAIN_TEST = ({"train": True}, {"train": False})
_SPLITS = ({"split": "train"}, {"split": "test"})
_WITH_VAL = ({"split": "train"}, {"split": "val"}, {"split": "test"})
_TRAINVAL = ({"split": "trainval"}, {"split": "test"})
_WHOLE: tuple[dict[str, Any], ...] = ({},)

PARTS: dict[str, tuple[dict[str, Any], ...]] = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "CIFAR10", "CIFAR100", "USPS"), _TRAIN_TEST),
    **dict.fromkeys(("SVHN", "STL10", "GTSRB", "Food101", "StanfordCars"), _SPLITS),
    **dict.fromkeys(("DTD", "Flowers102", "RenderedSST2"), _WITH_VAL),
    **dict.fromkeys(("OxfordIIITPet", "FGVCAircraft"), _TRAINVAL),
    **dict.fromkeys(("EuroSAT", "Caltech101", "SUN397"), _WHOLE),
    "QMNIST": ({"what": "train"}, {"what": "test"}),
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "Country211": ({"split": "train"}, {"split": "valid"}, {"split": "test"}),
}
"""By class, its arguments for each part: training, validation where there are three, testing; or for all of it at once."""

_opened: dict[tuple[str, str, Path], list[Any]] = {}
"""The parts that `look` opened and `read` takes."""


def look(cfg: DataConfig) -> Whole:
    """Return the shape, number of classes and sizes of a set; its files are opened and one image is decoded.

    Raises:
        UserError: an unknown name, missing files, or labels that make no classification.
    """
    options, parts = _parts(cfg, keep=True)
    labels = [_labels(part) for part in parts]
    names = _names(options, parts, torch.cat(labels))
    shape = _shape(options, parts[0])
    sizes = [len(one) for one in labels]
    if len(parts) == 1:
        test = round(TEST_SHARE * sizes[0])
        return Whole(shape, len(names), sizes[0] - test, test)
    return Whole(shape, len(names), sum(sizes[:-1]), sizes[-1], val=sizes[1] if len(parts) == 3 else 0)


def read(cfg: DataConfig) -> Arrays:
    """Decode a whole set.

    Raises:
        UserError: as `look`; images of several sizes without ``data.image_size``, or more bytes than this machine's memory.
    """
    options, parts = _parts(cfg, keep=False)
    labels = [_labels(part) for part in parts]
    names = _names(options, parts, torch.cat(labels))
    shape = _shape(options, parts[0])
    check_memory(Path(_given(options)), sum(map(len, labels)), shape[1], shape[2])
    images = [_decoded(options, part, shape) for part in parts]
    if len(parts) == 1:
        test, train = stratified(labels[0], round(TEST_SHARE * len(labels[0])), 0, "torchvision_test")
        return Arrays(images[0][train], labels[0][train], images[0][test], labels[0][test], names)
    val = len(labels[1]) if len(parts) == 3 else 0
    return Arrays(torch.cat(images[:-1]), torch.cat(labels[:-1]), images[-1], labels[-1], names, val=val)


def _parts(cfg: DataConfig, *, keep: bool) -> tuple[TorchvisionData, list[Any]]:
    """Return the options and torchvision's objects of each part; `keep`: they are asked for again."""
    options = TorchvisionData(**section_values("data", cfg))
    if not options.name:
        raise UserError(f"data=torchvision does not say which set: write data.name=..., {nearest('', PARTS)}")
    if options.name not in PARTS:
        raise UserError(f"data=torchvision data.name={options.name}: {nearest(options.name, PARTS)}")
    key = options.name, options.subset, data_root(cfg)
    parts = _opened.pop(key, None) or _open(options, key[2])
    _opened.clear()
    if keep:
        _opened[key] = parts
    return options, parts


def _open(options: TorchvisionData, root: Path) -> list[Any]:
    """Return torchvision's object of each part.

    Raises:
        UserError: missing or damaged files; what torchvision says of them, and how they are fetched.
    """
    from torchvision import datasets  # here: takes a second to import

    assert options.name is not None
    more = {"split": options.subset} if options.name == "EMNIST" else {}
    arguments = [{**part, **more} for part in PARTS[options.name]]
    try:
        return [getattr(datasets, options.name)(str(root), **part, download=False) for part in arguments]
    except (RuntimeError, OSError, ValueError) as error:
        calls = [f"d.{options.name}({str(root)!r}, {_written(part)}download=True)" for part in arguments]
        raise UserError(
            f"{_given(options)} is not in {root}: torchvision looks there for {', '.join(TORCHVISION_FILES[options.name])} (it "
            f"says: {' '.join(str(error).split())[:200]}). Put it there, or say where it is: CREDIT_DATA=<folder> or "
            "data.root=<folder>. "
            f'To fetch it: python -c "import torchvision.datasets as d; {"; ".join(calls)}"'
        ) from error


def _written(arguments: dict[str, Any]) -> str:
    return "".join(f"{key}={value!r}, " for key, value in arguments.items())


def _given(options: TorchvisionData) -> str:
    return f"data=torchvision data.name={options.name}"


def _labels(part: Any) -> Tensor:
    """Return the labels of a part, int64 (N,), under whichever name torchvision's class has them."""
    for name in ("targets", "labels", "_labels", "y"):
        if (found := getattr(part, name, None)) is not None and len(found) == len(part):
            labels = torch.as_tensor(np.asarray(found)).long()
            return labels[:, 0] if labels.dim() == 2 else labels  # QMNIST has more about each image behind its class
    return torch.tensor([label for _, label in part._samples])


def _names(options: TorchvisionData, parts: Sequence[Any], labels: Tensor) -> list[str]:
    named = getattr(parts[0], "classes", None) or getattr(parts[0], "categories", None)
    names = (
        [one if isinstance(one, str) else one[0] for one in named] if named else None
    )  # Imagenette: all names of each
    check_classes(_given(options), labels, names)
    return names or [str(label) for label in range(int(labels.max()) + 1)]


def _shape(options: TorchvisionData, part: Any) -> tuple[int, int, int]:
    image = part[0][0]
    side = options.image_size
    return 1 if image.mode == "L" else 3, side or image.height, side or image.width


def _decoded(options: TorchvisionData, part: Any, shape: tuple[int, int, int]) -> Tensor:
    """Return the images of a part, uint8 (N, C, H, W)."""
    images = torch.empty(len(part), *shape, dtype=torch.uint8)
    shorter = options.resize or options.image_size
    for place in range(len(part)):
        image: Image.Image = part[place][0].convert("L" if shape[0] == 1 else "RGB")
        if shorter is None and (image.height, image.width) != shape[1:]:
            raise UserError(
                f"{_given(options)}: image {place} is {image.height} x {image.width}, the first image {shape[1]} x {shape[2]}: "
                f"give the size all shall have, for example data.image_size={min(shape[1:])}"
            )
        pixels = np.array(image if shorter is None else resized(image, shape[1:], shorter))
        images[place] = torch.from_numpy(pixels).view(*shape[1:], shape[0]).permute(2, 0, 1)
    return images
