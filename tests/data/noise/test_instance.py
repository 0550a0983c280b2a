"""Noise that depends on the example: its rates, its wrong classes, its seed."""

import numpy as np
import pytest
import torch

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.noise.instance import flip_rates
from credit.data.options import InstanceNoise
from tests.support.fakes import write_image, write_npz


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.02, 0.4, 0.97])
def test_flip_rates_are_of_the_normal_distribution_cut_to_its_range(rate):
    from scipy.stats import truncnorm

    drawn = flip_rates(20000, rate, 0.1, generator())
    assert 0 <= drawn.min() <= drawn.max() <= 1
    expected = truncnorm(-rate / 0.1, (1 - rate) / 0.1, rate, 0.1)
    quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    np.testing.assert_allclose(drawn.quantile(quantiles), expected.ppf(quantiles), atol=0.003)


def test_the_wrong_class_depends_on_the_example(tmp_path):
    """Two images, many times each: every wrong label of one image is nearly always the same class."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (2, 12, 12), dtype=np.uint8)
    which = np.arange(400) % 2
    path = write_npz(
        tmp_path / "two.npz", x_train=kinds[which], y_train=np.r_[1, np.zeros(399, int)], x_test=kinds, y_test=np.arange(2),
        names=np.array(list("abcdefgh")),
    )  # fmt: skip
    cfg = DataConfig(kind="npz", path=str(path), batch_size=4, val_fraction=0.0)
    data = load(cfg, InstanceNoise("instance", 0.5), seed=0, device="cpu")
    assert 0.4 < data.corrupted.float().mean() < 0.6
    wrong = [data.train.y[data.corrupted & (torch.from_numpy(which) == one) & (data.clean_y == 0)] for one in (0, 1)]
    counts = [torch.bincount(labels, minlength=8) / len(labels) for labels in wrong]
    assert all(count[0] == 0 and count.max() > 0.9 for count in counts) and counts[0].argmax() != counts[1].argmax()


def test_the_rate_is_met_and_the_seed_decides():
    noise = InstanceNoise("instance", 0.4)
    data = [load(DataConfig(), noise, seed=seed, device="cpu") for seed in (0, 0, 1)]
    assert abs(data[0].corrupted.float().mean() - 0.4) < 0.04
    assert torch.equal(data[0].train.y, data[1].train.y) and not torch.equal(data[0].train.y, data[2].train.y)
    assert any("noise=instance: " in note for note in data[0].notes)
    seeded = load(DataConfig(), InstanceNoise("instance", 0.4, seed=0), seed=1, device="cpu")
    assert torch.equal(seeded.train.y, data[0].train.y)


def test_rows_of_a_table_have_it_too():
    cfg = DataConfig(kind="tabular", name="iris", normalize="none", batch_size=8, drop_last=False)
    assert 0.2 < load(cfg, InstanceNoise("instance", 0.4), seed=0, device="cpu").corrupted.float().mean() < 0.6


def test_images_that_stay_files_have_the_same(tmp_path):
    for place in range(40):
        write_image(tmp_path / ("val" if place < 6 else "train") / "abc"[place % 3] / f"{place}.png", seed=place)
    made = [
        load(
            DataConfig(kind="image_folder", path=str(tmp_path), hold=told, batch_size=4, val_fraction=0.2, val_noise=True),
            InstanceNoise("instance", 0.5), seed=0, device="cpu",
        )
        for told in ("decoded", "files")
    ]  # fmt: skip
    assert torch.equal(made[0].train.y, made[1].train.y) and torch.equal(made[0].val.y, made[1].val.y)
    assert made[1].corrupted.any()


def test_impossible_instance_noise_is_refused():
    with pytest.raises(UserError, match=r"noise=instance noise.rate=0: flip rates are drawn around the rate"):
        describe(DataConfig(), InstanceNoise("instance"))
    with pytest.raises(UserError, match=r"noise.deviation=0 is outside \(0, inf\)"):
        describe(DataConfig(), InstanceNoise("instance", 0.4, deviation=0.0))
