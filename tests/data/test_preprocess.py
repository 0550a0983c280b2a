"""Preprocessing against its definition in NumPy's float64; what it is fitted on; what is refused."""

import numpy as np
import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data import Batches, dataset, describe, evaluation, load
from credit.data.preprocess import Centred, Stored, Whitened, fit, moments


def images(count=300, shape=(3, 5, 4), seed=0):
    """Return bytes in which neighbours are alike, as in photographs."""
    noise = torch.randint(0, 256, (count, *shape), generator=generator(seed, "images")).float()
    return ((noise + noise.roll(1, -1) + 0.5 * noise.roll(1, -3)) / 2.5).to(torch.uint8)


def by_definition(x, name, top, epsilon, standard, train=None):
    """Return float64 (B, C, H, W): the module's table, the eigenvectors being the right singular vectors of the data."""
    train = x if train is None else train

    def values(images):
        images = images.numpy().astype(np.float64) / top
        if "gcn" in name:
            images = images - images.mean((2, 3), keepdims=True)
        return images

    fitted, given = values(train), values(x)
    if "zca" in name:
        rows = fitted.reshape(len(fitted), -1)
        mean = rows.mean(0)
        _, singular, axes = np.linalg.svd(rows - mean, full_matrices=True)
        variance = np.zeros(axes.shape[0])
        variance[: len(singular)] = singular**2 / len(rows)
        typical = variance.mean()
        matrix = axes.T @ np.diag((variance / typical + epsilon) ** -0.5) @ axes / np.sqrt(typical)
        fitted, given = (((v.reshape(len(v), -1) - mean) @ matrix).reshape(v.shape) for v in (fitted, given))
    if standard:
        spread = fitted.std((0, 2, 3), keepdims=True)
        given = (given - fitted.mean((0, 2, 3), keepdims=True)) / np.where(spread > 0, spread, 1)
    return torch.from_numpy(given)


@pytest.mark.parametrize("name", ["gcn", "zca", "gcn_zca"])
@pytest.mark.parametrize(("shape", "top"), [((3, 5, 4), 255), ((1, 6, 6), 255), ((1, 8, 8), 16)])
@pytest.mark.parametrize("normalize", ["none", "standard"])
@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_preprocessing_equals_its_definition(name, shape, top, normalize, epsilon):
    x = images(shape=shape) // (1 if top == 255 else 15)
    cfg = DataConfig(preprocess=name, normalize=normalize, zca_epsilon=epsilon)
    got, expected = fit(cfg, x, top)(x), by_definition(x, name, top, epsilon, normalize == "standard")
    assert got.dtype == torch.float32 and got.shape == x.shape
    torch.testing.assert_close(got.double(), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_contrast_takes_each_channels_mean_of_each_image_and_no_more():
    x = images(20)
    got = fit(DataConfig(preprocess="gcn", normalize="none"), x, 255)(x)
    assert got.mean((2, 3)).abs().max() < 1e-6
    torch.testing.assert_close(
        got - got[:, :, :1, :1], x.float() / 255 - x[:, :, :1, :1].float() / 255
    )  # differences stay


@pytest.mark.parametrize("name", ["zca", "gcn_zca"])
def test_what_is_whitened_has_the_identity_for_its_covariance_but_where_images_do_not_differ(name):
    x = images(4000, (2, 3, 3))
    y = fit(DataConfig(preprocess=name, normalize="none", zca_epsilon=1e-7), x, 255)(x).flatten(1).double()
    expected = torch.eye(18, dtype=torch.float64)
    if name == "gcn_zca":  # a channel's mean is gone
        expected -= torch.block_diag(*[torch.full((9, 9), 1 / 9, dtype=torch.float64)] * 2)
    torch.testing.assert_close(torch.cov(y.T, correction=0), expected, atol=1e-3, rtol=0)


def test_sums_are_exact_whatever_the_pixels():
    extremes = torch.randint(0, 2, (2500, 2, 3, 3), generator=generator(0, "bits")).to(torch.uint8) * 255
    for x in (extremes, images(2500, (1, 3, 5)), torch.zeros(1500, 1, 2, 2, dtype=torch.uint8)):
        mean, covariance = moments(x)
        rows = x.flatten(1).long()
        centred = rows.double() - rows.sum(0).double() / len(rows)
        torch.testing.assert_close(mean, rows.sum(0).double() / len(rows), atol=0, rtol=1e-15)
        torch.testing.assert_close(covariance, centred.T @ centred / len(rows), atol=1e-9, rtol=1e-12)


def test_whitening_does_not_depend_on_the_scale_of_pixels_and_dead_borders_stay_finite():
    x = images(200, (1, 6, 6))
    x[:, :, :2] = 7  # as in MNIST, pixels that never change
    cfg = DataConfig(preprocess="zca")
    one, other = fit(cfg, x, 255)(x), fit(cfg, x, 16)(x)
    assert torch.equal(one, other) and bool(one.isfinite().all())
    assert one[:, :, :2].abs().max() < 1e-4  # and stay what they are: nothing


def load_digits(**options):
    return load(DataConfig(**{"batch_size": 16, **options}), NoiseConfig("symmetric", 0.4), seed=0, device="cpu")


@pytest.mark.parametrize(
    "options", [{}, {"val_split": "last"}, {"limit_train": 400, "val_size": 100}, {"split_seed": 5}]
)
def test_it_is_fitted_on_the_training_part_alone(options):
    raw, data = load_digits(**options), load_digits(preprocess="gcn_zca", **options)
    for part in ("train", "val", "test"):
        assert torch.equal(data.split(part).y, raw.split(part).y)
        expected = by_definition(raw.split(part).x, "gcn_zca", 16, 0.1, True, raw.train.x)
        torch.testing.assert_close(data.split(part).x.double(), expected, atol=1e-4, rtol=0)
    assert data.train.x.mean(0).abs().max() < 1e-5 < data.test.x.mean(0).abs().max()
    assert data.digest == raw.digest and data.notes == []
    assert (data.summary()["preprocess"], data.summary()["zca_epsilon"]) == ("gcn_zca", 0.1)
    assert "zca_epsilon" not in raw.summary()


@pytest.mark.parametrize("name", ["gcn", "gcn_zca"])
def test_images_are_cropped_and_flipped_after_it_whether_held_or_made_batch_by_batch(name, monkeypatch):
    options = {"preprocess": name, "augment": ["crop", "flip", "cutout"], "crop_padding": 2, "cutout_size": 2}
    held = load_digits(**options)
    monkeypatch.setattr(dataset, "KEPT", 0)
    anew = load_digits(**options)
    assert isinstance(held.normalizer, Stored) and isinstance(anew.normalizer, Whitened | Centred)
    assert held.train.x.dtype == torch.float32 and anew.train.x.dtype == torch.uint8
    cfg = DataConfig(batch_size=16, **options)
    for step in (0, 7):
        one, other = (Batches(data, cfg, seed=3).at(step) for data in (held, anew))
        assert torch.equal(one.y, other.y)
        torch.testing.assert_close(one.x, other.x, atol=1e-4, rtol=0)
    (first, _), (second, _) = (next(evaluation(data, "test", 50)) for data in (held, anew))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
    plain = held.train.x.index_select(0, Batches(held, cfg, seed=3).at(0).index)
    inside = Batches(held, DataConfig(batch_size=16, preprocess=name, augment=["crop"], crop_padding=2), seed=3).at(0).x
    whole = torch.nn.functional.pad(plain, (2, 2, 2, 2))  # the border is 0
    for image, cut in zip(whole, inside, strict=True):
        windows = image.unfold(1, 8, 1).unfold(2, 8, 1)
        assert any(torch.equal(windows[:, i, j], cut) for i in range(5) for j in range(5))


def test_what_is_held_cannot_be_changed_through_a_batch():
    data = load_digits(preprocess="gcn")
    before = data.test.x.clone()
    x, _ = next(evaluation(data, "test", 50))
    x.zero_()
    assert torch.equal(data.test.x, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preprocess": "zac"}, "data.preprocess=zac: data=digits has no such choice; did you mean 'zca'"),
        ({"preprocess": "zca", "zca_epsilon": 0.0}, "data.zca_epsilon=0 is outside (0, inf): added to the variances"),
        ({"preprocess": "zca", "zca_epsilon": float("nan")}, "must be a finite number in (0, inf)"),
        ({"zca_epsilon": 0.2}, "data.zca_epsilon=0.2 would change nothing"),
        ({"preprocess": "gcn", "zca_epsilon": 0.2}, "here data.preprocess=gcn; leave it out"),
        ({"preprocess": "gcn", "normalize": "unit"}, "data.normalize=unit with data.preprocess=gcn"),
        ({"preprocess": "gcn_zca", "normalize": "zca"}, "write data.normalize=standard"),
        ({"kind": "ones", "preprocess": "gcn"}, "data.preprocess=gcn would change nothing"),
        ({"kind": "tabular", "name": "iris", "preprocess": "zca"}, "data.preprocess=zca would change nothing"),
    ],
)
def test_what_cannot_be_preprocessed_is_refused_before_loading(options, words):
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(**{"batch_size": 8, **options}))
    assert words in str(refusal.value)


def npz(tmp_path, size, count=12, value=None):
    x = images(count, (1, size, size))[:, 0]
    if value is not None:
        x.fill_(value)
    y = np.arange(count) % 2
    np.savez(tmp_path / "set.npz", x_train=x.numpy(), y_train=y, x_test=x.numpy(), y_test=y)
    return {"kind": "npz", "path": str(tmp_path / "set.npz"), "batch_size": 2, "val_fraction": 0.0}


def test_images_too_large_to_whiten_are_refused_before_loading_and_may_be_centred(tmp_path):
    options = npz(tmp_path, 129)
    with pytest.raises(
        UserError, match=r"(?s)16641 x 16641 takes 2 GiB\. Write data\.preprocess=gcn, or give a smaller"
    ):
        describe(DataConfig(**options, preprocess="gcn_zca"))
    with pytest.raises(UserError, match=r"Write data\.preprocess=none"):
        describe(DataConfig(**options, preprocess="zca"))
    data = load(DataConfig(**options, preprocess="gcn"), NoiseConfig(), seed=0, device="cpu")
    assert data.train.x.mean((2, 3)).abs().max() < 1e-5 and float(data.train.x.std(correction=0)) == pytest.approx(1)


def test_images_without_difference_are_refused_and_too_few_images_told(tmp_path):
    with pytest.raises(UserError, match="the 12 training images do not differ, so there is nothing to whiten"):
        load(DataConfig(**npz(tmp_path, 4, value=9), preprocess="zca"), NoiseConfig(), seed=0, device="cpu")
    data = load(DataConfig(**npz(tmp_path, 4), preprocess="zca"), NoiseConfig(), seed=0, device="cpu")
    assert data.notes and "data.preprocess=zca is fitted on 12 images of 16 values: in 5 directions" in data.notes[0]
    assert bool(data.test.x.isfinite().all())
    assert not load(DataConfig(**npz(tmp_path, 4), preprocess="gcn"), NoiseConfig(), seed=0, device="cpu").notes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_the_gpu_as_on_the_cpu():
    x = images()
    cfg = DataConfig(preprocess="gcn_zca")
    torch.testing.assert_close(fit(cfg, x.cuda(), 255)(x.cuda()).cpu(), fit(cfg, x, 255)(x), atol=1e-4, rtol=0)
