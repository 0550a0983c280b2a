"""Options: one definition each, a field of a frozen dataclass made by `opt`.

Everything else about an option follows from its field: the check of type and range with its words, the default, the refusal
where the option would change nothing, the line in ``credit list``, and its part in a run's identity.

    @component("gate", "inverse", "credit.rules.backward.gates:Inverse")
    @dataclass(frozen=True)
    class InverseOptions:
        inverse_scale: float = opt(1.0, "size of the desired change of h", gt=0, source="Appendix G")

An option's type is one of: bool, int, float, str, a ``Literal`` of names, ``list[...]`` and ``Sequence[...]`` of these,
``dict[str, ...]``, and unions of them, among them ``| None``.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from credit.core.errors import UserError, nearest

SMALLEST = 1.1754943508222875e-38
"""The smallest normal number of float32, in which networks compute: what is smaller is 0 there, or nearly."""

LARGEST_SEED = 2**53
"""The largest whole number that JSON and floating-point readers of it keep exactly."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
OPTION = "option"
"""Key of an option's definition in the metadata of its field."""


@dataclass(frozen=True)
class Meta:
    """Metadata of an option beside its type and default; see `opt`."""

    doc: str = ""
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    choices: tuple[str, ...] | Callable[[], Iterable[str]] = ()
    family: str = ""
    source: str = ""
    symbol: str = ""
    when: str = ""
    result: bool = True
    speed: bool = False
    was: tuple[str, ...] = ()
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    same: Mapping[Any, Any] = dataclasses.field(default_factory=dict)
    short: str = ""

    @property
    def interval(self) -> str:
        """The range of a number, as ``[0, 1)``; empty where any number goes."""
        if self.gt is self.ge is self.lt is self.le is None:
            return ""
        low = f"({self.gt:g}" if self.gt is not None else f"[{_plain(self.ge)}" if self.ge is not None else "(-inf"
        high = f"{self.lt:g})" if self.lt is not None else f"{_plain(self.le)}]" if self.le is not None else "inf)"
        return f"{low}, {high}"

    def contains(self, value: float) -> bool:
        """Return whether a number lies in the range."""
        return not (
            (self.gt is not None and not value > self.gt)
            or (self.ge is not None and not value >= self.ge)
            or (self.lt is not None and not value < self.lt)
            or (self.le is not None and not value <= self.le)
        )


def opt(
    default: Any, doc: str, *, gt: float | None = None, ge: float | None = None, lt: float | None = None,
    le: float | None = None, choices: tuple[str, ...] | Callable[[], Iterable[str]] = (), family: str = "",
    source: str = "", symbol: str = "", when: str = "", result: bool = True, speed: bool = False, was: str | Sequence[str] = (),
    renamed: Mapping[str, str] | None = None, same: Mapping[Any, Any] | None = None, short: str = "",
) -> Any:  # fmt: skip
    """Return the field of an option.

    Args:
        default: its value where none is given; lists are copied.
        doc: its meaning in one line, with units. Also what a refusal of its value ends in.
        gt, ge, lt, le: the range of a number, or of each entry of a list.
        choices: the words that a text, or each entry of a list, may be; a function where they are known later.
        family: the family of components that the word names: their options are options too (`credit.core.registry`).
        source: equation or section of the paper.
        symbol: the paper's symbol, where it is not the option's name.
        when: the option that has to be set for this one to be read: ``damped`` (true, above 0, or not empty), ``damped=true``,
            ``loss=ce|mse``, or ``augment=crop`` (an entry of a list); several with ``;``.
        result: whether the option decides the result of a run; if not, it is no part of a run's name.
        speed: it decides the speed, and the result to rounding alone; no part of a run's name, but of what is measured of its time.
        was: earlier names; they are refused with this one.
        renamed: earlier words of its value, with the words to write instead.
        same: values that are the same as another, which stands for them in a run's identity.
        short: prefix of its value in the readable part of a run's name, where the value is not the default.
    """
    meta = Meta(doc, gt, ge, lt, le, choices, family, source, symbol, when, result and not speed, speed,
                (was,) if isinstance(was, str) else tuple(was), renamed or {}, same or {}, short)  # fmt: skip
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={OPTION: meta})
    return dataclasses.field(default=default, metadata={OPTION: meta})


@dataclass(frozen=True)
class Option:
    """One option of a set.

    Attributes:
        name: as written after ``group.``.
        hint: its type.
        default: its value where none is given.
        meta: what its definition says beside.
        owner: (family, component) whose option it is; None: the set's own.
    """

    name: str
    hint: Any
    default: Any
    meta: Meta
    owner: tuple[str, str] | None = None


_KNOWN: dict[type, Mapping[str, Option]] = {}


def of_class(cls: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by name, in the order of their definition."""
    if cls in _KNOWN:
        return _KNOWN[cls]
    if not dataclasses.is_dataclass(cls):
        return {}
    hints, found = get_type_hints(cls), {}
    for one in dataclasses.fields(cls):
        if one.init:
            default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
            found[one.name] = Option(one.name, hints[one.name], default, one.metadata.get(OPTION, Meta()))
    return _KNOWN.setdefault(cls, types.MappingProxyType(found))


def written(value: object) -> str:
    """Return a value as the command line takes it: lists without spaces, booleans and null in lower case."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(written(entry) for entry in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def describe(hint: Any) -> str:
    """Return a type in words: ``a number``, ``a list of whole numbers``, ``one of ce, mse``."""
    origin = get_origin(hint)
    if origin in (list, Sequence) or origin is Sequence:
        words = {int: "whole numbers", float: "numbers", str: "words"}
        return f"a list of {words[get_args(hint)[0]]}"
    if origin in (dict, Mapping):
        if get_args(hint)[1] is Any:
            return "a mapping, {name:value}"
        alone = get_args(hint)[1] is str
        return f"names by name, such as {'{conv:zpm}' if alone else '{act1:output,act2:[act3,output]}'}"
    if origin is Literal:
        return ("one of " if len(get_args(hint)) > 1 else "") + ", ".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else describe(part) for part in get_args(hint))
    return _WORDS.get(hint, str(hint))


def convert(key: str, value: Any, option: Option, owner: str = "") -> Any:
    """Return a value as an option's type has it, without guessing: 3.0 is a whole number, "3" is not, true is no number.

    Args:
        key: the option as written, ``rule.beta``.
        value: what was given.
        option: its definition.
        owner: whose option it is, for the message: ``rule 'dp'``.

    Raises:
        UserError: naming key and value, what the option takes, and the default as an example.
    """
    meta = option.meta
    if isinstance(value, str) and value in meta.renamed:
        raise UserError(f"{key}={value}: {meta.renamed[value]}")
    found = _converted(key, value, option.hint, meta)
    if found is not _NO:
        return found
    _refuse_size(key, value, option, meta)
    names = _literals(option.hint)
    if isinstance(value, str) and names:
        has = f"{owner} has no such choice; " if owner else ""
        raise UserError(f"{key}={value}: {has}{nearest(value, names)}")
    of = f" of {owner}" if owner else ""
    raise UserError(
        f"{key}={written(value)}{of} {_wrong_item(value, option.hint) or f'is {_kind(value)}'}: must be "
        f"{describe(option.hint)}{f' in {meta.interval}' if meta.interval else ''}{_example(key, option)}"
    )


_NO = object()


def _converted(key: str, value: Any, hint: Any, meta: Meta) -> Any:
    """Return `value` as `hint` asks, or `_NO` where its type does not fit."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for part in get_args(hint):
            if (found := _converted(key, value, part, meta)) is not _NO:
                return found
        return _NO
    if origin is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _NO
    if origin is not None:
        return _collection(key, value, hint, meta)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is type(None):
        return None if value is None else _NO
    if hint is bool:
        return value if isinstance(value, bool) else _NO
    if hint is float:
        return _in_range(key, float(value), meta) if number else _NO
    if hint is int:
        whole = number and math.isfinite(value) and value == int(value)
        return _in_range(key, int(value), meta) if whole else _NO
    if hint is str:
        return _word(key, str(value), meta) if number or isinstance(value, str) else _NO
    return value if hint is Any or isinstance(value, hint) else _NO


def _collection(key: str, value: Any, hint: Any, meta: Meta) -> Any:
    if isinstance(value, Mapping):
        if get_origin(hint) not in (dict, Mapping):
            return _NO
        made = {str(name): _converted(key, entry, get_args(hint)[1], meta) for name, entry in value.items()}
        return _NO if any(entry is _NO for entry in made.values()) else made
    if get_origin(hint) in (dict, Mapping) or isinstance(value, str) or not isinstance(value, Iterable):
        return _NO
    entries = [_converted(key, entry, get_args(hint)[0], meta) for entry in value]
    return _NO if any(entry is _NO for entry in entries) else entries


def _in_range(key: str, value: Any, meta: Meta) -> Any:
    if not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number{f' in {meta.interval}' if meta.interval else ''}")
    if 0 < abs(value) < SMALLEST:
        raise UserError(
            f"{key}={value:g} is 0, or nearly, in the numbers that networks compute with (float32, from {SMALLEST:.2g}): write a "
            "larger number, or 0 where 0 is meant"
        )
    if not meta.contains(value):
        raise UserError(f"{key}={written(value)} is outside {meta.interval}{f': {meta.doc}' if meta.doc else ''}")
    return value


def _word(key: str, value: str, meta: Meta) -> str:
    if not value.strip():
        raise UserError(
            f"{key}= is empty (from a variable that is not set?): write a value, or leave the option out for its default"
        )
    known = tuple(meta.choices() if callable(meta.choices) else meta.choices)
    if known and value not in known:
        raise UserError(f"{key}={value}: {nearest(value, known)}")
    return value


def _refuse_size(key: str, value: Any, option: Option, meta: Meta) -> None:
    """Refuse a number that is no whole one by its range where it is outside of that too."""
    if isinstance(value, float) and not meta.contains(value if math.isfinite(value) else math.nan):
        _in_range(key, value, meta)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number{_example(key, option)}")


def words(hint: Any) -> set[str]:
    """Return the words that a type lists, those of its parts too: ``auto`` of ``Literal["auto"] | float``."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return set().union(*(words(part) for part in get_args(hint)))


def _literals(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    parts = [part for part in get_args(hint) if part is not type(None)]
    return _literals(parts[0]) if get_origin(hint) in (Union, types.UnionType) and len(parts) == 1 else []


def _example(key: str, option: Option) -> str:
    shown = option.default
    if shown is None or shown is dataclasses.MISSING:
        return f", written {key}=[a,b]" if "a list" in describe(option.hint).split(" or ")[0] else ""
    if shown == [] and get_origin(option.hint) in (list, Sequence):
        return f", written {key}=[a,b]"
    return f", for example {key}={written(shown)}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    words = {
        bool: "true or false",
        str: "a word",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return words.get(type(value), f"a {type(value).__name__}")


def _wrong_item(value: object, hint: Any) -> str:
    """Return which item of a list is not of the list's type: ``has 'a' as item 3, which is no number``; else nothing."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) in (list, Sequence) and isinstance(value, Sequence) and not isinstance(value, str):
            (item,) = get_args(part)
            for at, entry in enumerate(value, 1):
                if _converted("", entry, item, Meta()) is _NO:
                    return f"has '{written(entry)}' as item {at}, which is no {_WORDS[item].removeprefix('a ')}"
    return ""


def _plain(bound: float | None) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
