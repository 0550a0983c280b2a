"""From stored examples to network input. Every statistic is fitted on the training part alone.

Images:

| name | value of a pixel x of image i |
|---|---|
| none | x as it is (0..255; digits 0..16) |
| unit | x / top, top = 255 (digits 16) |
| standard | (x - mean_c) / std_c for channel c |
| imagenet | the same with ImageNet's mean and std of RGB, which published weights were trained with |
| gcn | (x - mean_i) / max(std_i, eps) over all values of the image; Goodfellow et al. 2016, Eq. 12.3, lambda = 0 |
| zca | gcn, then U diag((s + ZCA_EPS)^-1/2) U^T (v - mean), with covariance U diag(s) U^T; Krizhevsky 2009, App. A |

Rows of a table, column by column; a column of one value over the training part says nothing and becomes 0 everywhere:

| name | value x of column f |
|---|---|
| none | x as it is |
| unit | (x - min_f) / (max_f - min_f): 0..1 on the training part |
| standard | (x - mean_f) / std_f, the population's standard deviation |
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.data.sources.images.on_disk import Examples

GCN_EPS = 1e-2
"""Smallest divisor, in grey levels: below the spread of any CIFAR-sized image with one pixel off, above rounding."""
ZCA_EPS = 0.1
"""Added to the eigenvalues before whitening (unit-variance pixels): the customary value for CIFAR after `gcn`."""
ZCA_LIMIT = 16384
"""Largest number of values an image may have to be whitened: the matrix has its square."""
COLUMNWISE = ("none", "unit", "standard")
"""Normalisations of a table's columns."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue in 0..1, as torchvision's and timm's weights expect them."""
_CHUNK = 2048  # images turned to float at a time
_HELD = 2**25  # values of so many images at most


class Pixelwise:
    """``(x - shift) * scale`` for each channel: commutes with crop and flip, so batches stay bytes until the end."""

    per_pixel = True

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        self.shift, self.scale = shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W)."""
        return x.float().sub_(self.shift).mul_(self.scale)


class Columnwise:
    """``(x - shift) * scale`` for each column of a table."""

    per_pixel = True

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        self.shift, self.scale = shift, scale

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, F) of float32 (B, F)."""
        return (x - self.shift).mul_(self.scale)


class Contrast:
    """Global contrast normalisation: each image to mean 0 and standard deviation 1."""

    per_pixel = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W); an image of one colour becomes (nearly) zero."""
        flat = x.flatten(1).float()
        flat = flat - flat.mean(1, keepdim=True)
        spread = flat.square().mean(1, keepdim=True).sqrt().clamp_(min=GCN_EPS)
        return flat.div_(spread).view(x.shape)


class Whitening:
    """ZCA after `Contrast`: decorrelates all values of an image while staying as close to it as it can."""

    per_pixel = False

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        self.mean, self.matrix, self.contrast = mean, matrix, Contrast()

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W)."""
        flat = self.contrast(x).flatten(1)
        return ((flat - self.mean) @ self.matrix).view(x.shape)


class Unchanged:
    """Tokens, which the network gets as they are."""

    per_pixel = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return int64 (B, T) of the same."""
        return x


Normalizer = Pixelwise | Columnwise | Contrast | Whitening | Unchanged


def fit(name: str, x: Examples, top: int) -> Normalizer:
    """Fit a normalisation on training images.

    Args:
        name: none, unit, standard, imagenet, gcn or zca (checked by the caller).
        x: uint8 (N, C, H, W) on any device; statistics stay there.
        top: the largest pixel value of the format.
    """
    channels = x.shape[1]
    if name == "standard":
        mean, std = channel_statistics(x)
        return Pixelwise(mean.float(), std.reciprocal().float())
    if name == "imagenet":
        mean, std = (torch.tensor(part, dtype=torch.float64, device=x.device) * top for part in IMAGENET)
        return Pixelwise(mean.float(), std.reciprocal().float())
    if name == "gcn":
        return Contrast()
    if name == "zca":
        return fit_zca(x)
    scale = 1.0 / top if name == "unit" else 1.0
    return Pixelwise(torch.zeros(channels, device=x.device), torch.full((channels,), scale, device=x.device))


def fit_columns(name: str, x: Tensor, scaled: int | None = None) -> Columnwise:
    """Fit a normalisation on training rows, in float64 and on the CPU: the same numbers whatever the data's device.

    Args:
        name: one of `COLUMNWISE` (checked by the caller).
        x: float32 (N, F) on any device.
        scaled: how many columns, the first, are normalised; the others stay as they are. None: all.
    """
    rows = x.double().cpu()
    low, high = rows.amin(0), rows.amax(0)
    if name == "standard":
        shift, spread = rows.mean(0), rows.std(0, correction=0)
    elif name == "unit":
        shift, spread = low, high - low
    else:
        shift, spread = torch.zeros_like(low), torch.ones_like(low)
    varies = (high > low) | torch.tensor(name == "none")
    scale = torch.where(varies, spread.reciprocal(), 0.0)
    if scaled is not None:
        shift[scaled:], scale[scaled:] = 0.0, 1.0
    return Columnwise(shift.float().to(x.device), scale.float().to(x.device))


def channel_statistics(x: Examples) -> tuple[Tensor, Tensor]:
    """Return the mean and the population standard deviation of each channel, float64 (C,).

    From each channel's histogram, so the sums are exact and the same on every device. A channel of one value gets
    standard deviation 1: it becomes 0 and not NaN.
    """
    levels = torch.arange(256, device=x.device)
    counts = torch.zeros(x.shape[1], 256, dtype=torch.int64, device=x.device)
    for chunk in _chunks(x):
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in chunk.unbind(1)])
    count = x.numel() // x.shape[1]
    total, squares = (counts * levels).sum(1), (counts * levels.square()).sum(1)
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp_(min=0).sqrt()
    return mean, torch.where(counts.amax(1) == count, 1.0, std)


def fit_zca(x: Examples, eps: float = ZCA_EPS) -> Whitening:
    """Fit ZCA on images after `Contrast`: the covariance is summed in batches, its eigenvectors taken once, in float64.

    Args:
        x: uint8 (N, C, H, W). CIFAR-10 takes about eight seconds on two CPU cores.
        eps: added to the eigenvalues; 0 < eps, since an image's mean of 0 leaves one direction without variance.
    """
    contrast = Contrast()
    size = x.shape[1:].numel()
    total = torch.zeros(size, dtype=torch.float64, device=x.device)
    products = torch.zeros(size, size, dtype=torch.float64, device=x.device)
    for chunk in _chunks(x):
        flat = contrast(chunk).flatten(1)
        total += flat.sum(0, dtype=torch.float64)
        products += flat.T @ flat
    mean = total / len(x)
    covariance = products / len(x) - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    matrix = (vectors * (values.clamp(min=0) + eps).rsqrt()) @ vectors.T
    return Whitening(mean.float(), matrix.float())


def check_zca(shape: tuple[int, ...]) -> None:
    """Refuse to whiten images so large that the matrix would not fit.

    Raises:
        UserError: more than `ZCA_LIMIT` values an image.
    """
    size = math.prod(shape)
    if size > ZCA_LIMIT:
        raise UserError(
            f"data.normalize=zca on images of {shape}: a whitening matrix of {size} x {size} does not fit. "
            "Use data.normalize=gcn or standard, or a smaller data.image_size"
        )


def _chunks(x: Examples) -> Iterator[Tensor]:
    count = max(1, min(_CHUNK, _HELD // x.shape[1:].numel()))
    for start in range(0, len(x), count):
        yield x[start : start + count]
