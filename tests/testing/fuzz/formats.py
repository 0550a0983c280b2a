"""Every format of files that is read: a small valid file, and the function of the package that reads it."""

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from credit.cli.trained.predict import _array
from credit.core.config.compose import compose
from credit.core.config.folders import describe, settings
from credit.core.user_files import use_folders
from credit.data.noise import drawn, human
from credit.data.options import CsvData, TextData
from credit.data.sources import text
from credit.data.sources.files import parse_idx
from credit.data.sources.images import imagenet32
from credit.data.sources.images.decoding import decode
from credit.data.sources.npz import read_npz
from credit.data.sources.pickles import unpickle_arrays
from credit.data.sources.tables import csv_file
from credit.models.weights import read_weights
from credit.runs.folder import read_json
from credit.runs.metrics import METRICS, read_metrics
from credit.training.state import checkpoint

RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: of the file; its ending decides how it is read.
        content: of a valid file.
        read: reads the file at a path; returns something, or refuses by an exception of `refuses`, `UserError` always.
        refuses: further exceptions that a caller turns into words.
    """

    name: str
    content: Callable[[], bytes]
    read: Callable[[Path], Any]
    refuses: tuple[type[Exception], ...] = ()


def written(write: Callable[[io.BytesIO], Any]) -> Callable[[], bytes]:
    """Return a function that returns what `write` writes to a stream."""

    def content() -> bytes:
        stream = io.BytesIO()
        write(stream)
        return stream.getvalue()

    return content


IMAGES: dict[str, Any] = {"x_train": RANDOM.integers(0, 256, (6, 4, 4), np.uint8), "y_train": np.arange(6) % 2,
          "x_test": RANDOM.integers(0, 256, (4, 4, 4), np.uint8), "y_test": np.arange(4) % 2}  # fmt: skip
ROWS: dict[str, Any] = {"x_train": RANDOM.random((6, 3), np.float32), "y_train": RANDOM.random(6, np.float32),
        "x_test": RANDOM.random((4, 3), np.float32), "y_test": RANDOM.random(4, np.float32)}  # fmt: skip
BATCH = {"data": RANDOM.integers(0, 256, (5, 3072), np.uint8), "labels": [1, 2, 3, 4, 5]}
HUMAN = {"worse_label": np.arange(50) % 10, "clean_label": np.arange(50) % 10}
TABLE = "size,kind,label\n" + "".join(f"{number / 7:.3f},{'ab'[number % 2]},{number % 3}\n" for number in range(40))
STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


class _Shape:
    shape = (1, 4, 4)


def _image(format_: str, mode: str = "RGB", **more: Any) -> Callable[[], bytes]:
    image = Image.fromarray(RANDOM.integers(0, 256, (12, 12, 3), np.uint8)).convert(mode)
    return written(lambda stream: image.save(stream, format_, **more))


def _pickled(path: Path) -> Any:
    with path.open("rb") as stream:
        return unpickle_arrays(stream, path)


def _yaml(path: Path) -> Any:
    """Read a rule's YAML as ``--help``, `credit list` and a run do."""
    use_folders([path.parent.parent])
    try:
        return describe(path), settings("rule", path.stem), compose([f"rule={path.stem}"])
    finally:
        use_folders([])


def _checkpoint_of(state: dict[str, Any]) -> Callable[[], bytes]:
    def content() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return checkpoint.save(Path(folder), 3, state).read_bytes()

    return content


def _matrix(path: Path) -> Any:
    return drawn._numbers(path, "noise=matrix")


def _weights(path: Path) -> Any:
    return read_weights(str(path))


def _examples(path: Path) -> Any:
    model: Any = _Shape()
    return _array(model, path)


def _csv(path: Path) -> Any:
    return csv_file.read(CsvData(kind="csv", path=str(path), target="label"))


FORMATS = {
    "npz, images": Format("a.npz", written(lambda s: np.savez(s, **IMAGES)), read_npz),
    "npz, compressed rows": Format("a.npz", written(lambda s: np.savez_compressed(s, **ROWS)), read_npz),
    "npy": Format("a.npy", written(lambda s: np.save(s, IMAGES["x_test"])), _examples),
    "npz of examples": Format("a.npz", written(lambda s: np.savez(s, x=IMAGES["x_test"])), _examples),
    "idx": Format(
        "a-ubyte", lambda: b"\0\0\x08\x03" + np.array([5, 4, 4], ">u4").tobytes() + bytes(80),
        lambda path: parse_idx(path.read_bytes(), path),
    ),
    "pickle, protocol 2": Format("data_batch_1", lambda: pickle.dumps(BATCH, 2), _pickled),
    "pickle, protocol 5": Format("data_batch_1", lambda: pickle.dumps(BATCH, 5), _pickled),
    "pickle, ImageNet32": Format("train_data_batch_1", lambda: pickle.dumps(BATCH, 3), imagenet32._count),
    "csv": Format("a.csv", TABLE.encode, _csv),
    "text": Format("a.txt", lambda: ("the quick brown fox, " * 400).encode(), lambda path: text.read(
        TextData(kind="text", path=str(path), context=8))),
    "matrix, npy": Format("a.npy", written(lambda s: np.save(s, np.full((3, 3), 1 / 3))), _matrix),
    "matrix, csv": Format("a.csv", lambda: b"0.9,0.1\n0.2,0.8\n", _matrix),
    "human labels, pt": Format("a.pt", written(lambda s: torch.save(HUMAN, s)), human._torchs),
    "human labels, npy": Format("a.npy", written(lambda s: np.save(s, np.array(HUMAN, object))), human._numpys),
    "weights, pt": Format("a.pt", written(lambda s: torch.save(STATE, s)), _weights),
    "weights, old pt": Format(
        "a.pth", written(lambda s: torch.save(STATE, s, _use_new_zipfile_serialization=False)), _weights,
    ),
    "weights, safetensors": Format("a.safetensors", lambda: save(STATE), _weights),
    **{
        f"image, {name}": Format(f"a.{name}", made, lambda path: decode(path, (8, 8), 8))
        for name, made in {
            "png": _image("PNG"), "jpg": _image("JPEG"), "bmp": _image("BMP"), "ppm": _image("PPM"), "gif": _image("GIF", "P"),
            "tiff": _image("TIFF"), "tif": _image("TIFF", compression="tiff_lzw"), "webp": _image("WEBP", lossless=True),
        }.items()
    },
    "yaml": Format("rule/mine.yaml", lambda: b"# a rule\ndefaults:\n  - bp\n  - _self_\nclip: 0.1\nsparse: auto\n", _yaml),
    "json": Format("result.json", lambda: json.dumps({"status": "complete", "best": {"step": 3}}).encode(),
                   lambda path: read_json(path, "delete it")),
    "metrics": Format(
        METRICS, lambda: b"".join(json.dumps({"step": n, "epoch": n, "test_top1": 0.5}).encode() + b"\n" for n in range(5)),
        lambda path: read_metrics(path.parent),
    ),
    "checkpoint": Format("a.ckpt", _checkpoint_of({"step": 3, "model": STATE}), checkpoint.read, (checkpoint.DamagedError,)),
}  # fmt: skip
