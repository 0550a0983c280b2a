"""The Ones set: its distribution, its seeds, and what is refused."""

import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, describe, load


def ones(seed=0, **options) -> Data:
    return load(DataConfig(kind="ones", **{"batch_size": 8, **options}), NoiseConfig(), seed=seed, device="cpu")


def everything(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    parts = (data.train, data.val, data.test)
    return torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])


@pytest.mark.parametrize(("dimension", "threshold"), [(10, 0.7), (2, 0.7), (1, 0.5), (7, 0.3), (100, 0.95)])
def test_labels_are_those_of_the_mean(dimension, threshold):
    x, y = everything(ones(dimension=dimension, threshold=threshold))
    assert x.shape == (2000, dimension) and set(x.unique().tolist()) == {0.0, 1.0}
    count = x.sum(1).long()
    above = torch.tensor([k / dimension > threshold for k in range(dimension + 1)])
    assert torch.equal(y, above[count].long()) and set(y.tolist()) == {0, 1}
    if dimension == 2:
        assert torch.equal(y == 1, x.all(1))
    if dimension == 10:
        assert not y[count == 7].any()  # 0.7 is not more than 0.7


def test_the_number_of_ones_is_uniform_and_so_are_their_places():
    x, _ = everything(ones(dimension=9, samples=20000))
    count = x.sum(1).long()
    expected = 20000 / 10
    statistic = ((torch.bincount(count, minlength=10) - expected).square() / expected).sum()
    assert statistic < 27.9  # chi-square with 9 degrees of freedom: p = 0.001
    places = x[count == 3].mean(0) - 1 / 3
    assert places.abs().max() < 4.5 * (2 / 9 / int((count == 3).sum())) ** 0.5
    assert len(x.unique(dim=0)) > 500  # of 2^9


def test_a_sample_is_a_function_of_the_split_seed_and_with_null_of_the_runs():
    first = ones(0)
    assert torch.equal(first.train.x, ones(5).train.x) and first.digest == ones(5).digest
    other = ones(0, split_seed=5)
    assert not torch.equal(first.train.x, other.train.x) and first.digest != other.digest
    own = ones(5, split_seed=None)
    assert torch.equal(own.train.x, other.train.x) and own.digest == other.digest and own.split_seed == 5
    assert torch.equal(own.test.y, other.test.y) and torch.equal(own.val.x, other.val.x)


def test_a_fifth_is_for_testing_in_proportion():
    data = ones(val_fraction=0.0)
    assert (len(data.train), len(data.test)) == (1600, 400)
    share = everything(data)[1].float().mean()
    assert abs(data.test.y.float().mean() - share) < 1 / 400
    spec = describe(DataConfig(kind="ones", test_fraction=0.3, val_fraction=0.5))
    assert (spec.shape, spec.outputs, spec.train_size, spec.val_size, spec.test_size) == ((10,), 2, 700, 700, 600)
    assert len(ones(test_fraction=0.3).test) == 600


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.0}, "data.threshold=1 is outside (0, 1): class 1 has a larger share"),
        ({"threshold": 0.0}, "data.threshold=0 is outside (0, 1)"),
        ({"threshold": float("nan")}, "data.threshold=nan: must be a finite number in (0, 1)"),
        ({"dimension": 0}, "data.dimension=0 is outside [1, inf)"),
        (
            {"samples": 36},
            "data.samples=36: of vectors of 10 entries 0.273 are of the rarer class at data.threshold=0.7",
        ),
        ({"samples": 36}, "write data.samples=37 or more"),
        ({"samples": 2000, "dimension": 10**6}, "take 7.5 GiB; write data.samples=268 or less"),
        ({"normalize": "zca"}, "is for images"),
        ({"augment": ["flip"]}, "data.augment=[flip] would change nothing"),
        ({"name": "iris"}, "data.name=iris would change nothing: it is read with data=tabular alone"),
        ({"path": "x"}, "data.path=x would change nothing: it is read with data=npz"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(options, words):
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(kind="ones", **options))
    assert words in str(refusal.value)


def test_the_smallest_sample_that_is_taken_has_both_classes_at_every_seed():
    for seed in range(50):
        assert set(everything(ones(split_seed=seed, samples=37))[1].tolist()) == {0, 1}


def test_other_sets_have_none_of_its_options():
    for option, cfg in {
        "dimension": DataConfig(dimension=3),
        "threshold": DataConfig(threshold=0.5),
        "samples": DataConfig(samples=10),
    }.items():
        with pytest.raises(UserError, match=rf"data.{option}=.* would change nothing: it is read with data=ones alone"):
            describe(cfg)
