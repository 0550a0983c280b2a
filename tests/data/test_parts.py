"""Splits anew (``test_fraction``), splits of the run's own seed (``split_seed=null``), and many seeds of one set at once."""

import dataclasses

import pytest
import torch

from credit.core.config import check
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, describe, load, load_many
from credit.data.normalize import Columnwise
from credit.runs.identity import group_name, run_hash


def digits(seed=0, noise=None, **options) -> Data:
    return load(DataConfig(**{"batch_size": 8, **options}), noise or NoiseConfig(), seed=seed, device="cpu")


def images(data: Data) -> list[bytes]:
    return sorted(
        bytes([int(label)]) + bytes(image.flatten().tolist())
        for x, y in ((data.train.x, data.clean_y), (data.val.x, data.val.y), (data.test.x, data.test.y))
        for image, label in zip(x, y, strict=True)
    )


def test_a_test_part_anew_is_stratified_disjoint_and_leaves_nothing_out():
    own, anew = digits(), digits(test_fraction=0.3, val_fraction=0.2)
    assert (len(anew.test), len(anew.val), len(anew.train)) == (539, 252, 1006)
    assert images(anew) == images(own)
    whole = torch.bincount(torch.cat([anew.clean_y, anew.val.y, anew.test.y]))
    assert (torch.bincount(anew.test.y) - whole * 539 / 1797).abs().max() < 1
    old = {image.numpy().tobytes() for image in own.test.x}
    assert 50 < sum(image.numpy().tobytes() in old for image in anew.test.x) < 160  # drawn from both of the set's parts
    assert anew.digest == own.digest  # what was read is the same


def test_described_as_loaded_also_under_limits():
    for train, test in ((None, None), (100, 30), (5000, None)):
        cfg = DataConfig(batch_size=8, test_fraction=0.25, limit_train=train, limit_test=test)
        spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
        assert (spec.train_size, spec.val_size, spec.test_size) == (len(data.train), len(data.val), len(data.test))


@pytest.mark.parametrize("options", [{"test_fraction": 0.2}, {}, {"limit_train": 300, "val_fraction": 0.0}])
def test_without_a_split_seed_the_runs_seed_splits(options):
    null = {**options, "split_seed": None}
    assert torch.equal(digits(3, **null).train.x, digits(0, split_seed=3, **options).train.x)
    assert torch.equal(digits(3, **null).test.x, digits(0, split_seed=3, **options).test.x)
    assert not torch.equal(digits(3, **null).train.x, digits(4, **null).train.x)
    assert torch.equal(digits(3, **options).train.x, digits(4, **options).train.x)
    assert digits(3, **null).summary()["split_seed"] == 3 and digits(3, **options).summary()["split_seed"] == 0


@pytest.mark.parametrize("kind", ["mnist", "fashion_mnist"])
def test_published_sets_are_split_anew(kind, need_data):
    cfg = DataConfig(kind=kind, root=str(need_data(kind)), test_fraction=0.2, val_fraction=0.0, normalize="unit")
    spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert (spec.train_size, spec.test_size) == (len(data.train), len(data.test)) == (56000, 14000)
    counts = torch.bincount(data.train.y) + torch.bincount(data.test.y)
    assert (torch.bincount(data.test.y) - counts / 5).abs().max() < 1 and data.train.x.is_contiguous()
    assert kind == "mnist" or counts.tolist() == [7000] * 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_fraction": 1.0}, "data.test_fraction=1 is outside (0, 1)"),
        ({"test_fraction": float("nan")}, "data.test_fraction=nan: must be a finite number in (0, 1)"),
        ({"test_fraction": 1e-4}, "data.test_fraction=0.0001 of 1797 examples leaves none to test on"),
        ({"test_fraction": 0.9999}, "data.test_fraction=0.9999 of 1797 examples leaves none to train on"),
        ({"test_fraction": 0.5, "batch_size": 900}, "larger than the training part, 809 examples"),
        ({"kind": "tabular", "name": "iris", "test_fraction": 0.2}, "data.test_fraction=0.2 would change nothing"),
    ],
)
def test_fractions_that_leave_nothing_are_refused_before_loading(options, words):
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(**options))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "count", "train"), [("digits", 200, 1238), ("mnist", 2000, 58000), ("cifar10", 5000, 45000)]
)
def test_exactly_so_many_validation_images_every_class_in_proportion(kind, count, train, need_data):
    root = need_data() if kind == "digits" else need_data(kind)
    cfg = DataConfig(kind=kind, root=str(root), batch_size=8, val_size=count)
    spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert (spec.train_size, spec.val_size) == (len(data.train), len(data.val)) == (train, count)
    whole = torch.bincount(torch.cat([data.clean_y, data.val.y]))
    assert (torch.bincount(data.val.y) - whole * count / (train + count)).abs().max() < 1


def test_validation_images_counted_may_be_the_last_and_follow_a_limit():
    data = digits(val_size=30, val_split="last", limit_train=100)
    assert (len(data.train), len(data.val)) == (70, 30)
    assert torch.equal(torch.cat([data.train.x, data.val.x]), digits(val_fraction=0.0, limit_train=100).train.x)
    assert torch.equal(digits(val_size=144).val.x, digits(val_fraction=0.1).val.x)  # 144 of 1438 is a tenth


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"val_size": 1438}, "data.val_size=1438 of 1438 training examples leaves none to train on; write 143"),
        ({"val_size": 50, "limit_train": 40}, "data.val_size=50 of 40 training examples leaves none"),
        ({"val_size": 1430}, "larger than the training part, 8 examples"),
        ({"val_size": 0}, "data.val_size=0 is outside [1, inf)"),
        ({"val_size": 100, "val_fraction": 0.2}, "data.val_size=100 and data.val_fraction=0.2 are two sizes of one"),
        (
            {"val_size": 100, "val_fraction": 0.0},
            "leave one out (data.val_fraction=0.1 is as if it had not been given)",
        ),
    ],
)
def test_a_number_of_validation_images_that_cannot_be_is_refused_before_loading(options, words):
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(**{"batch_size": 32, **options}))
    assert words in str(refusal.value)


def test_the_option_counts_once_for_all_seeds_and_decides_the_result():
    def run(seed=0, **data):
        return check(
            {"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 1}, "seed": seed, "data": data}
        )

    assert check(run(split_seed=None).as_dict()).data.split_seed is None
    assert group_name(run(0, split_seed=None)) == group_name(run(1, split_seed=None))
    hashes = {
        run_hash(run(**data))
        for data in (
            {},
            {"split_seed": None},
            {"test_fraction": 0.2},
            {"test_fraction": 0.3},
            {"val_size": 50},
            {"val_size": 60},
        )
    }
    assert len(hashes) == 6
    assert run_hash(run(kind="ones", dimension=5)) != run_hash(run(kind="ones", dimension=6))


MANY = {
    "one split": DataConfig(batch_size=8),
    "own splits": DataConfig(batch_size=8, split_seed=None, test_fraction=0.2, normalize="zca"),
    "limits": DataConfig(batch_size=8, split_seed=None, limit_train=200, limit_test=50),
    "whitened": DataConfig(batch_size=8, split_seed=None, test_fraction=0.2, preprocess="gcn_zca"),
    "all of it": DataConfig(batch_size=8, split_seed=None, val_fraction=0.0),
    "a table": DataConfig(kind="tabular", name="iris", batch_size=8, split_seed=None),
    "drawn": DataConfig(kind="ones", batch_size=8, split_seed=None, samples=200),
    "drawn once": DataConfig(kind="ones", batch_size=8, samples=200, test_fraction=0.5),
}


@pytest.mark.parametrize("what", MANY)
@pytest.mark.parametrize("noise", [NoiseConfig(), NoiseConfig("symmetric", 0.3), NoiseConfig("symmetric", 0.3, seed=7)])
def test_many_seeds_at_once_are_as_one_by_one(what, noise):
    cfg = MANY[what]
    for seed, got in zip((2, 0, 5), load_many(cfg, noise, [2, 0, 5], "cpu"), strict=True):
        alone = load(cfg, noise, seed=seed, device="cpu")
        assert got.summary() == alone.summary()
        for part in ("train", "val", "test"):
            ours, theirs = got.split(part), alone.split(part)
            assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y) and ours.x.dtype == theirs.x.dtype
            assert torch.equal(got.prepare(ours.x[:5]), alone.prepare(theirs.x[:5]))
        assert torch.equal(got.clean_y, alone.clean_y) and torch.equal(got.corrupted, alone.corrupted)


def test_equal_examples_are_held_once_and_labels_by_each():
    def places(cfg, part):
        made = load_many(cfg, NoiseConfig("symmetric", 0.3), range(4), "cpu")
        assert len({data.train.y.data_ptr() for data in made}) == 4
        return len({data.split(part).x.data_ptr() for data in made})

    assert [places(MANY["one split"], part) for part in ("train", "val", "test")] == [1, 1, 1]
    assert places(MANY["all of it"], "train") == 1
    assert [places(MANY["own splits"], part) for part in ("train", "test")] == [4, 4]
    cfg = dataclasses.replace(MANY["one split"], split_seed=None)
    assert [places(cfg, part) for part in ("train", "test")] == [4, 1]
    assert [places(MANY["drawn"], "train"), places(MANY["drawn once"], "train")] == [4, 1]


def test_columns_are_scaled_by_each_seeds_own_training_part():
    made = load_many(MANY["a table"], NoiseConfig(), [0, 1], "cpu")
    for data in made:
        assert isinstance(data.normalizer, Columnwise)
        torch.testing.assert_close(data.prepare(data.train.x).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
