"""Crop, flip and cutout of a batch against the same done sample by sample in plain Python."""

import pytest
import torch

from credit.core.randomness import generator
from credit.data.augment import crop, cutout, draw, flip


def crop_twin(image, top, left, padding):
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            r, c = row + top - padding, column + left - padding
            if 0 <= r < height and 0 <= c < width:
                out[:, row, column] = image[:, r, c]
    return out


def batch(count=24, shape=(3, 7, 5), seed=0):
    x = torch.randint(1, 256, (count, *shape), generator=generator(seed, "images"), dtype=torch.uint8)
    return x, draw(count, generator(seed, "augment"))


@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_equals_its_per_sample_twin(shape, padding):
    x, (rows, columns, *_) = batch(24, shape)
    offsets = 2 * padding + 1
    got = crop(x, rows, columns, padding)
    for i in range(len(x)):
        assert torch.equal(got[i], crop_twin(x[i], int(rows[i] * offsets), int(columns[i] * offsets), padding))
    assert got.dtype == torch.uint8 and got.is_contiguous()


def test_crop_reaches_every_corner_and_no_further():
    x = torch.full((4, 1, 2, 2), 9, dtype=torch.uint8)
    low, high = 0.0, 1 - 2**-24  # the smallest and the largest number a generator gives
    rows, columns = torch.tensor([low, low, high, high]), torch.tensor([low, high, low, high])
    padded = torch.zeros(4, 4, dtype=torch.uint8)
    padded[1:3, 1:3] = 9
    got = crop(x, rows, columns, 1)
    for i, (top, left) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        assert torch.equal(got[i, 0], padded[top : top + 2, left : left + 2])


def test_crop_leaves_floats_exact():
    x, (rows, columns, *_) = batch()
    assert torch.equal(crop(x.float(), rows, columns, 2), crop(x, rows, columns, 2).float())


def test_flip_mirrors_the_samples_below_one_half_and_no_other():
    x, numbers = batch()
    got = flip(x, numbers[2])
    for i in range(len(x)):
        expected = torch.stack([x[i, :, :, 4 - c] for c in range(5)], -1) if numbers[2, i] < 0.5 else x[i]
        assert torch.equal(got[i], expected)
    assert 4 < int((numbers[2] < 0.5).sum()) < 20


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_cutout_equals_its_per_sample_twin(size):
    x, numbers = batch()
    x = x.float()
    got = cutout(x.clone(), numbers[3], numbers[4], size)
    for i in range(len(x)):
        top, left = int(numbers[3, i] * 7) - size // 2, int(numbers[4, i] * 5) - size // 2
        expected = x[i].clone()
        expected[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
        assert torch.equal(got[i], expected)


def test_offsets_are_drawn_evenly():
    rows, columns, *_ = draw(90000, generator(0, "augment"))
    for numbers in (rows, columns):
        counts = torch.bincount((numbers * 9).long(), minlength=9)
        assert len(counts) == 9
        assert (counts - 10000).abs().max() < 500
