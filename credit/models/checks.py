"""Validation of architecture options: by the type the builder declares, by range, and against the image's size."""

import math
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from credit.errors import UserError, nearest

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


def _describe(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Sequence:
        return "a list of whole numbers"
    if origin is Literal:
        return "one of " + ", ".join(get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in get_args(hint))
    return _WORDS.get(hint, str(hint))


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Sequence:
        (item,) = get_args(hint)
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(entry, item) for entry in value)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def written(value: object) -> str:
    """Return a value as the command line takes it: lists without spaces, booleans and null in lower case."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(written(entry) for entry in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def typed(kind: str, option: str, value: object, hint: Any, default: object) -> Any:
    """Return ``value`` as the type ``hint`` of an option says, lists copied; refuse anything else.

    Args:
        kind: the architecture, for the message.
        option: the option's name, for the message.
        value: what the user gave.
        hint: the builder's annotation: int, float, bool, str, Sequence[int], a Literal of names, or a union of these.
        default: the option's default, shown as the example.

    Raises:
        UserError: the type does not fit, a name is not among the choices, or a number is not finite.
    """
    if not _fits(value, hint):
        if get_origin(hint) is Literal and isinstance(value, str):
            raise UserError(
                f"arch.{option}={value!r}: arch {kind} has no such choice; {nearest(value, get_args(hint))}"
            )
        raise UserError(
            f"arch.{option}={written(value)} is a {type(value).__name__}, but arch {kind} needs {_describe(hint)} "
            f"there, for example arch.{option}={written(default)}"
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return float(value) if hint is float and isinstance(value, int) else value


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
