"""``data.hold=files``: images decoded batch by batch are, bit for bit, those that were decoded at once."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, Data, describe, evaluation, load, load_many
from credit.data.batches import Batch
from credit.data.sources.images.decoding import decode
from credit.data.sources.images.on_disk import Files
from credit.runs import run_folder
from credit.runs.metrics import read_metrics
from credit.training import train
from tests.support.fakes import write_image
from tests.support.small_runs import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, twelve training images and five test images each, of several sizes."""
    place: Path = tmp_path_factory.mktemp("images")
    for c, name in enumerate(("ant", "bee", "cow")):
        for i in range(12):
            write_image(place / "train" / name / f"{i}.png", size=(9 + i % 3, 10), seed=100 * c + i)
        for i in range(5):
            write_image(place / "val" / name / f"{i}.jpg", size=(12, 8 + i), seed=100 * c + 50 + i)
    return place


def images(folder: Path, hold: Literal["decoded", "files"], **options: Any) -> Data:
    return load(settings(folder, hold, **options), NoiseConfig("symmetric", 0.3), seed=0, device="cpu")


def settings(folder: Path, hold: Literal["decoded", "files"], **options: Any) -> DataConfig:
    given = {"batch_size": 4, "image_size": 8, "val_size": 6, **options}
    return DataConfig(kind="image_folder", path=str(folder), hold=hold, **given)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmented": {"augment": ["crop", "flip"], "crop_padding": 2, "normalize": "imagenet"},
    "pooled": {"test_fraction": 0.3, "limit_train": 20, "limit_test": 7, "val_size": None, "val_split": "last"},
    "resized": {"resize": 9, "normalize": "gcn"},
    "centred": {"preprocess": "gcn"},
    "whitened": {"image_size": 3, "preprocess": "gcn_zca"},
    "whole rows": {"drop_last": False, "normalize": "zca", "image_size": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_batches_and_evaluations_are_those_of_images_decoded_at_once(folder: Path, name: str) -> None:
    options = OPTIONS[name]
    held, onwards = images(folder, "decoded", **options), images(folder, "files", **options)
    assert isinstance(onwards.test.held, Files) == ("preprocess" not in options) and held.shape == onwards.shape
    for part in ("train", "val", "test"):
        assert torch.equal(held.split(part).x, onwards.split(part).x) and torch.equal(
            held.split(part).y, onwards.split(part).y
        )
        for (x, y), (again, labels) in zip(evaluation(held, part, 5), evaluation(onwards, part, 5), strict=True):
            assert torch.equal(x, again) and torch.equal(y, labels)
    cfg = settings(folder, "decoded", **options)
    first, second = Batches(held, cfg, seed=1), Batches(onwards, cfg, seed=1)
    for step in (0, 1, 2, 9, 4, 3):  # in order, where the next was begun, and out of it
        one, other = first.at(step), second.at(step)
        assert all(torch.equal(getattr(one, field), getattr(other, field)) for field in Batch.__slots__)


def test_each_image_of_a_batch_is_decoded_once_and_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counted(path: Path, **options: Any) -> Any:
        decoded.append(path)
        return decode(path, **options)

    monkeypatch.setattr("credit.data.sources.images.folder.decode", counted)
    data, cfg = images(folder, "files", normalize="unit"), settings(folder, "files")
    assert not decoded and data.shape == (3, 8, 8) and len(data.train) == 30
    held, batches = data.train.held, Batches(data, cfg, seed=0)
    wanted: list[Path] = []
    assert isinstance(held, Files)
    for step in range(2 * batches.steps_per_epoch):
        wanted += [held.paths[place] for place in batches.at(step).index]
        assert len(wanted) <= len(decoded) <= len(wanted) + cfg.batch_size  # at most the next batch is begun
    assert batches.steps_per_epoch == 7 and len(decoded) == 2 * 7 * 4 and sorted(decoded) == sorted(wanted)
    list(evaluation(data, "test", 5))
    assert len(decoded) == 2 * 7 * 4 + 15


def test_several_seeds_at_once_get_their_own(folder: Path) -> None:
    cfg = settings(folder, "files", split_seed=None)
    sets = load_many(cfg, NoiseConfig(), (0, 1), "cpu")
    several = Batches(sets, cfg, seed=(0, 1)).at(3)
    for seed, data in enumerate(sets):
        own = Batches(data, cfg, seed=seed).at(3)
        for name in ("x", "y", "index"):
            assert torch.equal(getattr(several, name)[seed], getattr(own, name))


def test_a_run_has_one_name_and_ends_in_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, rows = [], []
    for hold in ("decoded", "files"):
        monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / hold))
        data = {"kind": "image_folder", "path": str(folder), "hold": hold, "image_size": 8, "batch_size": 4}
        measure = {"epochs": 2, "measure": ["embedding", "pruning"]}
        cfg = small_config("bp", data={**data, "limit_train": None, "limit_test": None}, trainer=measure)
        ends.append(train(cfg, console=False))
        rows.append([{**row, "seconds": 0} for row in read_metrics(run_folder(cfg))])
    assert ends[0]["weights_sha256"] == ends[1]["weights_sha256"] and ends[0]["name"] == ends[1]["name"]
    assert rows[0] == rows[1]
    assert ends[0]["data_digest"] != ends[1]["data_digest"]


def test_the_digest_is_of_names_and_sizes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            for i in range(3):
                write_image(tmp_path / part / name / f"{i}.png", seed=i)
    options: dict[str, Any] = {"batch_size": 2, "val_size": None, "val_fraction": 0.0}

    def digest() -> str:
        return images(tmp_path, "files", **options).digest

    before = digest()
    assert before == digest()
    (tmp_path / "train" / "ant" / "2.png").rename(tmp_path / "train" / "ant" / "3.png")
    renamed = digest()
    with open(tmp_path / "val" / "bee" / "0.png", "ab") as stream:
        stream.write(b"more")
    assert len({before, renamed, digest()}) == 3


def test_a_file_that_is_no_image_is_named_where_it_is_asked_for(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            for i in range(4):
                write_image(tmp_path / part / name / f"{i}.png", seed=i)
    bad = tmp_path / "train" / "bee" / "1.png"
    bad.write_bytes(bad.read_bytes()[:40])
    options: dict[str, Any] = {"batch_size": 2, "val_size": None, "val_fraction": 0.0, "normalize": "unit"}
    data = images(tmp_path, "files", **options)
    batches = Batches(data, settings(tmp_path, "files", **options), seed=0)
    with pytest.raises(UserError, match=f"corrupt data: {bad}"):
        for step in range(4):
            batches.at(step)


def test_memory_is_no_limit_and_the_refusal_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("credit.data.sources.images.folder.os.sysconf", lambda _: 30)  # a machine of 900 bytes
    with pytest.raises(UserError, match=r"(?s)GiB decoded.*Write data\.hold=files, which decodes them batch by batch"):
        images(folder, "decoded")
    assert len(images(folder, "files").train) == 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kind": "digits", "hold": "files"},
            "data.hold=files would change nothing: it is read with data=image_folder alone",
        ),
        ({"kind": "mnist", "hold": "files"}, "and here data=mnist"),
    ],
)
def test_other_sets_are_in_memory(options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(**options))  # type: ignore[arg-type]  # of strings alone
    assert words in str(refusal.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_images_are_put_on_the_gpu(folder: Path) -> None:
    cfg = settings(folder, "files")
    data = load(cfg, NoiseConfig(), seed=0, device="cuda")
    batch = Batches(data, cfg, seed=0).at(0)
    on_cpu = Batches(load(cfg, NoiseConfig(), seed=0, device="cpu"), cfg, seed=0).at(0)
    assert batch.x.is_cuda and torch.allclose(batch.x.cpu(), on_cpu.x)
