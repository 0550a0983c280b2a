"""Noise that depends on the example: the generator of part-dependent label noise, Xia et al. 2020, algorithm 2.

For an example x of class y, standardised and flat (S values):

1. its flip rate q is drawn from the normal distribution of mean `rate` and deviation `deviation`, cut to [0, 1];
2. each class c has one matrix W_c (S, C), drawn from the standard normal distribution once for the whole set;
3. its label stays y with probability 1 - q, and is class j with probability q softmax(x W_y)_j over the classes but y.

Products are float64 on the CPU, so that the same labels are wrong on every machine.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.core.randomness import generator as seeded
from credit.data.noise.drawn import drawn_from
from credit.data.noise.part import Part
from credit.data.options import InstanceNoise
from credit.data.sources.files import Whole

_AT_ONCE = 2**23  # values of examples turned to float64 at a time
_LARGEST = 2**28  # values of one class's matrix: 2 GiB


def check(noise: NoiseConfig, cfg: DataConfig, whole: Whole) -> None:
    """Refuse a rate of 0, around which flip rates above 0 would be drawn, and examples whose matrices do not fit.

    Raises:
        UserError: either.
    """
    if noise.rate == 0:
        raise UserError(
            "noise=instance noise.rate=0: flip rates are drawn around the rate and cut to [0, 1], so labels would be wrong; write "
            "noise=none, or a rate such as noise.rate=0.4"
        )
    size = math.prod(whole.shape) * whole.outputs
    if size > _LARGEST:
        raise UserError(
            f"noise=instance on data={cfg.kind}: a matrix of {math.prod(whole.shape)} x {whole.outputs} for each class takes "
            f"{8 * size / 2**30:.0f} GiB; use a smaller data.image_size where the set has it, or noise=symmetric"
        )


def instance(
    labels: Tensor, rate: float, classes: int, generator: Generator, part: Part, options: InstanceNoise
) -> Tensor:
    """Return labels drawn as the module's description says."""
    flips = flip_rates(len(labels), rate, options.deviation, generator)
    planes = seeded(part.seed, "noise_instance")  # for training and validation part the same
    standardise = part.standardise()
    size = part.x.shape[1:].numel()
    probabilities = torch.zeros(len(labels), classes, dtype=torch.float64)
    for label in range(classes):
        plane = torch.randn(size, classes, generator=planes, dtype=torch.float64)
        for places in (labels == label).nonzero()[:, 0].split(max(1, _AT_ONCE // size)):
            scores = _taken(part, places, standardise) @ plane
            scores[:, label] = -torch.inf
            probabilities[places] = flips[places, None] * scores.softmax(1)
    probabilities[torch.arange(len(labels)), labels] = 1 - flips
    return drawn_from(probabilities, generator)


def flip_rates(count: int, rate: float, deviation: float, generator: Generator) -> Tensor:
    """Return flip rates, float64 (count,), of the normal distribution cut to [0, 1], by its quantiles."""
    ends = torch.special.ndtr((torch.tensor([0.0, 1.0], dtype=torch.float64) - rate) / deviation)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    return (rate + deviation * torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * uniform)).clamp_(0, 1)


def _taken(part: Part, places: Tensor, standardise: Callable[[Tensor], Tensor]) -> Tensor:
    x = part.x[places.to(part.x.device)] if isinstance(part.x, Tensor) else part.x.take(places)
    return standardise(x).flatten(1).cpu().double()
