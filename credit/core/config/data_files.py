"""Paths of the files of a data set, found without reading the files. Imports no torch."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from credit.core.config.schema import DataConfig, NoiseConfig

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of the image files that are read, in any case."""

PARTS = ("train", "val", "test")
"""Folders of an image folder, each with one folder a class."""

FEW = 200
"""Up to so many files are named one by one; more are taken together by folder."""

_KNOWN = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
"""Folder of torchvision's files of each published set, below the data folder."""


TORCHVISION_FILES = {
    **{name: (f"{name}/raw",) for name in ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST")},
    "CIFAR10": ("cifar-10-batches-py",),
    "CIFAR100": ("cifar-100-python",),
    "USPS": ("usps.bz2", "usps.t.bz2"),
    "SVHN": ("train_32x32.mat", "test_32x32.mat"),
    "STL10": ("stl10_binary",),
    "GTSRB": ("gtsrb",),
    "Food101": ("food-101",),
    "StanfordCars": ("stanford_cars",),
    "DTD": ("dtd",),
    "Flowers102": ("flowers-102",),
    "RenderedSST2": ("rendered-sst2",),
    "OxfordIIITPet": ("oxford-iiit-pet",),
    "FGVCAircraft": ("fgvc-aircraft-2013b",),
    "EuroSAT": ("eurosat/2750",),
    "Caltech101": ("caltech101",),
    "SUN397": ("SUN397",),
    "Imagenette": ("imagenette2",),
    "Country211": ("country211",),
}
"""By torchvision's class, its files and folders below the data folder."""

HUMAN_FILES = {"cifar10": ("cifar10n.npz", "CIFAR-10_human.pt"), "cifar100": ("cifar100n.npz", "CIFAR-100_human.pt")}
"""By set, the files in the data folder that may hold the labels that people gave, in the order in which they are looked for."""


def data_root(cfg: DataConfig) -> Path:
    """Return the folder data lies in: ``data.root``, else ``$CREDIT_DATA``, else ``data`` in the current folder."""
    return Path(cfg.root or os.environ.get("CREDIT_DATA") or "data")


def own_paths(cfg: DataConfig) -> list[Path]:
    """Return where the user's own file or folder may be, in order: as given, then inside the data folder."""
    return _places(cfg.path or "", cfg)


def csv_paths(cfg: DataConfig) -> list[Path]:
    """Return where the test file of ``data=csv`` may be, in order; none where there is none."""
    path = getattr(cfg, "test_path", None)
    return _places(path, cfg) if path else []


def text_paths(cfg: DataConfig) -> list[Path]:
    """Return where the file of ``data=text`` may be, in order."""
    return own_paths(cfg) if cfg.path else [data_root(cfg) / "text" / "tinyshakespeare.txt"]


def _places(path: str, cfg: DataConfig) -> list[Path]:
    given = Path(path).expanduser()
    return [given] if given.is_absolute() else [given, data_root(cfg) / given]


def noise_paths(noise: NoiseConfig, cfg: DataConfig) -> list[Path]:
    """Return where the file of a label noise may be, in order; none for a noise that is read from no file."""
    path = getattr(noise, "path", None)
    if path:
        return _places(path, cfg)
    return [data_root(cfg) / name for name in HUMAN_FILES.get(cfg.kind, ())] if noise.kind == "human" else []


def noise_file(noise: NoiseConfig, cfg: DataConfig) -> Path | None:
    """Return the file that a label noise is read from, or None."""
    return next((path for path in noise_paths(noise, cfg) if path.is_file()), None)


def data_files(cfg: DataConfig, noise: NoiseConfig | None = None) -> dict[str, list[Path]]:
    """Return the files a set and its noise are read from, sorted, by name; of many files those of one folder share a name.

    Names are relative to the data folder, or to the user's own, so that a set that moved has the same ones. A set that is
    drawn, or comes with scikit-learn, has no files; neither has one that is not there.
    """
    base, files = _files(cfg)
    named: dict[str, list[Path]] = {}
    for file in sorted(files):
        relative = file.relative_to(base)
        named.setdefault((relative if len(files) <= FEW else relative.parent).as_posix(), []).append(file)
    if noise is not None and (labels := noise_file(noise, cfg)) is not None:
        named.setdefault(labels.name, []).append(labels)
    return named


def _files(cfg: DataConfig) -> tuple[Path, list[Path]]:
    """Return the folder that names start from, and the files."""
    root = data_root(cfg)
    if cfg.kind in ("npz", "image_folder"):
        own = next((path for path in own_paths(cfg) if (path.is_file() if cfg.kind == "npz" else path.is_dir())), None)
        if own is None:
            return root, []
        return (own.parent, [own]) if cfg.kind == "npz" else (own, _images(own, cfg.classes))
    if cfg.kind == "csv":
        found = [next(filter(Path.is_file, places), None) for places in (own_paths(cfg), csv_paths(cfg))]
        there = [file.resolve() for file in found if file is not None]
        return Path(os.path.commonpath([table.parent for table in there] or [root])), there
    if cfg.kind == "text":
        text = next(filter(Path.is_file, text_paths(cfg)), None)
        return (root, []) if text is None else (text.parent, [text])
    if cfg.kind == "torchvision":
        places = [root / name for name in TORCHVISION_FILES.get(cfg.name or "", ())]
        return root, [file for place in places for file in ([place] if place.is_file() else visible_files(place))]
    if cfg.kind in _KNOWN:
        raw = [file for file in _inside(root / _KNOWN[cfg.kind]) if file.suffix != ".gz"]
        return root, raw or [file for file in [root / f"{cfg.kind}.npz"] if file.is_file()]
    if cfg.kind == "tabular":
        csv = "blood-transfusion" if cfg.name == "blood" else cfg.name
        tables = (root / "tabular" / name for name in (f"{csv}.csv", f"{cfg.name}-openml.npz"))
        return root, [file for file in tables if file.is_file()][:1]
    if cfg.kind == "imagenet32":
        folder = root / "imagenet32"
        places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
        return root, [
            file for place in places for file in _inside(place) if "_data" in file.name and file.suffix in ("", ".npz")
        ]
    return root, []


def ignored(name: str) -> bool:
    """Return whether a file or folder is no part of an image folder: hidden, or left by archives and servers."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, of whatever kind, without what is `ignored`, in any order; links are followed."""
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        folders[:] = [name for name in folders if not ignored(name) and not _leads_back(here, name)]
        yield from (Path(place, name) for name in names if not ignored(name))


def _leads_back(place: Path, name: str) -> bool:
    """Return whether a folder is a link to one that it lies in."""
    return (place / name).is_symlink() and place.is_relative_to((place / name).resolve())


def _images(folder: Path, classes: list[str] | None) -> list[Path]:
    found = []
    for part in (folder / name for name in PARTS if (folder / name).is_dir()):
        present = [entry.name for entry in os.scandir(part) if entry.is_dir() and not ignored(entry.name)]
        for name in present if classes is None else set(classes) & set(present):
            found += [file for file in visible_files(part / name) if file.suffix.lower() in IMAGE_SUFFIXES]
    return found


def _inside(folder: Path) -> Iterable[Path]:
    return [file for file in folder.glob("*") if file.is_file() and not file.name.startswith(".")]
