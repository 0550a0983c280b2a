"""Image folders: classes, sizes, grey images, and files that are no images."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from credit.core.config.compose import compose
from credit.core.config.data_files import data_files
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, describe, load
from credit.data.sources.images.folder import read_folder
from credit.runs.identity import run_name
from tests.support.fakes import write_image


@pytest.fixture
def folder(tmp_path):
    """Two classes, three training images and one test image each, 8 x 8 PNG."""
    for c, name in enumerate(("ant", "bee")):
        for i in range(3):
            write_image(tmp_path / "train" / name / f"{i}.png", seed=10 * c + i)
        write_image(tmp_path / "val" / name / "0.PNG", seed=10 * c + 9)
    return tmp_path


def read(folder, **options):
    return read_folder(folder, config(folder, **options))


def config(folder, **options):
    return DataConfig(kind="image_folder", path=str(folder), batch_size=2, **options)


def test_images_keep_their_pixels_and_classes_their_order(folder):
    got = read(folder)
    assert got.names == ["ant", "bee"] and got.y_train.tolist() == [0, 0, 0, 1, 1, 1] and got.y_test.tolist() == [0, 1]
    expected = write_image(folder / "spare.png", seed=11)
    assert np.array_equal(got.x_train[4].numpy(), expected.transpose(2, 0, 1))


def test_described_as_loaded(folder):
    spec = describe(config(folder, image_size=5, val_fraction=0.0))
    data = load(config(folder, image_size=5, val_fraction=0.0), NoiseConfig(), seed=0, device="cpu")
    assert spec.shape == data.shape == (3, 5, 5) and spec.train_size == len(data.train) == 6
    assert spec.test_size == len(data.test) == 2 and len(data.val) == 0 and data.classes == spec.outputs == 2


def test_a_test_folder_stands_in_for_val(folder):
    (folder / "val").rename(folder / "test")
    assert describe(config(folder)).test_size == 2


def test_grey_images_become_three_equal_channels(folder):
    pixels = write_image(folder / "train/ant/0.png", mode="L", seed=3)
    assert np.array_equal(read(folder).x_train[0].numpy(), np.stack([pixels] * 3))


def test_image_size_keeps_the_centre(folder):
    pixels = write_image(folder / "train/ant/0.png", size=(12, 8), seed=4)
    assert np.array_equal(read(folder, image_size=8).x_train[0].numpy(), pixels[:, 2:10].transpose(2, 0, 1))


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
    assert "not an image that can be decoded" in message and str(path) in message and "1500 bytes" in message


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


def part(folder, name, count=4):
    """Add a part of `count` images a class."""
    for c, entry in enumerate(("ant", "bee")):
        for i in range(count):
            write_image(folder / name / entry / f"{i}.png", seed=100 * c + i + 50)


def loaded(folder, **options):
    return load(config(folder, **options), NoiseConfig(), seed=0, device="cpu")


def test_beside_a_test_folder_val_is_the_validation_part(folder):
    part(folder, "test")
    spec, data = describe(config(folder)), loaded(folder)
    assert (spec.train_size, spec.val_size, spec.test_size) == (6, 2, 8)
    got = [torch.equal(data.split(name).x, read(folder).x_train[places]) for name, places in (
        ("train", slice(0, 6)), ("val", slice(6, 8)))]  # fmt: skip
    assert got == [True, True] and torch.equal(data.test.x, read(folder).x_test) and len(data.test) == 8
    assert data.val.y.tolist() == [0, 1] and f"{folder / 'val'} is the validation part" in " ".join(data.notes)
    files = loaded(folder, hold="files")
    assert all(torch.equal(files.split(name).x, data.split(name).x) for name in ("train", "val", "test"))
    assert len(loaded(folder, limit_train=4).val) == 2  # a limit is of the training part


def test_without_a_test_folder_val_is_the_test_part_and_a_note_says_so(folder):
    data = loaded(folder, val_fraction=0.0)
    assert len(data.test) == 2 and data.notes == [f"{folder / 'val'} is the test part"]


@pytest.mark.parametrize("option", [{"val_fraction": 0.2}, {"val_size": 2}, {"val_split": "last"}])
def test_a_validation_split_beside_a_validation_part_is_refused(folder, option):
    part(folder, "test")
    message = refusal(folder, **option)
    assert f"data.{next(iter(option))}=" in message and "a validation part of its own, 2 examples" in message
    pooled = loaded(folder, test_fraction=0.5, **option)  # of all 16 images
    assert len(pooled.test) == 8 and len(pooled.train) + len(pooled.val) == 8


def test_test_images_without_labels_are_left_out_with_a_note(folder):
    (folder / "test").mkdir()
    assert f"{folder / 'test'}: is empty" in refusal(folder)
    write_image(folder / "test" / "ILSVRC2012_test_00000001.png")
    data = loaded(folder)
    assert len(data.test) == 2 and "test has no class folders, so its images have no labels" in " ".join(data.notes)


@pytest.mark.parametrize("name", ["valid", "validation", "dev"])
def test_a_validation_part_of_another_name_is_not_left_out_in_silence(folder, name):
    part(folder, name)
    assert f"{folder / name}: a folder of this name is not read. Rename it to val/" in refusal(folder)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir"])
def test_hidden_folders_are_no_classes_and_hidden_files_no_images(folder, name):
    before = read(folder).digest()
    for place in (folder / "train", folder / "val", folder / "train" / "ant"):
        write_image(place / name / "0-checkpoint.png")
    (folder / "train" / "bee" / "._0.png").write_bytes(b"what an archive of macOS leaves")
    got = read(folder)
    assert got.names == ["ant", "bee"] and got.digest() == before


@pytest.mark.parametrize("where", ["train", "val", "test"])
def test_an_empty_class_folder_is_named(folder, where):
    part(folder, "test")
    for image in (folder / where / "bee").iterdir():
        image.unlink()
    (folder / where / "bee" / "notes.txt").write_text("no image")
    message = refusal(folder)
    assert f"{folder / where / 'bee'}: holds no image" in message and message.endswith("there, or remove the folder")


def test_links_to_folders_of_images_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_image(elsewhere / "more.png", seed=99)
    (folder / "train" / "ant" / "more").symlink_to(elsewhere)
    (folder / "train" / "ant" / "round").symlink_to(folder / "train")  # leads back, and would go on for ever
    assert read(folder).y_train.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert any("more.png" in name for name in data_files(config(folder)))


def test_one_class_is_refused_at_once(folder):
    for place in ("train", "val"):
        for image in (folder / place / "bee").iterdir():
            image.unlink()
        (folder / place / "bee").rmdir()
    assert "holds one class folder, ant, and a classifier needs two or more" in refusal(folder)
    (folder / "train" / "ant").rename(folder / "ant")
    assert "train holds no class folder" in refusal(folder)


def test_what_is_not_read_is_noted(folder):
    (folder / "val" / "bee").rename(folder / "train" / "cow")
    write_image(folder / "train" / "loose.png")
    (folder / "train" / "bee" / "3.gif").write_bytes(b"")
    notes = " ".join(loaded(folder, val_fraction=0.0).notes)
    assert f"{folder / 'val'} has no folder for 2 classes (bee, cow)" in notes
    assert f"{folder / 'train'}: files that are not read: 1 in no class folder, 1 of suffix .gif" in notes


def test_transparent_images_are_read_as_chosen(folder):
    pixels = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(pixels).save(folder / "train/ant/0.png")
    message = refusal(folder)
    assert "train/ant/0.png: has transparent pixels (mode RGBA)" in message and "data.alpha=white" in message
    assert read(folder, alpha="white").x_train[0].unique().tolist() == [255]
    assert read(folder, alpha="drop").x_train[0].unique().tolist() == [0]
    assert loaded(folder, alpha="white", hold="files").train.x.shape == loaded(folder, alpha="drop").train.x.shape


def test_a_set_larger_than_memory_is_refused(folder):
    message = refusal(folder, image_size=200000)
    assert "GiB decoded" in message and "smaller data.image_size" in message


def test_the_tiny_imagenet_slice_loads(need_data):
    data = loaded(need_data("imagenet_sample") / "imagenet_sample", image_size=32)
    assert data.shape == (3, 32, 32) and data.classes == 20 and len(data.train) == 1800 and len(data.test) == 1000


def test_chosen_classes_alone_are_read_and_numbered_in_order(folder):
    for name in ("cow", "dog"):
        write_image(folder / "train" / name / "0.png", seed=50)
        write_image(folder / "val" / name / "0.png", seed=51)
    (folder / "train/ant/0.png").write_bytes(b"no image, and not looked at")
    write_image(folder / "val/wasp/0.png")  # a class that is not chosen need not be trained
    got = read(folder, classes=["dog", "bee"])
    assert got.names == ["bee", "dog"] and got.y_train.tolist() == [0, 0, 0, 1] and got.y_test.tolist() == [0, 1]
    spec = describe(config(folder, classes=["dog", "bee"], val_fraction=0.0))
    assert spec.outputs == 2 and spec.train_size == 4 and spec.test_size == 2


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["ant", "bea"], ["class bea has no folder in", "train, which holds 2 classes", "did you mean 'bee'"]),
        (["ant"], ["data.classes=[ant]: a classifier needs two or more"]),
        (["ant", "bee", "ant"], ["ant is named twice"]),
    ],
)
def test_classes_that_cannot_be_chosen_are_named(folder, classes, words):
    message = refusal(folder, classes=classes)
    assert all(word in message for word in words)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_chosen_class_without_images_is_named(folder, part):
    for image in (folder / part / "bee").iterdir():
        image.unlink()
    assert f"{folder / part / 'bee'}: holds no image" in refusal(folder, classes=["ant", "bee"])


def test_the_order_in_which_classes_are_chosen_decides_nothing():
    words = ["data=image_folder", "data.path=x", "data.image_size=8", "rule=bp"]
    names = [run_name(compose([*words, f"data.classes=[{chosen}]"])) for chosen in ("ant,bee", "bee,ant", "ant,cat")]
    assert names[0] == names[1] != names[2]


def test_a_flat_validation_folder_is_explained(folder):
    for name in ("ant", "bee"):
        (folder / "val" / name / "0.PNG").rename(folder / "val" / f"ILSVRC2012_val_{name}.png")
        (folder / "val" / name).rmdir()
    message = refusal(folder, classes=["ant", "bee"])
    assert "val holds no class folder" in message and "sort them by their labels" in message


def test_resized_and_then_cropped_as_torchvision_does(folder):
    from PIL import Image
    from torchvision.transforms.v2.functional import center_crop, resize

    write_image(folder / "train/ant/0.png", size=(45, 30), seed=5)
    got = read(folder, image_size=14, resize=16).x_train[0].numpy()
    with Image.open(folder / "train/ant/0.png") as image:
        expected = np.asarray(center_crop(resize(image, 16), 14)).transpose(2, 0, 1)
    assert np.array_equal(got, expected)


def test_resize_needs_an_image_size_below_it(folder):
    assert "data.resize=16 with data.image_size=null" in refusal(folder, resize=16)
    assert "data.resize=256 data.image_size=224" in refusal(folder, resize=16, image_size=17)


def test_imagenets_colours(folder):
    data = load(config(folder, normalize="imagenet", val_fraction=0.0), NoiseConfig(), seed=0, device="cpu")
    pixel = data.prepare(data.train.x[:1])[0, :, 0, 0]
    byte = data.train.x[0, :, 0, 0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixel, (byte / 255 - mean) / std)
    with pytest.raises(UserError, match="data.normalize=imagenet with data=digits.*1 channel; write"):
        describe(DataConfig(normalize="imagenet"))


def test_the_twenty_classes_of_paper_2_are_those_of_its_names():
    from timm.data import ImageNetInfo
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    names = ["mailbox", "maillot", "medicine chest", "mobile home", "notebook", "sea snake", "Bouvier des Flandres"]
    names += ["American alligator", "Walker hound", "dishwasher", "street sign", "tub", "coho", "ear", "Great Pyrenees"]
    names += ["ground beetle", "rule", "megalith", "three-toed sloth", "dhole"]
    cfg = compose(["data=imagenet20"]).data
    synsets = ImageNetInfo().label_names()
    assert cfg.classes is not None and [CATEGORIES[synsets.index(wnid)] for wnid in cfg.classes] == names


def test_imagenet_20_brings_torchvisions_network() -> None:
    arch = compose(["data=imagenet20"]).arch
    assert (arch["kind"], arch["norm"], arch["dense"], arch["dropout"]) == ("vgg16", "none", [4096, 4096], 0.5)
    assert compose(["data=imagenet20", "arch=lenet5"]).arch["kind"] == "lenet5"


def test_imagenet_is_read_batch_by_batch_in_a_thousand_classes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CREDIT_DATA", str(tmp_path))
    composed = compose(["data=imagenet"])
    cfg = composed.data
    assert composed.arch["kind"] == "vgg16" and (cfg.hold, cfg.classes, cfg.val_size) == ("files", None, 10000)
    with pytest.raises(UserError, match=r"there is no folder .*ILSVRC2012"):
        describe(cfg)
    for part in ("train", "val"):
        for i in range(12):
            write_image(tmp_path / "ILSVRC2012" / part / f"n{i % 3}" / f"{i}.JPEG", size=(300, 260), seed=i)
    cfg = dataclasses.replace(cfg, val_size=3, batch_size=4)
    data = load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert data.shape == (3, 224, 224) and (len(data.train), len(data.val), len(data.test)) == (9, 3, 12)
    batch = Batches(data, cfg, seed=0).at(0)
    assert batch.x.shape == (4, 3, 224, 224) and data.train.held.shape == (9, 3, 224, 224)


def test_imagenet_20_says_where_it_is_looked_for_and_what_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDIT_DATA", str(tmp_path))
    cfg = compose(["data=imagenet20", "data.batch_size=2"]).data
    with pytest.raises(UserError) as error:
        describe(cfg)
    assert str(tmp_path / "ILSVRC2012") in str(error.value) and "train/n03710193/*.JPEG" in str(error.value)
    for part in ("train", "val"):
        for wnid in cfg.classes or ():
            write_image(tmp_path / "ILSVRC2012" / part / wnid / f"{wnid}_1.JPEG", size=(300, 260), seed=1)
    spec = describe(cfg)
    assert spec.shape == (3, 224, 224) and spec.outputs == spec.test_size == 20
    (tmp_path / "ILSVRC2012/val/n02115913").rename(tmp_path / "ILSVRC2012/val/n02115914")
    with pytest.raises(UserError, match="class n02115913 has no folder in .*val.*n02115914"):
        describe(cfg)


def test_some_classes_of_the_tiny_imagenet_slice_load(need_data):
    chosen = ["n07871810", "n01443537", "n02410509"]
    data = loaded(need_data("imagenet_sample") / "imagenet_sample", image_size=32, resize=36, classes=chosen)
    assert data.names == ["n01443537", "n02410509", "n07871810"] and len(data.train) == 270 and len(data.test) == 150
