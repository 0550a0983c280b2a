"""Labels that people gave: CIFAR-10N and CIFAR-100N (Wei et al. 2022, "Learning with noisy labels revisited").

Read from ``cifar10n.npz`` and ``cifar100n.npz`` (arrays under the authors' names, no pickles), or from the authors' own files,
``CIFAR-10_human.pt`` and ``CIFAR-100_human.pt``. These are pickles, and are read by a fixed list of names: numbers, lists, arrays
and tensors; nothing else in them can run. Label i belongs to training image i as the CIFAR authors stored them; the clean labels
that every file holds beside are compared with those of the set.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from credit.core.config.data_files import HUMAN_FILES, data_root, noise_file, noise_paths
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.core.reading import reading
from credit.data.noise.part import Part
from credit.data.options import HumanNoise
from credit.data.sources.files import Whole
from credit.data.sources.npz import npz_array, npz_names
from credit.data.sources.pickles import unpickle_arrays

KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {
        "aggre": ("aggre_label",),
        "random1": ("random_label1",),
        "random2": ("random_label2",),
        "random3": ("random_label3",),
        "worse": ("worse_label",),
    },
    "cifar100": {"noisy": ("noisy_label", "noise_label")},
}
"""By set, the names of each choice of ``noise.labels`` in the files; the authors' ``.npy`` of CIFAR-100 has one of its own."""
CLEAN = "clean_label"
_TITLES = {"cifar10": "CIFAR-10N", "cifar100": "CIFAR-100N"}
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float32", "float64")


def check(noise: NoiseConfig, cfg: DataConfig, whole: Whole) -> None:
    """Refuse human labels that there are not, before the images are read.

    Raises:
        UserError: another data set, labels that it has not, a missing or damaged file, another number of labels, or a split that
            mixes test images, which have no human labels, into the training part.
    """
    if cfg.kind not in KEYS:
        raise UserError(
            f"noise=human on data={cfg.kind}: people labelled the training images of CIFAR-10 and CIFAR-100 (CIFAR-10N, "
            "CIFAR-100N); use data=cifar10 or data=cifar100"
        )
    options = HumanNoise(**{name: getattr(noise, name) for name in ("kind", "labels", "path") if hasattr(noise, name)})
    if options.labels not in KEYS[cfg.kind]:
        raise UserError(
            f"noise.labels={options.labels} on data={cfg.kind}: {_TITLES[cfg.kind]} has no such labels; write "
            + " or ".join(f"noise.labels={name}" for name in KEYS[cfg.kind])
        )
    if cfg.test_fraction is not None:
        raise UserError(
            f"noise=human with data.test_fraction={cfg.test_fraction:g}: training images would come from CIFAR's test part too, "
            "which nobody labelled anew; leave data.test_fraction out"
        )
    path, clean, noisy = read(options, cfg)
    if len(noisy) != whole.train or len(clean) != whole.train:
        raise UserError(
            f"{path}: {len(noisy)} labels, and data={cfg.kind} has {whole.train} training images; label i belongs to image i of "
            "the whole training part, in the order of the CIFAR authors' files"
        )


def human(labels: Tensor, rate: float, classes: int, generator: Generator, part: Part, options: HumanNoise) -> Tensor:
    """Return the labels that people gave the examples of a part.

    Raises:
        UserError: as `check`; a file whose clean labels are not those of the set.
    """
    path, clean, noisy = read(options, part.cfg)
    different = int((clean != part.train_y).sum()) if len(clean) == len(part.train_y) else len(part.train_y)
    if different:
        raise UserError(
            f"{path}: its {CLEAN} differs from the labels of data={part.cfg.kind} for {different} of {len(part.train_y)} images: "
            "they are not in one order, and every label would be wrong. The authors' files for TensorFlow (.npy) are in another "
            "order: use CIFAR-10_human.pt or CIFAR-100_human.pt, and the set in its authors' order"
        )
    return noisy[part.places]


def read(options: HumanNoise, cfg: DataConfig) -> tuple[Path, Tensor, Tensor]:
    """Return the file that was read, its clean labels and the chosen noisy ones, int64 (N,) each.

    Raises:
        UserError: no file, or one that is damaged, lacks one of the two, or holds something else.
    """
    path = noise_file(options, cfg)
    if path is None:
        if options.path:
            looked = " or ".join(str(one) for one in noise_paths(options, cfg))
            raise UserError(f"noise=human noise.path={options.path}: there is no file at {looked}")
        root = data_root(cfg)
        raise UserError(
            f"noise=human on data={cfg.kind}: the labels of {_TITLES[cfg.kind]} are not in {root}; missing: "
            f"{' or '.join(HUMAN_FILES[cfg.kind])}. Put one of them there (the .pt is in the authors' repository "
            "UCSC-REAL/cifar-10-100n, folder data), or say where it is: noise.path=<file>"
        )
    content = _content(path)
    found = [next((key for key in keys if key in content), "") for keys in ((CLEAN,), KEYS[cfg.kind][options.labels])]
    if not all(found):
        lacking = CLEAN if not found[0] else KEYS[cfg.kind][options.labels][0]
        raise UserError(f"{path}: has no {lacking} (it holds {', '.join(content) or 'nothing'})")
    clean, noisy = (_whole_numbers(path, key, content[key]) for key in found)
    return path, clean, noisy


def _whole_numbers(path: Path, key: str, given: Any) -> Tensor:
    values = np.asarray(given)
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UserError(f"{path}: {key} is {values.dtype} of shape {values.shape}; labels are whole numbers (N,)")
    return torch.from_numpy(values.astype(np.int64))


def _content(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name."""
    if path.suffix == ".npz":
        return {key: npz_array(path, key) for key in npz_names(path)}
    if path.suffix == ".npy":
        return _numpys(path)
    if path.suffix in (".pt", ".pth"):
        return _torchs(path)
    raise UserError(f"{path}: human labels are read from .npz, .pt or .npy files")


def _numpys(path: Path) -> dict[str, Any]:
    """Return the dict that ``np.save`` wrapped into an array of one object."""
    with path.open("rb") as stream:
        with reading(path, "a .npy file", "fetch it again"):
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            header(stream)
        return unpickle_arrays(stream, path, wrapped=True)


def _torchs(path: Path) -> dict[str, Any]:
    """Return the dict of a file of ``torch.save``, by torch's own restricted unpickler."""
    rebuilt = np.empty(0).__reduce__()[0]  # NumPy's function that makes an empty array to be filled
    names: list[Any] = [
        (rebuilt, "numpy.core.multiarray._reconstruct"),
        (rebuilt, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in _DTYPES),
    ]
    with (
        reading(path, "a dict of arrays written by torch.save", "fetch it again"),
        torch.serialization.safe_globals(names),
    ):
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not arrays by name")
    return {str(key): value for key, value in content.items()}
