"""Image folders: classes, sizes, grey images, and files that are no images."""

import numpy as np
import pytest

from credit.config.schema import DataConfig, NoiseConfig
from credit.data import describe, load
from credit.data.folder import read_folder
from credit.errors import UserError
from tests.data.fakes import write_image


@pytest.fixture
def folder(tmp_path):
    """Two classes, three training images and one test image each, 8 x 8 PNG."""
    for c, name in enumerate(("ant", "bee")):
        for i in range(3):
            write_image(tmp_path / "train" / name / f"{i}.png", seed=10 * c + i)
        write_image(tmp_path / "val" / name / "0.PNG", seed=10 * c + 9)
    return tmp_path


def config(folder, **options):
    return DataConfig(kind="image_folder", path=str(folder), batch_size=2, **options)


def test_images_keep_their_pixels_and_classes_their_order(folder):
    got = read_folder(folder, None)
    assert got.names == ["ant", "bee"] and got.y_train.tolist() == [0, 0, 0, 1, 1, 1] and got.y_test.tolist() == [0, 1]
    expected = write_image(folder / "spare.png", seed=11)
    assert np.array_equal(got.x_train[4].numpy(), expected.transpose(2, 0, 1))


def test_described_as_loaded(folder):
    spec = describe(config(folder, image_size=5, val_fraction=0.0))
    data = load(config(folder, image_size=5, val_fraction=0.0), NoiseConfig(), seed=0, device="cpu")
    assert spec.shape == data.shape == (3, 5, 5) and spec.train_size == len(data.train) == 6
    assert spec.test_size == len(data.test) == 2 and len(data.val) == 0 and data.classes == spec.classes == 2


def test_a_test_folder_stands_in_for_val(folder):
    (folder / "val").rename(folder / "test")
    assert describe(config(folder)).test_size == 2


def test_grey_images_become_three_equal_channels(folder):
    pixels = write_image(folder / "train/ant/0.png", mode="L", seed=3)
    assert np.array_equal(read_folder(folder, None).x_train[0].numpy(), np.stack([pixels] * 3))


def test_image_size_keeps_the_centre(folder):
    pixels = write_image(folder / "train/ant/0.png", size=(12, 8), seed=4)
    assert np.array_equal(read_folder(folder, 8).x_train[0].numpy(), pixels[:, 2:10].transpose(2, 0, 1))


def refusal(folder, **options):
    with pytest.raises(UserError) as error:
        load(config(folder, **options), NoiseConfig(), seed=0, device="cpu")
    return str(error.value)


def test_mixed_sizes_ask_for_image_size(folder):
    write_image(folder / "train/bee/1.png", size=(9, 8))
    message = refusal(folder)
    assert str(folder / "train/bee/1.png") in message and "data.image_size=8" in message


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image_is_named(folder, content):
    (folder / "train/bee/2.png").write_bytes(content)
    message = refusal(folder)
    assert "corrupt data" in message and str(folder / "train/bee/2.png") in message


@pytest.mark.parametrize("name", ["2.png", "2.jpg"])
def test_a_truncated_image_is_named_with_its_size(folder, name):
    path = folder / "train/bee" / name
    write_image(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:1500])
    message = refusal(folder, image_size=8)
    assert "cannot be decoded" in message and str(path) in message and "1500 bytes" in message


def test_an_image_whose_sidecar_digest_differs_is_refused(folder):
    (folder / "train/bee/2.png.sha256").write_text("0" * 64)
    assert "expected sha256 " + "0" * 64 in refusal(folder)


def test_missing_and_empty_parts_are_explained(folder):
    write_image(folder / "val/wasp/0.png")
    assert "class wasp has no folder" in refusal(folder)
    for path in (folder / "val/wasp/0.png", folder / "val/ant/0.PNG", folder / "val/bee/0.PNG"):
        path.unlink()
    (folder / "val/wasp").rmdir()
    assert "holds no image" in refusal(folder)
    (folder / "train").rename(folder / "training")
    assert "needs a folder train/ and a folder val/ or test/" in refusal(folder)


def test_a_set_larger_than_memory_is_refused(folder):
    message = refusal(folder, image_size=200000)
    assert "GiB decoded" in message and "smaller data.image_size" in message


def test_the_tiny_imagenet_slice_loads(data_root):
    if not (data_root / "imagenet_sample").is_dir():
        pytest.skip(f"imagenet_sample is not in {data_root}")
    data = load(config(data_root / "imagenet_sample", image_size=32), NoiseConfig(), seed=0, device="cpu")
    assert data.shape == (3, 32, 32) and data.classes == 20 and len(data.train) == 1800 and len(data.test) == 1000
