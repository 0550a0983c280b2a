"""Batches are a function of the step; an epoch holds each sample once; evaluation drops none."""

import dataclasses

import numpy as np
import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, evaluation, load
from tests.support.fakes import write_npz

ALL = ["crop", "flip", "cutout"]


def digits(**options):
    sizes = {"crop": {"crop_padding": 1}, "cutout": {"cutout_size": 3}}
    for name in options.get("augment", ()):
        options = {**sizes.get(name, {}), **options}
    cfg = DataConfig(**options)
    return load(cfg, NoiseConfig("symmetric", 0.4), seed=0, device="cpu"), cfg


def same(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)


@pytest.mark.parametrize("normalize", ["none", "unit", "standard", "gcn", "zca"])
def test_a_step_gives_the_same_batch_whatever_was_asked_before(normalize):
    data, cfg = digits(augment=ALL, normalize=normalize)
    walked, fresh = Batches(data, cfg, seed=5), Batches(data, cfg, seed=5)
    steps = list(range(25))
    first = {step: walked.at(step) for step in steps}
    for step in reversed(steps):
        assert same(walked.at(step), first[step])
    assert same(fresh.at(17), first[17])
    assert first[3].x.dtype == torch.float32 and first[3].y.dtype == torch.int64
    assert first[3].x.shape == (128, 1, 8, 8)
    assert not same(Batches(data, cfg, seed=6).at(17), first[17])


def test_an_epoch_holds_every_sample_at_most_once_and_epochs_differ():
    data, cfg = digits()
    batches = Batches(data, cfg, seed=0)
    assert batches.steps_per_epoch == len(data.train) // 128
    epochs = [
        torch.cat([batches.at(e * batches.steps_per_epoch + k).index for k in range(batches.steps_per_epoch)])
        for e in range(2)
    ]
    for order in epochs:
        assert len(order.unique()) == len(order) == batches.steps_per_epoch * 128
    assert not torch.equal(epochs[0], epochs[1])


def test_a_balanced_epoch_draws_every_class_equally_often(tmp_path):
    labels = np.array([0] * 1600 + [1] * 300 + [2] * 100)
    path = write_npz(tmp_path / "mine.npz", x_train=np.random.default_rng(0).normal(size=(2000, 3)), y_train=labels,
                     x_test=np.zeros((3, 3)), y_test=np.arange(3))  # fmt: skip
    cfg = DataConfig("npz", path=str(path), batch_size=100, sampler="balanced", val_fraction=0.0)
    data = [load(cfg, NoiseConfig(), seed=seed, device="cpu") for seed in (0, 1)]
    batches = Batches(data[0], cfg, seed=0)
    assert batches.steps_per_epoch == 20
    epoch = [batches.at(step) for step in range(20)]
    y, index = torch.cat([batch.y for batch in epoch]), torch.cat([batch.index for batch in epoch])
    assert torch.equal(y, data[0].train.y[index]) and (y.bincount() / 2000 - 1 / 3).abs().max() < 0.04
    assert len(index[y == 2].unique()) == 100  # each several times
    assert same(Batches(data[0], cfg, seed=0).at(7), epoch[7]) and not torch.equal(batches.at(20).index, epoch[0].index)
    together = Batches(data, cfg, seed=[0, 1]).at(3)
    assert torch.equal(together.index[0], epoch[3].index) and not torch.equal(together.index[1], together.index[0])


def test_keeping_the_last_batch_covers_the_whole_set():
    data, cfg = digits(drop_last=False)
    batches = Batches(data, cfg, seed=0)
    index = torch.cat([batches.at(k).index for k in range(batches.steps_per_epoch)])
    assert torch.equal(index.sort().values, torch.arange(len(data.train)))
    assert len(batches.at(batches.steps_per_epoch - 1).y) == len(data.train) % 128


def test_labels_and_images_belong_to_the_indices():
    data, cfg = digits()
    batch = Batches(data, cfg, seed=0).at(2)
    assert torch.equal(batch.y, data.train.y[batch.index])
    assert torch.equal(batch.x, data.prepare(data.train.x[batch.index]))


@pytest.mark.parametrize("normalize", ["unit", "standard", "gcn"])
def test_augmented_pixels_come_from_the_image_or_the_border(normalize):
    data, cfg = digits(augment=["crop"], normalize=normalize)
    batches = Batches(data, cfg, seed=0)
    border = 0.0 if normalize == "gcn" else float(data.prepare(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)))
    batch = batches.at(0)
    source = data.prepare(data.train.x[batch.index])
    changed = 0
    for got, image in zip(batch.x, source, strict=True):
        allowed = torch.cat([image.flatten(), torch.tensor([border])])
        assert torch.isin(got, allowed).all()
        changed += int(not torch.equal(got, image))
    assert changed > 100  # one offset in nine leaves the image where it is


def test_one_augmentation_does_not_change_the_draws_of_another():
    data, cfg = digits(augment=["flip"])
    flipped = Batches(data, cfg, seed=0).at(0).x
    _, both = digits(augment=["flip", "cutout"])
    kept = Batches(data, both, seed=0).at(0).x
    assert torch.equal(kept[kept != 0], flipped[kept != 0])
    assert int((kept == 0).sum()) > 128


def test_training_images_are_never_changed():
    data, cfg = digits(augment=ALL)
    before = data.train.x.clone()
    Batches(data, cfg, seed=0).at(0)
    assert torch.equal(data.train.x, before)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_evaluation_gives_every_sample_once_in_order(part):
    data, _ = digits()
    x, y = (torch.cat(parts) for parts in zip(*evaluation(data, part, 100), strict=True))
    assert torch.equal(y, data.split(part).y)
    assert torch.equal(x, data.prepare(data.split(part).x))


def test_bad_requests_are_refused_in_words():
    data, cfg = digits()
    cfg = dataclasses.replace(cfg, batch_size=5000)
    with pytest.raises(UserError, match=r"data\.batch_size=5000: the training part has 1294 examples; give 1\.\.1294"):
        Batches(data, cfg, seed=0)
    with pytest.raises(UserError, match="did you mean 'val'"):
        next(evaluation(data, "valid", 10))
    with pytest.raises(UserError, match=r"data\.eval_batch_size=0"):
        next(evaluation(data, "val", 0))
