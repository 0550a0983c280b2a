"""Limits and splits: exact, stratified, with seeds of their own; what does not fit the set is refused before loading."""

import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, describe, load
from credit.data.splits import stratified


@pytest.mark.parametrize("count", [0, 1, 7, 50, 99, 100])
def test_a_stratified_choice_is_exact_and_in_proportion(count):
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)[torch.randperm(100, generator=torch.Generator())]
    chosen, rest = stratified(labels, count, 0, "test")
    assert len(chosen) == count and torch.equal(torch.cat([chosen, rest]).sort().values, torch.arange(100))
    share = torch.bincount(labels[chosen], minlength=4) - torch.bincount(labels) * count / 100
    assert share.abs().max() < 1


def test_choices_depend_on_seed_and_stream():
    labels = torch.arange(10).repeat(20)
    first = stratified(labels, 50, 0, "a")[0]
    assert torch.equal(first, stratified(labels, 50, 0, "a")[0])
    assert not torch.equal(first, stratified(labels, 50, 1, "a")[0])
    assert not torch.equal(first, stratified(labels, 50, 0, "b")[0])


def digits(seed=0, **options):
    return load(DataConfig(batch_size=8, **options), NoiseConfig(), seed=seed, device="cpu")


def test_the_validation_split_is_the_same_for_every_run_seed():
    assert torch.equal(digits(0).val.x, digits(1).val.x)
    assert not torch.equal(digits(0).val.x, digits(0, split_seed=1).val.x)


def test_training_and_validation_images_are_disjoint_and_complete():
    data, whole = digits(), digits(val_fraction=0.0)
    together = torch.cat([data.train.x, data.val.x]).flatten(1).numpy()
    assert sorted(map(bytes, together)) == sorted(map(bytes, whole.train.x.flatten(1).numpy()))
    assert len(whole.val) == 0


def test_limits_act_before_the_split_and_leave_the_digest():
    data = digits(limit_train=100, limit_test=30)
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 30)
    assert torch.equal(torch.bincount(data.test.y), torch.full((10,), 3))
    assert data.digest == digits().digest
    assert len(digits(limit_train=10**6).train) == 1294


def test_described_as_loaded():
    for options in ({}, {"limit_train": 101, "limit_test": 7}, {"val_fraction": 0.25}, {"val_fraction": 0.0}):
        cfg = DataConfig(batch_size=8, **options)
        spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
        assert (spec.train_size, spec.val_size, spec.test_size) == (len(data.train), len(data.val), len(data.test))


def test_the_summary_is_plain():
    import json

    summary = digits().summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["kind"] == "digits" and summary["shape"] == [1, 8, 8] and len(summary["digest"]) == 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment": ["crop", "flpi"]}, "did you mean 'flip'"),
        ({"normalize": "standart"}, "did you mean 'standard'"),
        ({"val_fraction": 1.0}, "data.val_fraction=1 is outside [0, 1)"),
        ({"val_fraction": float("nan")}, "in [0, 1)"),
        ({"batch_size": 0}, "data.batch_size=0 is outside [1, inf)"),
        ({"batch_size": 1295}, "Use data.batch_size=1294 or less"),
        ({"eval_batch_size": 0}, "data.eval_batch_size=0"),
        ({"limit_train": 0}, "data.limit_train=0"),
        ({"limit_test": -1}, "data.limit_test=-1"),
        ({"augment": ["crop"], "crop_padding": -1}, "data.crop_padding=-1 is outside [0, inf)"),
        (
            {"augment": ["cutout"]},
            "data.cutout_size=8 on images of 8 x 8: would hide all of it; give less, for example 2",
        ),
        ({"limit_train": 1, "val_fraction": 0.9}, "leaves none to train on"),
    ],
)
def test_what_does_not_fit_is_refused_before_loading(options, words):
    with pytest.raises(UserError) as error:
        describe(DataConfig(**options))
    assert words in str(error.value)


def test_impossible_noise_is_refused_before_loading():
    with pytest.raises(UserError, match="noise=asymmetric on data=digits"):
        describe(DataConfig(), NoiseConfig("asymmetric", 0.4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_everything_stays_on_the_gpu():
    cfg = DataConfig(augment=["crop", "flip", "cutout"], cutout_size=3, normalize="zca")
    data = load(cfg, NoiseConfig("symmetric", 0.4), seed=0, device="cuda")
    batch = Batches(data, cfg, seed=0).at(0)
    on_cpu = Batches(load(cfg, NoiseConfig("symmetric", 0.4), seed=0, device="cpu"), cfg, seed=0).at(0)
    assert {t.device.type for t in (data.train.x, data.corrupted, batch.x, batch.y, batch.index)} == {"cuda"}
    assert torch.equal(batch.index.cpu(), on_cpu.index) and torch.equal(batch.y.cpu(), on_cpu.y)
