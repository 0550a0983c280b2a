"""Validation of architecture options: by the type the builder declares, by range, and against the image's size."""

from collections.abc import Sequence

from credit.core.errors import UserError
from credit.core.options import written


def positive(kind: str, **sizes: int | Sequence[int]) -> None:
    """Refuse a layer size below 1.

    Raises:
        UserError: naming the option and the value.
    """
    for option, given in sizes.items():
        for value in [given] if isinstance(given, int) else given:
            if value < 1:
                raise UserError(
                    f"arch.{option}={written(given)}: a layer of arch {kind} cannot have {value} units; write 1 or more"
                )


def rate(kind: str, option: str, value: float) -> None:
    """Refuse a dropout rate outside [0, 1).

    Raises:
        UserError: at 1 nothing is left, below 0 nothing is meant.
    """
    if not 0.0 <= value < 1.0:
        raise UserError(
            f"arch.{option}={value}: arch {kind} drops units with this probability, so it must lie in [0, 1); "
            f"for example arch.{option}=0.2"
        )


def image(kind: str, shape: tuple[int, ...], smallest: int, why: str) -> tuple[int, int, int]:
    """Return ``shape`` as (channels, height, width) where the network can take such images.

    Args:
        kind: the architecture, with its variant where it has one.
        shape: shape of one example, without the batch.
        smallest: least height and width in pixels.
        why: what in the network needs that many, completing "... because ...".

    Raises:
        UserError: the examples are no images, or too small.
    """
    if len(shape) != 3:
        raise UserError(
            f"arch {kind} needs images (channels, height, width), but the data's examples have shape {tuple(shape)}; "
            f"use arch=mlp, which takes any shape"
        )
    channels, height, width = shape
    if min(height, width) < smallest:
        raise UserError(
            f"arch {kind} was given images of {height}x{width} pixels but needs at least {smallest}x{smallest}, "
            f"because {why}; use arch=mlp, which takes any size, or data with larger images"
            + (", or arch=plain_conv_bn, which takes 8x8 and up" if min(height, width) >= 8 else "")
        )
    return channels, height, width
