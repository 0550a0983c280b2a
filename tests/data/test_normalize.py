"""Normalisations against their definitions, computed here in plain float64."""

import pytest
import torch

from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.normalize import ZCA_EPS, channel_statistics, check_zca, fit, fit_zca


def images(count=400, shape=(3, 6, 5), seed=0):
    return torch.randint(0, 256, (count, *shape), generator=generator(seed, "images"), dtype=torch.uint8)


def contrast_by_definition(x):
    rows = []
    for image in x.double():
        centred = image - image.mean()
        rows.append(centred / centred.square().mean().sqrt())
    return torch.stack(rows)


def test_none_is_raw_and_unit_divides_by_the_formats_top():
    x = images(4)
    assert torch.equal(fit("none", x, 255)(x), x.float())
    torch.testing.assert_close(fit("unit", x, 255)(x), x.float() / 255)
    torch.testing.assert_close(fit("unit", x, 16)(x), x.float() / 16)


def test_standard_gives_each_channel_mean_0_and_deviation_1():
    x = images()
    x[:, 1] //= 3
    y = fit("standard", x, 255)(x).double()
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_channel_statistics_are_exact_and_a_constant_channel_is_harmless():
    x = images(30)
    x[:, 2] = 77
    mean, std = channel_statistics(x)
    torch.testing.assert_close(mean, x.double().mean((0, 2, 3)), atol=1e-10, rtol=0)
    torch.testing.assert_close(std[:2], x.double().std((0, 2, 3), correction=0)[:2], atol=1e-10, rtol=0)
    assert std[2] == 1
    assert torch.equal(fit("standard", x, 255)(x)[:, 2], torch.zeros(30, 6, 5))


def test_contrast_equals_its_definition():
    x = images(20)
    torch.testing.assert_close(fit("gcn", x, 255)(x).double(), contrast_by_definition(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_an_image_of_one_colour_has_no_contrast(value):
    flat = torch.full((2, 3, 32, 32), value, dtype=torch.uint8)
    assert fit("gcn", flat, 255)(flat).abs().max() < 1e-2


def test_whitening_equals_its_definition():
    x = images()
    v = contrast_by_definition(x).flatten(1)
    values, vectors = torch.linalg.eigh((v - v.mean(0)).T @ (v - v.mean(0)) / len(v))
    matrix = vectors @ torch.diag((values + ZCA_EPS).rsqrt()) @ vectors.T
    expected = ((v - v.mean(0)) @ matrix).view(x.shape)
    torch.testing.assert_close(fit("zca", x, 255)(x).double(), expected, atol=1e-4, rtol=0)


def test_whitened_covariance_is_the_identity_but_for_the_direction_contrast_removed():
    x = images(6000, (1, 4, 4))
    y = fit_zca(x, eps=1e-6)(x).flatten(1).double()
    covariance = torch.cov(y.T, correction=0)
    size = len(covariance)
    without_mean = torch.eye(size, dtype=torch.float64) - torch.full((size, size), 1 / size, dtype=torch.float64)
    torch.testing.assert_close(covariance, without_mean, atol=1e-3, rtol=0)


def test_whitening_huge_images_is_refused():
    with pytest.raises(UserError, match=r"whitening matrix of 150528 x 150528 does not fit.*data\.normalize=gcn"):
        check_zca((3, 224, 224))
