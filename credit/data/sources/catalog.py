"""The data sets by name: where their files lie, what is known of them before they are read, and how they are read.

Sets from disk are looked for in `root` (``data.root``, else ``$CREDIT_DATA``, else ``data``), first in torchvision's
own layout, every file checked against its known digest, then as ``<set>.npz``.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from credit.core import registry
from credit.core.config.data_files import data_root, own_paths
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data.sources import own, text
from credit.data.sources.digests import verified_bytes
from credit.data.sources.download import fetch
from credit.data.sources.files import Arrays, Source, Whole, parse_idx, sklearn_folder
from credit.data.sources.images import imagenet32, torchvision_sets
from credit.data.sources.images.folder import LAYOUT, list_folder, read_folder
from credit.data.sources.made import ones, sign_line
from credit.data.sources.npz import npz_head, read_npz
from credit.data.sources.pickles import read_pickle
from credit.data.sources.tables import csv_file, diabetes, tabular
from credit.data.splits import stratified
from credit.data.storage import Images

DIGITS_TEST = 359
"""Test images of the fixed 80/20 split of the 1,797 digits."""


@dataclass(frozen=True)
class Known:
    """A published set.

    Attributes:
        title: its name in messages.
        shape: (C, H, W).
        train, test: numbers of images.
        names: one a class.
        files: torchvision's files under the data folder, with the digest each must have.
        read: reads those files; takes the data folder.
    """

    title: str
    shape: tuple[int, int, int]
    train: int
    test: int
    names: tuple[str, ...]
    files: dict[str, str]
    read: Callable[[Path, "Known"], Arrays]


def kinds() -> list[str]:
    """Return the names that ``data=`` takes."""
    return registry.names("data")


def source(kind: str) -> Source:
    """Return how a kind of set is looked at and read.

    Raises:
        UserError: there is no such kind.
    """
    found = registry.find("data", kind, key="data")
    target = found.load()
    return target if isinstance(target, Source) else own.source(found)


def look(cfg: DataConfig) -> Whole:
    """Return what a set is without reading its images; milliseconds, except for folders of very many files.

    A set of the user's own is made for it.

    Raises:
        UserError: unknown kind, options that do not fit each other, or missing files (which, where to put them, how to
            download). With ``data.download=true`` missing files of a published set are no error here.
    """
    _check_own_path(cfg)
    return source(cfg.kind).look(cfg)


def read(cfg: DataConfig) -> Arrays:
    """Read a whole set into memory, downloading it first where ``data.download`` allows it and it is not there.

    Raises:
        UserError: as `look`; corrupt files, with expected and found digest.
    """
    _check_own_path(cfg)
    return source(cfg.kind).read(cfg)


def missing_files(kind: str, root: Path) -> list[str]:
    """Return the files of torchvision's layout that are not in `root`."""
    return [name for name in KNOWN[kind].files if not (root / name).is_file()]


def _check_own_path(cfg: DataConfig) -> None:
    if cfg.kind in ("npz", "image_folder") and not cfg.path:
        what = "the .npz file" if cfg.kind == "npz" else "the folder that holds train/ and val/"
        raise UserError(f"data={cfg.kind}: does not say which one; give {what}: data.path=...")
    if cfg.resize is not None and (cfg.image_size is None or cfg.resize < cfg.image_size):
        size = "null" if cfg.image_size is None else cfg.image_size
        raise UserError(
            f"data.resize={cfg.resize} with data.image_size={size}: the shorter side is resized to data.resize and "
            f"data.image_size is what is kept of it, the centre; write both, for example data.resize=256 data.image_size=224"
        )


def _own_path(cfg: DataConfig) -> Path:
    """Return the user's own file or folder: as given, else inside the data folder."""
    candidates = own_paths(cfg)
    for path in candidates:
        if path.is_file() if cfg.kind == "npz" else path.is_dir():
            return path
    looked = " or ".join(str(path) for path in candidates)
    wanted = (
        "file (an .npz with x_train y_train x_test y_test)" if cfg.kind == "npz" else "folder (with train/ and val/)"
    )
    more = f"\n{LAYOUT}" if cfg.kind == "image_folder" else ""
    raise UserError(f"data={cfg.kind} data.path={cfg.path}: there is no {wanted} at {looked}{more}")


def _look_npz(cfg: DataConfig) -> Whole:
    return npz_head(_own_path(cfg)).whole


def _look_folder(cfg: DataConfig) -> Whole:
    listing = list_folder(_own_path(cfg), cfg.image_size, cfg.classes)
    val = len(listing.val)
    return Whole((3, *listing.size), len(listing.classes), len(listing.train) + val, len(listing.test), val=val)


def _read_folder(cfg: DataConfig) -> Arrays:
    return read_folder(_own_path(cfg), cfg)


def _look_known(cfg: DataConfig) -> Whole:
    known, root = KNOWN[cfg.kind], data_root(cfg)
    npz = root / f"{cfg.kind}.npz"
    if not missing_files(cfg.kind, root) or (cfg.download and not npz.is_file()):
        return Whole(known.shape, len(known.names), known.train, known.test)
    if npz.is_file():
        whole = npz_head(npz).whole
        if (whole.shape, whole.outputs) != (known.shape, len(known.names)):
            raise UserError(
                f"{npz}: images of {whole.shape} in {whole.outputs} classes, but {known.title} has {known.shape} in "
                f"{len(known.names)}. To train on a set of your own: data=npz data.path={npz}"
            )
        return whole
    raise UserError(_missing_message(cfg.kind, root))


def _read_known(cfg: DataConfig) -> Arrays:
    known, root = KNOWN[cfg.kind], data_root(cfg)
    npz = root / f"{cfg.kind}.npz"
    if cfg.download:
        fetch(cfg.kind, root, lambda: not missing_files(cfg.kind, root) or npz.is_file())
    if not missing_files(cfg.kind, root):
        return known.read(root, known)
    _look_known(cfg)  # refuses what is not there or is another set
    arrays = read_npz(npz)
    if arrays.names == [str(c) for c in range(len(known.names))]:
        arrays.names = list(known.names)
    return arrays


def _missing_message(kind: str, root: Path) -> str:
    known = KNOWN[kind]
    lacking = missing_files(kind, root)
    some = " (the others are there)" if len(lacking) < len(known.files) else ""
    return (
        f"data={kind}: {known.title} is not in {root}{'' if root.is_dir() else ', which does not exist'}.\n"
        f"  missing: {', '.join(lacking)}{some}\n"
        f"  or, as one file: {kind}.npz with x_train y_train x_test y_test\n"
        f"Put them into {root}, or say where they are: CREDIT_DATA=<folder> or data.root=<folder>.\n"
        f"To download them there: credit-train data={kind} data.download=true"
    )


def _look_digits(_: DataConfig) -> Whole:
    return Whole((1, 8, 8), 10, 1797 - DIGITS_TEST, DIGITS_TEST)


def _read_digits(_: DataConfig) -> Arrays:
    """Return the handwritten digits that come with scikit-learn: (1797, 1, 8, 8), values 0..16, a fixed 80/20 split."""
    packed = sklearn_folder() / "datasets" / "data" / "digits.csv.gz"
    if packed.is_file():
        with gzip.open(packed, "rt") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        table = np.column_stack([digits.data, digits.target]).astype(np.int64)
    images = torch.from_numpy(table[:, :-1].astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1].copy())
    test, train = stratified(labels, DIGITS_TEST, 0, "digits")
    return Arrays(images[train], labels[train], images[test], labels[test], [str(c) for c in range(10)], Images(top=16))


def _read_idx(root: Path, known: Known) -> Arrays:
    parts = {name: parse_idx(verified_bytes(root / name, digest), root / name) for name, digest in known.files.items()}
    x_train, y_train, x_test, y_test = (torch.from_numpy(part.copy()) for part in parts.values())
    return Arrays(x_train.unsqueeze(1), y_train.long(), x_test.unsqueeze(1), y_test.long(), list(known.names))


def _read_cifar(root: Path, known: Known) -> Arrays:
    """Read CIFAR's pickles; the files of `known` are the training batches, the test batch, the names, in this order."""
    *batches, meta = (read_pickle(root / name, digest) for name, digest in known.files.items())
    images = [torch.from_numpy(np.asarray(batch["data"])).view(-1, *known.shape) for batch in batches]
    labels = [torch.tensor(batch.get("labels", batch.get("fine_labels"))) for batch in batches]
    names = [str(name) for name in meta["label_names" if "label_names" in meta else "fine_label_names"]]
    return Arrays(torch.cat(images[:-1]), torch.cat(labels[:-1]), images[-1], labels[-1], names)


def _idx_files(folder: str, train_x: str, train_y: str, test_x: str, test_y: str) -> dict[str, str]:
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    digests = (train_x, train_y, test_x, test_y)
    return {f"{folder}/raw/{part}-ubyte": f"sha256:{digest}" for part, digest in zip(parts, digests, strict=True)}


_DIGIT_NAMES = tuple(str(c) for c in range(10))
_FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

KNOWN: dict[str, Known] = {
    "mnist": Known(
        "MNIST", (1, 28, 28), 60000, 10000, _DIGIT_NAMES,
        _idx_files(
            "MNIST",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        _read_idx,
    ),
    "fashion_mnist": Known(
        "Fashion-MNIST", (1, 28, 28), 60000, 10000, _FASHION_NAMES,
        _idx_files(
            "FashionMNIST",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        _read_idx,
    ),
    "cifar10": Known(
        "CIFAR-10", (3, 32, 32), 50000, 10000, _CIFAR10_NAMES,
        {
            "cifar-10-batches-py/data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
            "cifar-10-batches-py/data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
            "cifar-10-batches-py/data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
            "cifar-10-batches-py/data_batch_4": "md5:634d18415352ddfa80567beed471001a",
            "cifar-10-batches-py/data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
            "cifar-10-batches-py/test_batch": "md5:40351d587109b95175f43aff81a1287e",
            "cifar-10-batches-py/batches.meta": "md5:5ff9c542aee3614f3951f8cda6e48888",
        },
        _read_cifar,
    ),
    "cifar100": Known(
        "CIFAR-100", (3, 32, 32), 50000, 10000, tuple(str(c) for c in range(100)),
        {
            "cifar-100-python/train": "md5:16019d7e3df5f24257cddd939b257f8d",
            "cifar-100-python/test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
            "cifar-100-python/meta": "md5:7973b15100ade9c7d40fb424638fde48",
        },
        _read_cifar,
    ),
}  # fmt: skip
"""Published sets by the name that ``data=`` takes. CIFAR's digests are those torchvision lists; its pickles are read
only after they match, and even then only arrays are unpickled."""

DIGITS = Source(_look_digits, _read_digits)
IMAGE_FOLDER = Source(_look_folder, _read_folder)
IMAGENET32 = Source(imagenet32.look, imagenet32.read)
NPZ = Source(_look_npz, lambda cfg: read_npz(_own_path(cfg)))
ONES = Source(ones.look, ones.read, drawn=True)
SIGN_LINE = Source(sign_line.look, sign_line.read, drawn=True)
CSV = Source(csv_file.look, csv_file.read, drawn=True)
TABULAR = Source(tabular.look, tabular.read)
DIABETES = Source(diabetes.look, diabetes.read)
TEXT = Source(text.look, text.read)
TORCHVISION = Source(torchvision_sets.look, torchvision_sets.read)
PUBLISHED = Source(_look_known, _read_known)
