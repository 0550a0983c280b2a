"""Labels that people gave: the authors' files read without running them, compared with the set, refused where they do not fit."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from credit.cli.train import main
from credit.core.config.compose import compose
from credit.core.config.data_files import data_files
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.options import HumanNoise
from credit.runs.identity import labels as run_labels
from credit.runs.identity import run_name
from tests.support.fakes import arrays, write_npz

CLEAN = np.arange(40) % 10
WORSE = np.where(np.arange(40) % 5 < 2, (CLEAN + 3) % 10, CLEAN)  # 40 % wrong


def content(**changes):
    """The arrays of a small CIFAR-10N; None leaves one out."""
    found = {"clean_label": CLEAN, "worse_label": WORSE, "aggre_label": CLEAN, **changes}
    return {key: value for key, value in found.items() if value is not None}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a CIFAR-10 of 40 and 20 images."""
    write_npz(tmp_path / "cifar10.npz", **arrays(shape=(32, 32, 3), classes=10))
    return tmp_path


def config(root: Path, **options) -> DataConfig:
    return DataConfig(kind="cifar10", root=str(root), batch_size=4, val_fraction=0.25, **options)


def loaded(root: Path, noise: NoiseConfig = HumanNoise("human"), **options):  # noqa: B008 # it is frozen
    return load(config(root, **options), noise, seed=0, device="cpu")


def save(path: Path, how: str, values: dict) -> None:
    if how == "npz":
        np.savez(path, **values)
    elif how == "npy":
        np.save(path, np.array(values, dtype=object), allow_pickle=True)
    else:
        values = {key: torch.tensor(value) for key, value in values.items()} if how == "tensors" else values
        values = {key: value.astype(float) for key, value in values.items()} if how == "floats" else values
        torch.save(values, path, _use_new_zipfile_serialization=how != "legacy")
        if how == "legacy":  # as old NumPy names its arrays
            path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("cifar10n.npz", "npz"),
        ("CIFAR-10_human.pt", "zip"),
        ("CIFAR-10_human.pt", "legacy"),
        ("CIFAR-10_human.pt", "tensors"),
        ("CIFAR-10_human.pt", "floats"),
        ("other.npy", "npy"),
    ],
)
def test_labels_come_from_every_form_of_the_file(root, name, how):
    save(root / name, how, content())
    noise = HumanNoise("human", path="other.npy" if how == "npy" else None)
    data = loaded(root, noise, limit_train=36)
    assert data.clean_y.tolist() != data.train.y.tolist()
    every = {
        bytes(image.flatten().tolist()): label
        for image, label in zip(arrays(shape=(32, 32, 3))["x_train"], WORSE, strict=True)
    }
    for image, label in zip(data.train.x.permute(0, 2, 3, 1), data.train.y, strict=True):
        assert every[bytes(image.flatten().tolist())] == label
    wrong = int((data.train.y != data.clean_y).sum())
    summary = data.summary()
    assert summary["labels_wrong"] == summary["labels_chosen"] == wrong > 0 and summary["noise_rate"] == 0
    assert f"noise=human: {wrong} of 27 training labels are wrong, {100 * wrong / 27:.1f} %" in data.notes
    assert torch.equal(data.val.y, loaded(root, NoiseConfig(), limit_train=36).val.y)


def test_nothing_in_a_file_can_run(root):
    class Opens:
        def __reduce__(self):
            return os.mkdir, (str(root / "was-run"),)

    for how, name in (("zip", "evil.pt"), ("legacy", "evil.pt"), ("npy", "evil.npy")):
        save(root / name, how, content(extra=Opens()))
        with pytest.raises(UserError, match=r"it names (posix|nt)\.mkdir, which may be code and was not run"):
            describe(config(root), HumanNoise("human", path=name))
    assert not (root / "was-run").exists()


@pytest.mark.parametrize(
    ("values", "noise", "words"),
    [
        ({"worse_label": WORSE[:39]}, {}, "39 labels, and data=cifar10 has 40 training images"),
        ({"worse_label": None}, {}, "has no worse_label (it holds clean_label, aggre_label)"),
        ({"clean_label": None}, {}, "has no clean_label"),
        ({"worse_label": WORSE / 2}, {}, "worse_label is float64 of shape (40,)"),
        ({}, {"labels": "noisy"}, "CIFAR-10N has no such labels; write noise.labels=aggre or noise.labels=random1"),
        ({}, {"labels": "worst"}, "did you mean 'worse'"),
        ({}, {"path": "nowhere.pt"}, "noise.path=nowhere.pt: there is no file at nowhere.pt or"),
        ({}, {"rate": 0.2}, "noise.rate=0.2 would change nothing"),
        ({}, {"seed": 1}, "noise.seed=1 would change nothing"),
    ],
)
def test_what_does_not_fit_is_refused_before_images_are_read(root, values, noise, words):
    save(root / "cifar10n.npz", "npz", content(**values))
    with pytest.raises(UserError) as refusal:
        describe(config(root), HumanNoise("human", **noise))
    assert words in str(refusal.value)


def test_missing_files_and_other_sets_are_refused(root):
    with pytest.raises(UserError, match=r"missing: cifar10n.npz or CIFAR-10_human.pt. Put one of them there"):
        describe(config(root), HumanNoise("human"))
    with pytest.raises(UserError, match=r"noise=human on data=digits: people labelled .* CIFAR-10 and CIFAR-100"):
        describe(DataConfig(), HumanNoise("human"))
    save(root / "cifar10n.npz", "npz", content())
    with pytest.raises(UserError, match="noise=human with data.test_fraction=0.2: .* nobody labelled anew"):
        describe(config(root, test_fraction=0.2), HumanNoise("human"))
    (root / "labels.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"labels.pt .* is not a dict of arrays written by torch.save"):
        describe(config(root), HumanNoise("human", path="labels.pt"))
    (root / "labels.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"corrupt data: .*labels.npy .* is not a .npy file"):
        describe(config(root), HumanNoise("human", path="labels.npy"))


def test_labels_in_another_order_are_refused(root):
    save(root / "cifar10n.npz", "npz", content(clean_label=CLEAN[::-1]))
    with pytest.raises(UserError, match=r"its clean_label differs from the labels of data=cifar10 for 40 of 40 images"):
        loaded(root)


def test_a_runs_name_and_files_say_which_labels(root):
    save(root / "cifar10n.npz", "npz", content())
    words = ["rule=bp", "data=cifar10", "noise=human", f"data.root={root}"]
    first, second, clean = (compose(more) for more in (words, [*words, "noise.labels=aggre"], [*words[:2], *words[3:]]))
    assert len({run_name(one) for one in (first, second, clean)}) == 3 and "human_worse" in run_name(first)
    assert run_labels(second.as_dict())["noise"] == "human_aggre"
    assert set(data_files(first.data, first.noise)) == {"cifar10.npz", "cifar10n.npz"}


def test_the_command_refuses_before_training(root, capsys):
    assert main(["data=cifar10", "noise=human", f"data.root={root}", "data.batch_size=4"]) == 2
    assert "missing: cifar10n.npz or CIFAR-10_human.pt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "labels", "wrong"),
    [
        ("cifar10", "aggre", 0.0901),
        ("cifar10", "random1", 0.1723),
        ("cifar10", "worse", 0.4021),
        ("cifar100", "noisy", 0.402),
    ],
)
def test_the_real_labels_are_wrong_as_often_as_published(need_data, kind, labels, wrong):
    root = need_data(kind, f"{kind}n.npz")
    cfg = DataConfig(kind=kind, root=str(root), val_fraction=0.0)
    data = load(cfg, HumanNoise("human", labels=labels), seed=0, device="cpu")
    assert data.summary()["labels_wrong_fraction"] == pytest.approx(wrong, abs=5e-4)
