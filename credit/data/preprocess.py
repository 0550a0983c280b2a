"""Preprocess whole images (``data.preprocess``) before they are normalized and augmented. Fitted on the training part alone.

| name | what becomes of an image, its values v in 0..1 |
|---|---|
| none | v |
| gcn | v less the mean of its channel in this image: all that the rec-LRA paper (section 4) says of global contrast normalisation |
| zca | U diag((s / m + e)^-1/2) U^T (v - mean) / m^1/2, covariance U diag(s) U^T over the training images, m the mean of s |
| gcn_zca | gcn, then zca of what that gives |

`gcn` divides by no spread: that is ``data.normalize=gcn``. e is ``data.zca_epsilon``, in units of m, the mean variance of a
value: what comes out is the same whatever the pixels' scale. 0.1 is customary for images of unit variance, where m is 1 (after
Goodfellow et al. 2013); it leaves directions of much smaller variance, which hold noise, small.

``data.normalize=standard`` then brings the channels to deviation 1 over the training images (their mean is 0 already);
``none`` leaves what came out.
"""

import math

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data.normalize import ZCA_LIMIT
from credit.data.sources.images.on_disk import Examples

AFTER = ("none", "standard")
"""Normalisations that have something to do behind a preprocessing."""
_CENTRE = 128  # of a byte's values: less it, a product of two is at most 2^14
_EXACT = 1024  # images whose products' sum is a whole number below 2^24, which float32 holds exactly
_HELD = 2**22  # values turned to whole numbers at a time
_BLOCKS = 4  # of columns: products are symmetric, and what lies below the diagonal is left out block by block


class Centred:
    """Each channel of each image less its own mean, times the channel's `scale` (C,)."""

    per_pixel = False

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale.view(1, -1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W)."""
        values = x.float()
        return values.sub_(values.mean((2, 3), keepdim=True)).mul_(self.scale)


class Whitened:
    """``(v - mean) @ matrix`` for an image's values v in a row, `centred` channel by channel before or not."""

    per_pixel = False

    def __init__(self, mean: Tensor, matrix: Tensor, centred: bool) -> None:
        self.mean, self.matrix, self.centred = mean, matrix, centred

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W)."""
        values = x.float()
        if self.centred:
            values.sub_(values.mean((2, 3), keepdim=True))
        return (values.flatten(1).sub_(self.mean) @ self.matrix).view(x.shape)


class Stored:
    """Of examples that are held as the network gets them: a copy."""

    per_pixel = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) of the same."""
        return x.clone()


Preprocessing = Centred | Whitened


def check(cfg: DataConfig, shape: tuple[int, ...]) -> None:
    """Refuse a preprocessing that images of this shape cannot have, or settings beside it that mean nothing.

    Args:
        cfg: the data options.
        shape: (C, H, W).

    Raises:
        UserError: a normalisation that would undo it; images so large that their whitening matrix does not fit.
    """
    name = cfg.preprocess
    if name != "none" and cfg.normalize not in AFTER:
        raise UserError(
            f"data.normalize={cfg.normalize} with data.preprocess={name}: is for pixels as they are; write "
            "data.normalize=standard (each channel to deviation 1) or data.normalize=none (what the preprocessing gives)"
        )
    size = math.prod(shape)
    if "zca" in name and size > ZCA_LIMIT:
        raise UserError(
            f"data.preprocess={name} on images of {shape}: a whitening matrix of {size} x {size} takes "
            f"{8 * size**2 / 2**30:.0f} GiB. Write data.preprocess={'gcn' if name == 'gcn_zca' else 'none'}, or give a smaller "
            "data.image_size where the set has it"
        )


def fit(cfg: DataConfig, x: Examples, top: int) -> Preprocessing:
    """Fit ``data.preprocess``, and ``data.normalize`` behind it, on training images.

    Sums are of whole numbers and exact, statistics float64; the fit needs about five matrices of (values an image)^2.

    Args:
        cfg: the data options, checked; `preprocess` is not ``none``.
        x: uint8 (N, C, H, W) on any device; statistics stay there.
        top: the largest pixel value of the format.

    Raises:
        UserError: images without any difference, which cannot be whitened.
    """
    scaled = cfg.normalize == "standard"
    if cfg.preprocess == "gcn":
        whole = torch.full((x.shape[1],), 1 / top, device=x.device)
        return Centred(_reciprocal(_spread(x)).float() if scaled else whole)
    centred = cfg.preprocess == "gcn_zca"
    mean, covariance = moments(x)
    if centred:
        pixels = x.shape[2:].numel()
        mean = _centre(mean, 0, pixels)
        covariance = _centre(_centre(covariance, 0, pixels), 1, pixels)
    variance = covariance.diagonal().mean()
    if not variance > 0:
        raise UserError(
            f"data.preprocess={cfg.preprocess}: the {len(x)} training images do not differ, so there is nothing to whiten; "
            "write data.preprocess=none"
        )
    values, vectors = torch.linalg.eigh(covariance.div_(variance))
    values.clamp_(min=0)  # zero but for rounding, along the means that gcn takes away
    matrix = (vectors * (values + cfg.zca_epsilon).rsqrt()) @ vectors.T
    if scaled:
        left = vectors.square() @ (values / (values + cfg.zca_epsilon))  # variance (D,) of each value whitened
        matrix *= _reciprocal(left.view(x.shape[1], -1).mean(1).sqrt()).repeat_interleave(x.shape[2:].numel())
    return Whitened(mean.float(), (matrix / variance.sqrt()).float(), centred)


def moments(x: Examples) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D), divided by N, of images as rows of D values; float64, of exact sums.

    Products are made in float32, which is exact for so small whole numbers and several times as fast as float64.

    Args:
        x: uint8 (N, ...) on any device.
    """
    size = x.shape[1:].numel()
    total = torch.zeros(size, dtype=torch.float64, device=x.device)
    products = torch.zeros(size, size, dtype=torch.float64, device=x.device)
    edges = [size * block // _BLOCKS for block in range(_BLOCKS + 1)]
    for place in range(0, len(x), _EXACT):
        values = x[place : place + _EXACT].flatten(1).float().sub_(_CENTRE)
        total += values.sum(0, dtype=torch.float64)
        for start, end in zip(edges, edges[1:], strict=False):
            products[start:end, start:] += values[:, start:end].T @ values[:, start:]
    upper = products.triu()
    products = upper + upper.triu(1).T
    mean = total / len(x)
    return mean + _CENTRE, (products / len(x)).addr_(mean, mean, alpha=-1)


def note(cfg: DataConfig, images: int, shape: tuple[int, ...]) -> str | None:
    """Return a warning for a whitening fitted on no more images than an image has values; else None."""
    size = math.prod(shape)
    if "zca" not in cfg.preprocess or images > size:
        return None
    return (
        f"data.preprocess={cfg.preprocess} is fitted on {images} images of {size} values: in {size - images + 1} directions at "
        f"least they do not differ, and what other images show there is amplified as data.zca_epsilon={cfg.zca_epsilon:g} lets it. "
        f"Fit it on more than {size} images where the result counts"
    )


def _centre(table: Tensor, dim: int, pixels: int) -> Tensor:
    """Return a table less the means over each channel's `pixels` values along a dimension."""
    parts = table.unflatten(dim, (-1, pixels))
    return (parts - parts.mean(dim + 1, keepdim=True)).flatten(dim, dim + 1)


def _spread(x: Examples) -> Tensor:
    """Return the root mean square (C,) of each channel over images (N, C, H, W) that were centred, from exact sums; float64."""
    pixels = x.shape[2:].numel()
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    count = max(1, _HELD // x.shape[1:].numel())
    for start in range(0, len(x), count):
        values = x[start : start + count].flatten(2).long()
        squares, sums = values.square().sum(2).double(), values.sum(2).double()
        total += (squares - sums.square() / pixels).sum(0)
    return (total / (len(x) * pixels)).sqrt()


def _reciprocal(spread: Tensor) -> Tensor:
    """Return one over each spread; 1 where there is none, so that the channel stays 0."""
    return torch.where(spread > 0, spread, 1.0).reciprocal()
