"""ImageNet32 from small made files in both of its official formats, and what is said of others."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from credit.core.config import check
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.sources import catalog
from credit.data.sources.digests import arrays_digest
from credit.data.sources.images import imagenet32
from credit.rules.api import read as read_rule
from credit.training import train
from tests.support.fakes import old_pickle

PER_FILE, TESTED = 30, 20


def content(name: str) -> dict[str, Any]:
    """Return what one file holds; labels run over 1 to 1000, some of them in the test part alone."""
    place = (*imagenet32.TRAIN, imagenet32.TEST).index(name)
    rng = np.random.default_rng(place)
    count = TESTED if name == imagenet32.TEST else PER_FILE
    labels = (rng.integers(0, 1000, count) + 1).tolist()
    labels[:2] = [1, 1000]
    return {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        "labels": labels,
        "mean": rng.random(3072),
    }


def as_python_2(held: dict[str, Any]) -> bytes:
    """Pickle as Python 2 did: byte strings as SHORT_BINSTRING and BINSTRING, which read as text without latin1."""
    out = io.BytesIO()
    data = held["data"]
    # cnumpy.core.multiarray _reconstruct (numpy.ndarray, (0,), 'b'), then its state with the pixels as one string
    out.write(b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R")
    out.write(b"(K\x01" + b"K" + bytes([len(data)]) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R")
    out.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
    pixels = data.tobytes()
    out.write(b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb")
    out.write(b"U\x06labels](")
    for label in held["labels"]:
        out.write(b"M" + int(label).to_bytes(2, "little"))
    out.write(b"eu.")
    return out.getvalue()


WRITERS: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "python 2": lambda path, held: path.write_bytes(as_python_2(held)),
    "python 3, old numpy": lambda path, held: path.write_bytes(old_pickle(held)),
    "protocol 5": lambda path, held: path.write_bytes(pickle.dumps(held, protocol=5)),
    "npz": lambda path, held: np.savez(path.with_suffix(".npz"), **held),
    "npz, compressed": lambda path, held: np.savez_compressed(path.with_suffix(".npz"), **held),
}


def write_all(root: Path, form: str = "npz", inside: str = "") -> Path:
    folder = root / "imagenet32" / inside
    folder.mkdir(parents=True)
    for name in (*imagenet32.TRAIN, imagenet32.TEST):
        WRITERS[form](folder / name, content(name))
    return folder


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(kind="imagenet32", root=str(root), **{"batch_size": 10, **options})


def refusal(call: Callable[..., Any], *given: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*given)
    return str(error.value)


@pytest.mark.parametrize("form", WRITERS)
def test_every_official_format_reads_to_the_same_images_and_labels(form, tmp_path):
    write_all(tmp_path, form)
    whole = catalog.look(config(tmp_path))
    assert (whole.shape, whole.outputs, whole.train, whole.test) == ((3, 32, 32), 1000, 10 * PER_FILE, TESTED)
    arrays = catalog.read(config(tmp_path))
    assert (
        arrays.x_train.dtype == torch.uint8
        and arrays.x_train.shape == (300, 3, 32, 32)
        and arrays.x_train.is_contiguous()
    )
    expected = np.concatenate([content(name)["data"] for name in imagenet32.TRAIN])
    assert np.array_equal(arrays.x_train.flatten(1).numpy(), expected)
    assert arrays.x_train[0, 1, 0, 0] == expected[0, 1024]  # green is behind all of red
    assert arrays.y_train.tolist() == [label - 1 for name in imagenet32.TRAIN for label in content(name)["labels"]]
    assert arrays.y_test.min() == 0 and arrays.y_test.max() == 999 and arrays.names[-1] == "1000"


def test_batch_10_stands_behind_batch_9_and_archives_may_have_folders_of_their_own(tmp_path):
    folder = write_all(tmp_path, "npz", "Imagenet32_train_npz")
    other = tmp_path / "imagenet32" / "Imagenet32_val_npz"
    other.mkdir()
    (folder / "val_data.npz").rename(other / "val_data.npz")
    arrays = catalog.read(config(tmp_path))
    assert np.array_equal(arrays.x_train[-PER_FILE:].flatten(1).numpy(), content("train_data_batch_10")["data"])


def test_the_yaml_holds_out_the_last_twentieth_as_stored_and_scales_by_imagenets_colours(tmp_path):
    write_all(tmp_path)
    cfg = config(tmp_path, normalize="imagenet", val_fraction=0.05, val_split="last")
    spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=3, device="cpu")
    assert (
        (spec.train_size, spec.val_size, spec.test_size)
        == (285, 15, 20)
        == tuple(map(len, (data.train, data.val, data.test)))
    )
    stored = content("train_data_batch_10")
    assert np.array_equal(data.val.x.flatten(1).numpy(), stored["data"][-15:])
    assert data.val.y.tolist() == [label - 1 for label in stored["labels"][-15:]]
    # Neither part is a copy: both are views of what was read.
    assert data.train.x.untyped_storage().data_ptr() == data.val.x.untyped_storage().data_ptr()
    red = (data.train.x[0, 0, 0, 0].item() / 255 - 0.485) / 0.229
    assert data.prepare(data.train.x[:1])[0, 0, 0, 0].item() == pytest.approx(red, abs=1e-5)


def test_a_run_on_it_tells_the_top_5(tmp_path, monkeypatch):
    write_all(tmp_path)
    mapping: dict[str, Any] = {
        "rule": read_rule("bp"),
        "arch": {"kind": "mlp", "widths": [8]},
        "data": {
            "kind": "imagenet32",
            "root": str(tmp_path),
            "batch_size": 50,
            "normalize": "imagenet",
            "val_split": "last",
        },
        "trainer": {"epochs": 1, "device": "cpu", "progress": False},
    }
    result = train(check(mapping), console=False)
    assert {"val_top5", "test_top5"} <= set(result["last"]) and result["data"]["classes"] == 1000


def test_missing_files_are_told_with_where_they_are_had_and_where_they_go(tmp_path):
    message = refusal(describe, config(tmp_path))
    for words in (
        *imagenet32.TRAIN, "val_data", "which does not exist", "https://image-net.org/download-images.php",
        "Imagenet32_train.zip", str(tmp_path / "imagenet32"), "CREDIT_DATA", "data.root",
    ):  # fmt: skip
        assert words in message
    folder = write_all(tmp_path)
    (folder / "train_data_batch_7.npz").unlink()
    assert "missing: train_data_batch_7 (the others are there), each as it is or with .npz behind it" in refusal(
        describe, config(tmp_path)
    )
    assert "image-net.org gives it to those who log in" in refusal(describe, config(tmp_path, download=True))


class Payload:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made_by_a_pickle",)


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_all(tmp_path, "python 3, old numpy")
    held = content("val_data")
    (folder / "val_data").write_bytes(pickle.dumps({**held, "mean": Payload()}))
    message = refusal(catalog.read, config(tmp_path))
    assert str(folder / "val_data") in message and "mkdir, which may be code and was not run" in message
    assert not Path("made_by_a_pickle").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: {**held, "labels": [0, *held["labels"][1:]]}, "labels from 0 to 1000; ImageNet32 counts its classes from 1"),
        (lambda held: {**held, "labels": [1001, *held["labels"][1:]]}, "to 1001"),
        (lambda held: {**held, "labels": held["labels"][1:]}, "'labels' is int64 of shape (19,), not 20 whole numbers"),
        (lambda held: {**held, "labels": [0.5] * TESTED}, "'labels' is float64"),
        (lambda held: {**held, "data": held["data"].astype(np.float32)}, "'data' is float32 of shape (20, 3072), not uint8"),
        (lambda held: {**held, "data": held["data"][:, :3000]}, "holds no images of 3 x 32 x 32"),
        (lambda held: {key: value for key, value in held.items() if key != "labels"}, "has no labels (it holds data, mean)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["python 3, old numpy", "npz"])
def test_files_that_hold_something_else_are_refused(form, change, words, tmp_path):
    folder = write_all(tmp_path, form)
    WRITERS[form](folder / "val_data", change(content("val_data")))
    message = refusal(catalog.read, config(tmp_path))
    assert words in message and str(folder / "val_data") in message


@pytest.mark.parametrize("form", ["python 2", "python 3, old numpy", "npz"])
def test_a_file_cut_short_is_told(form, tmp_path):
    folder = write_all(tmp_path, form)
    path = folder / ("val_data.npz" if form == "npz" else "val_data")
    path.write_bytes(path.read_bytes()[:-700])
    message = refusal(catalog.read, config(tmp_path))
    assert "corrupt data" in message and str(path) in message


@pytest.mark.parametrize("form", ["python 2", "python 3, old numpy", "protocol 5"])
def test_looking_reads_no_pixels(form, tmp_path, monkeypatch):
    """On the whole set this is the difference between milliseconds and reading 4 GB."""
    write_all(tmp_path, form)
    read = 0

    class Counting(imagenet32._Skimmed):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            found = super().read(size)
            read += 0 if isinstance(found, imagenet32._LeftOut) else len(found)
            return found

    monkeypatch.setattr(imagenet32, "_Skimmed", Counting)
    assert catalog.look(config(tmp_path)).train == 300
    assert 0 < read < 20_000  # of 11 files of 60 to 90 kB


def test_the_split_of_the_last_ones_is_that_of_every_seed_and_another_than_the_drawn_one():
    cfg = DataConfig(kind="digits", val_split="last", split_seed=None)
    parts = [load(cfg, NoiseConfig(), seed=seed, device="cpu") for seed in (0, 1)]
    whole = catalog.read(DataConfig(kind="digits"))
    for data in parts:
        assert torch.equal(data.val.x, whole.x_train[-144:]) and torch.equal(data.train.x, whole.x_train[:-144])
    drawn = load(DataConfig(kind="digits"), NoiseConfig(), seed=0, device="cpu")
    assert (
        not torch.equal(drawn.val.x, parts[0].val.x)
        and arrays_digest(whole.tensors()) == parts[0].digest == drawn.digest
    )
