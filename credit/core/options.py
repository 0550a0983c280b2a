"""Typed options: what a user wrote, held against the annotation of the option it is meant for."""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from credit.core.errors import UserError, nearest

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", type(None): "null"}


def _describe(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Sequence:
        words = {int: "whole numbers", float: "numbers", str: "names"}
        return f"a list of {words[get_args(hint)[0]]}"
    if origin is dict:
        alone = get_args(hint)[1] is str
        return f"names by name, such as {'{conv:zpm}' if alone else '{act1:output,act2:[act3,output]}'}"
    if origin is Literal:
        return ("one of " if len(get_args(hint)) > 1 else "") + ", ".join(get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in get_args(hint))
    return _WORDS.get(hint, str(hint))


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Sequence:
        (item,) = get_args(hint)
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(entry, item) for entry in value)
    if origin is dict:
        # A key may be a number, which YAML reads as one.
        return isinstance(value, Mapping) and all(_fits(entry, get_args(hint)[1]) for entry in value.values())
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
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(entry)}" for key, entry in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _wrong_item(value: object, hint: Any) -> str:
    """Say which item of a list is not of the list's type: ``has 'a' as item 3, which is no number``; else nothing."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Sequence and isinstance(value, Sequence) and not isinstance(value, str):
            (item,) = get_args(part)
            wrong = next(((at, entry) for at, entry in enumerate(value, 1) if not _fits(entry, item)), None)
            if wrong is not None:
                finite = "finite " if isinstance(wrong[1], float) and not math.isfinite(wrong[1]) else ""
                return f"has '{written(wrong[1])}' as item {wrong[0]}, which is no {finite}{_WORDS[item].removeprefix('a ')}"
    return ""


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def typed(group: str, owner: str, option: str, value: object, hint: Any, default: object) -> Any:
    """Return ``value`` as the type ``hint`` of an option says, lists copied; refuse anything else.

    Args:
        group: ``rule`` or ``arch``, for the message.
        owner: whose option it is, for the message.
        option: the option's name, for the message.
        value: what the user gave.
        hint: int, float, bool, str, Sequence[int], dict[str, str], a Literal of names, or a union of these.
        default: the option's default, shown as the example.

    Raises:
        UserError: the type does not fit, a name is not among the choices, or a number is not finite.
    """
    if not _fits(value, hint):
        parts = [part for part in get_args(hint) if part is not type(None)]
        choice = parts[0] if len(parts) == 1 else hint  # a choice or null
        if get_origin(choice) is Literal and isinstance(value, str):
            raise UserError(
                f"{group}.{option}={value!r}: {owner} has no such choice; {nearest(value, get_args(choice))}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"{group}.{option}={value}: must be a finite number, for example {group}.{option}={written(default)}"
            )
        what = "null" if value is None else _article(type(value).__name__)
        raise UserError(
            f"{group}.{option}={written(value)} {_wrong_item(value, hint) or f'is {what}'}, but {owner} needs {_describe(hint)} "
            f"there, for example {group}.{option}={written(default)}"
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    wants_float = hint is float or (float in get_args(hint) and int not in get_args(hint))
    return float(value) if wants_float and isinstance(value, int) and not isinstance(value, bool) else value
