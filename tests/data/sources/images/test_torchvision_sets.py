"""Sets by the name of torchvision's class: its parts and images, and what is said where there are none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from credit.core.config.data_files import TORCHVISION_FILES, data_files
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.options import TorchvisionData
from credit.data.sources.images.torchvision_sets import PARTS
from tests.support.fakes import write_image


def config(name: str | None, root: Path, **options) -> TorchvisionData:
    return TorchvisionData(
        "torchvision", **{"name": name, "root": str(root), "batch_size": 4, "val_fraction": 0.25, **options}
    )


def loaded(name: str, root: Path, **options):
    return load(config(name, root, **options), NoiseConfig(), seed=0, device="cpu")


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.astype(np.uint8).tobytes()
    )


def write_digits(root: Path, name: str, prefixes: tuple[str, str], classes: int = 10) -> dict[str, np.ndarray]:
    """Write a set in MNIST's layout: 40 and 20 images of 28 x 28."""
    rng, held = np.random.default_rng(0), {}
    for prefix, part, count in zip(prefixes, ("train", "test"), (40, 20), strict=True):
        held[f"x_{part}"], held[f"y_{part}"] = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % classes
        write_idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", held[f"x_{part}"])
        write_idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", held[f"y_{part}"])
    return held


def test_kmnist_is_grey_with_its_own_parts_and_names(tmp_path):
    held = write_digits(tmp_path, "KMNIST", ("train", "t10k"))
    cfg = config("KMNIST", tmp_path)
    spec, data = describe(cfg), load(cfg, NoiseConfig("symmetric", 0.4), seed=0, device="cpu")
    assert spec.shape == data.shape == (1, 28, 28) and data.names[0] == "o" and spec.outputs == 10
    assert (spec.train_size, spec.val_size, spec.test_size) == (30, 10, 20)
    assert np.array_equal(data.test.x[:, 0], held["x_test"]) and data.test.y.tolist() == held["y_test"].tolist()
    assert data.train.x.dtype == torch.uint8 and data.train.x.is_contiguous()
    assert sorted(data_files(cfg)) == sorted(
        f"KMNIST/raw/{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    )


def test_emnists_subset_is_an_option(tmp_path):
    write_digits(tmp_path, "EMNIST", ("emnist-digits-train", "emnist-digits-test"))
    write_digits(tmp_path, "EMNIST", ("emnist-balanced-train", "emnist-balanced-test"), classes=40)
    assert describe(config("EMNIST", tmp_path)).outputs == 47
    data = loaded("EMNIST", tmp_path, subset="digits")
    assert data.names == list("0123456789") and len(data.test) == 20
    with pytest.raises(UserError, match="data.subset=digits would change nothing: it is read with data.name=EMNIST"):
        describe(config("KMNIST", tmp_path, subset="digits"))


def write_satellite(root: Path, sizes=((8, 8),)) -> dict[str, list[np.ndarray]]:
    """Write EuroSAT's folders: three classes of ten images."""
    return {
        name: [
            write_image(root / "eurosat" / "2750" / name / f"{n}.png", sizes[n % len(sizes)], seed=n + 10 * c)
            for n in range(10)
        ]
        for c, name in enumerate(("Forest", "River", "SeaLake"))
    }


def test_a_set_without_parts_is_split_in_proportion_and_has_colours(tmp_path):
    held = write_satellite(tmp_path)
    data = loaded("EuroSAT", tmp_path)
    assert data.shape == (3, 8, 8) and data.names == ["Forest", "River", "SeaLake"]
    assert torch.equal(data.test.y.bincount(), torch.tensor([2, 2, 2])) and len(data.train) + len(data.val) == 24
    for image, label in zip(data.train.x.permute(0, 2, 3, 1).numpy(), data.train.y.tolist(), strict=True):
        assert any(np.array_equal(image, one) for one in held[data.names[label]])
    assert len(loaded("EuroSAT", tmp_path, test_fraction=0.5).test) == 15


def test_images_of_several_sizes_need_one(tmp_path):
    write_satellite(tmp_path, ((8, 8), (12, 9)))
    with pytest.raises(
        UserError, match="is 9 x 12, the first image 8 x 8: give the size all shall have, for example data.image"
    ):
        loaded("EuroSAT", tmp_path)
    assert loaded("EuroSAT", tmp_path, image_size=6, resize=7).shape == (3, 6, 6)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_missing_set_says_what_to_put_where(tmp_path, name):
    with pytest.raises(UserError) as refusal:
        describe(config(name, tmp_path))
    for words in (
        *TORCHVISION_FILES[name],
        str(tmp_path),
        "CREDIT_DATA=<folder>",
        f"d.{name}({str(tmp_path)!r}, ",
        "download=True",
    ):
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": None}, "data=torchvision does not say which set: write data.name=..."),
        ({"name": "SVNH"}, "did you mean 'SVHN'"),
        ({"name": "SVHN", "download": True}, "data.download=true would change nothing"),
        ({"name": "SVHN", "path": "x"}, "data.path=x would change nothing"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, words):
    with pytest.raises(UserError) as refusal:
        describe(config(**{"root": tmp_path, **options}))
    assert words in str(refusal.value)


def test_a_damaged_set_is_refused(tmp_path):
    write_digits(tmp_path, "KMNIST", ("train", "t10k"))
    file = tmp_path / "KMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match="data=torchvision data.name=KMNIST is not in"):
        describe(config("KMNIST", tmp_path))


def test_fashion_mnist_is_what_its_own_kind_reads(need_data, tmp_path):
    root = need_data("FashionMNIST")
    ours, theirs = (
        load(cfg, NoiseConfig(), seed=0, device="cpu")
        for cfg in (config("FashionMNIST", root), DataConfig("fashion_mnist", root=str(root), val_fraction=0.25))
    )
    assert ours.digest == theirs.digest and ours.names == theirs.names and torch.equal(ours.train.x, theirs.train.x)
