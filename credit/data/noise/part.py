"""The part of a data set whose labels are made wrong, as a kind of noise gets it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.data.sources.images.on_disk import Examples


@dataclass(frozen=True)
class Part:
    """The labelled examples.

    Attributes:
        cfg: options of the data set.
        x: the examples (N, ...) as the set holds them, on any device.
        places: int64 (N,), ascending: their places in the whole set, whose training part as stored comes first.
        train_y: int64, the clean labels of the whole training part as stored.
        seed: of the noise.
        standardise: returns the function that standardises examples by what the training part shows, channel by channel or
            column by column, to float32 of the same shape.
    """

    cfg: DataConfig
    x: Examples
    places: Tensor
    train_y: Tensor
    seed: int
    standardise: Callable[[], Callable[[Tensor], Tensor]]
