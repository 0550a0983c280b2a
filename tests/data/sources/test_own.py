"""Torch data sets of one's own: gathered once into what every other set is."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from credit.cli.train import main
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.data.sources.own import arrays
from credit.data.storage import Images, Rows

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 3, 5, 4), dtype=np.uint8))
Y = torch.arange(12) % 3


class Mine(Dataset):
    """Examples and labels, each made when it is asked for."""

    def __init__(self, x, y, change=lambda example: example, **attributes):
        self.x, self.y, self.change = x, y, change
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, place):
        return self.change(self.x[place]), int(self.y[place])


def picture(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: pixels.float() / 255,
        lambda pixels: pixels.double().numpy() / 255,
        picture,
    ],
    ids=["bytes", "floats", "numpy", "pil"],
)
def test_images_become_bytes_in_whatever_form_they_come(change):
    made = arrays("data=mine", (Mine(PIXELS[:9], Y[:9], change), Mine(PIXELS[9:], Y[9:], change)))
    assert (
        torch.equal(made.x_train, PIXELS[:9]) and torch.equal(made.x_test, PIXELS[9:]) and made.x_train.is_contiguous()
    )
    assert torch.equal(made.y_train, Y[:9]) and made.storage == Images() and made.names == ["0", "1", "2"]


def test_torchs_own_data_sets_and_a_validation_part():
    whole = TensorDataset(torch.randn(12, 6), Y)
    parts: tuple[Dataset, ...] = (
        Subset(whole, range(6)),
        Subset(whole, range(6, 9)),
        ConcatDataset([Subset(whole, [9]), Subset(whole, [10, 11])]),
    )
    made = arrays("data=mine", parts)
    assert torch.equal(torch.cat([made.x_train, made.x_test]), whole.tensors[0]) and made.storage == Rows()
    assert made.val == 3 and made.y_train.tolist() == [0, 1, 2] * 3


def test_classes_of_the_data_set_are_the_names():
    train = Mine(PIXELS, Y, classes=["ant", "bee", "cow", "dog"])
    assert arrays("data=mine", (train, Mine(PIXELS, Y))).names == ["ant", "bee", "cow", "dog"]


class Stream(IterableDataset):
    """Examples one after the other."""

    def __iter__(self):
        return iter([])


GOOD = Mine(PIXELS, Y)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ((GOOD, Stream()), "test is a Stream; a data set gives its examples by number: __getitem__ and __len__"),
        ((GOOD, Mine(PIXELS, [])), "test is empty"),
        ((GOOD, [(PIXELS[0], 0)]), "test is 1 values; a data set"),
        ((GOOD, Mine(PIXELS, Y, lambda pixels: pixels.float())), "floats that are not k / 255, from 0 to 255"),
        ((Mine(PIXELS, Y, lambda pixels: pixels / 255 - 0.5), GOOD), "data.normalize is for it"),
        ((Mine(PIXELS, Y, lambda pixels: torch.rand(3, 5, 4)), GOOD), "train[0] is another example each time"),
        ((GOOD, Mine(PIXELS[:, :1], Y)), "examples are train torch.uint8 (3, 5, 4), test torch.uint8 (1, 5, 4)"),
        (
            (GOOD, Mine([PIXELS[0], PIXELS[0, :, :2]], [0, 1])),
            "test[1] is of shape (3, 2, 4), the first example (3, 5, 4)",
        ),
        ((GOOD, Mine(PIXELS, Y - 1)), "test[0] has the label -1; labels are whole numbers"),
        ((GOOD, TensorDataset(PIXELS)), "test[0] is 1 values; it must be an example and its label"),
        ((GOOD, TensorDataset(PIXELS, Y / 2)), "test[0] has the label 0.0; labels are whole numbers"),
        ((GOOD, Mine(PIXELS.long(), Y)), "test[0] is torch.int64 of shape (3, 5, 4): an example is an image"),
        ((Mine(PIXELS, Y, classes=["ant"]), GOOD), "label 2, but only 1 names"),
        (
            (GOOD,),
            "returned 1 values; it must return four arrays, x_train, y_train, x_test, y_test, or torch data sets",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(returned, words):
    with pytest.raises(UserError) as refusal:
        arrays("data=mine", returned)
    assert words in str(refusal.value) and str(refusal.value).startswith("data=mine")


def test_a_function_that_returns_data_sets_trains(tmp_path, monkeypatch, registry_as_it_was):
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "dots.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset, random_split\n\n\n"
        "def dots(*, count: int = 90):\n"
        "    source = torch.Generator().manual_seed(0)\n"
        "    x = torch.randint(0, 256, (count, 1, 4, 4), generator=source, dtype=torch.uint8)\n"
        "    whole = TensorDataset(x, (x.float().mean((1, 2, 3)) > 127).long())\n"
        "    return random_split(whole, [0.8, 0.2], generator=source)\n"
    )
    words = ["rule=bp", "data=dots", "data.count=100", "data.batch_size=8", "arch.widths=[4]", "trainer.steps=2"]
    assert main(["--config-dir", str(tmp_path / "mine"), *words, "trainer.progress=false"]) == 0
    use_folders([])
    [result] = (tmp_path / "runs").glob("*/result.json")
    found = json.loads(result.read_text())["data"]
    assert (found["shape"], found["train_size"], found["val_size"], found["test_size"]) == ([1, 4, 4], 72, 8, 20)


def test_noise_of_ones_own_gets_the_examples(tmp_path, registry_as_it_was):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "dark.py").write_text(
        "def dark(labels, rate, classes, generator, part, *, below: float = 4.5):\n"
        "    '''The next class where an image is dark.'''\n"
        "    return (labels + (part.x.float().mean((1, 2, 3)) < below)) % classes\n"
    )
    use_folders([tmp_path])
    from credit.core.config.compose import compose
    from credit.data import load

    cfg = compose(["noise=dark", "noise.below=5", "noise.rate=0.1"])
    data = load(cfg.data, cfg.noise, seed=0, device="cpu")
    use_folders([])
    assert (
        torch.equal(data.corrupted, data.train.x.float().mean((1, 2, 3)) < 5) and 0 < data.corrupted.float().mean() < 1
    )
