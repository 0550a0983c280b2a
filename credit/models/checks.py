"""Checks of the data's examples against what an architecture takes."""

from credit.core.errors import UserError


def tokens(kind: str, shape: tuple[int, ...]) -> int:
    """Return T where examples are sequences of T tokens.

    Args:
        kind: the architecture.
        shape: shape of one example, without the batch.

    Raises:
        UserError: they are something else.
    """
    if len(shape) != 1:
        raise UserError(
            f"arch {kind} takes tokens (T,), but the data's examples have shape {tuple(shape)}; use data=text, or arch=mlp, which "
            "takes any shape"
        )
    return shape[0]


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
