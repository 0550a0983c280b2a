"""Read the sections of a table's file by their classes of options; every error names file and line.

The keys of a section are the options of its class. A value is checked by the option's type, range and choices, and as a name by
its `family`.
"""

import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar, Union, get_args, get_origin

from credit.core import registry
from credit.core.errors import UserError, nearest
from credit.core.options import Option, convert, of_class
from credit.tables.measures.measures import measure
from credit.tables.spec.nodes import Part, at
from credit.tables.spec.schema import Published, Words

T = TypeVar("T")

_WORD = re.compile(r"\+{0,2}[A-Za-z_][\w./@-]*=.*", re.DOTALL)


class Reader:
    """Reader of the sections of one file.

    Args:
        names: the table's names by family: ``row``, ``column``, ``claim``, ``budget``. Names of other families are those of
            `credit.core.registry`.

    Attributes:
        defaults: by class, a section with the defaults of all other sections of the class.
    """

    def __init__(self, names: Mapping[str, Collection[str]]) -> None:
        self.names = names
        self.defaults: dict[type, Any] = {}

    def section(self, cls: type[T], part: Part, **given: Any) -> T:
        """Return a section.

        Args:
            cls: its class, a frozen dataclass of `credit.core.options.opt`.
            part: the mapping.
            given: values of fields that are no options, such as the name.

        Raises:
            UserError: an unknown, missing, or wrong key; the message names file and line. An error of the class itself that
                begins with ``key: `` names that key's line.
        """
        base = self.defaults.get(cls)
        own = of_class(cls)
        keys = {one.name.rstrip("_"): one for one in own.values() if one.meta.doc}
        found = self._fields(part, keys, [] if base else [key for key, one in keys.items() if one.default is MISSING])
        values = {one.name: self.value(found[key], one.hint, one) for key, one in keys.items() if key in found}
        if "line" in own:
            starts = [found[key].line for key in getattr(cls, "line_of", ()) if key in found]
            given["line"] = (starts or [part.line])[0]
        if "name" in own and "name" not in keys:
            given.setdefault("name", part.what.rpartition(".")[2])
        try:
            return cls(**{**(vars(base) if base is not None else {}), **values, **given})
        except UserError as error:
            key, _, text = str(error).partition(": ")
            raise found[key].error(f"{found[key].what}: {text}") if key in found else part.error(str(error)) from error

    def _fields(self, part: Part, known: Collection[str], needed: Collection[str]) -> dict[str, Part]:
        """Return a mapping's values that are not empty by key; keys must be known, and those that are needed given."""
        within = f" in {part.what}" if part.what else ""
        entries = part.entries()
        for key, entry in entries.items():
            if key not in known:
                raise entry.error(f"unknown key '{key}'{within}: {nearest(key, known)}")
        found = {key: entry for key, entry in entries.items() if entry.kind != "empty"}
        for key in needed:
            if key not in found:
                raise part.error(f"'{key}' is missing{within or ' from the file'}: it needs {', '.join(needed)}")
        return found

    def value(self, part: Part, hint: Any, option: Option) -> Any:
        """Return a value of the type `hint`, which is that of an option or of the option's entries."""
        if get_origin(hint) in (Union, types.UnionType):
            hint = next((one for one in get_args(hint) if _fits(one, part)), get_args(hint)[0])
        if hint is Words:
            return self._words(part)
        if hint is Published and part.kind != "a mapping":
            text = part.text()
            with at(part.file, part.line, f"{part.what} is "):
                return Published.parse(text, part.line)
        if isinstance(hint, type) and is_dataclass(hint):
            return self.section(hint, part)
        if get_origin(hint) is dict:
            return self._mapping(part, hint, option)
        if get_origin(hint) is tuple:
            return self._list(part, get_args(hint)[0], option)
        if hint is Any:
            return part.value()
        with at(part.file, part.line):
            found = convert(part.what, part.plain(hint), replace(option, hint=hint))
        return self._names(part, found, option.meta.family, patterns=False)[0] if option.meta.family else found

    def _mapping(self, part: Part, of: Any, option: Option) -> dict[Any, Any]:
        """Return a mapping: a grid of cells, settings by patterns of names, or other values by name."""
        key, hint = get_args(of)
        inner = replace(option, default=MISSING)
        if key is str:
            return self._by_name(part, option.meta.family, lambda entry: self.value(entry, hint, inner), hint is Words)
        grid = self._by_name(
            part, "row", lambda line: self._by_name(line, "column", lambda entry: self.value(entry, hint, inner))
        )
        return {(row, column): value for row, line in grid.items() for column, value in line.items()}

    def _by_name(self, part: Part, family: str, read: Callable[[Part], Any], patterns: bool = False) -> dict[str, Any]:
        """Return the values of a mapping by name of a family. Settings of a name that several patterns match are concatenated."""
        found: dict[str, Any] = {}
        for key, entry in part.entries().items():
            for name in self._names(entry, key, family, patterns) if family else [key]:
                found[name] = found[name] + read(entry) if name in found else read(entry)
        return found

    def _list(self, part: Part, hint: Any, option: Option) -> tuple[Any, ...]:
        """Return a list. Names and plain values must be unique, and may be empty only if that differs from the default."""
        if hint not in (str, Any):
            return tuple(self.value(item, hint, option) for item in part.items())
        family = option.meta.family
        items = part.items()
        if not items and option.default is not None:
            told = f" {family}, or leave it out for all" if option.default == () else ""
            raise part.error(f"{part.what} is empty: name at least one{told}")
        given: list[Any] = []
        for item in items:
            given.append(item.text() if family else item.value())
            if given[-1] in given[:-1]:
                raise item.error(f"{part.what}: {given[-1]} is given twice")
        if not family:
            return tuple(given)
        pairs = zip(items, given, strict=True)
        return tuple(dict.fromkeys(name for item, word in pairs for name in self._names(item, word, family)))

    def _names(self, part: Part, name: str, family: str, patterns: bool = True) -> list[str]:
        """Return the names of a family that a name, or a pattern of ``*`` and ``?``, matches: at least one."""
        if family == "measure":
            with at(part.file, part.line):
                measure(name)  # a path of metrics.jsonl too
            return [name]
        known = self.names[family] if family in self.names else registry.names(family)
        found = [one for one in known if one == name or (patterns and fnmatchcase(one, name))]
        if not found:
            told = "none matches" if patterns and re.search(r"[*?]", name) else nearest(name, known)
            raise part.error(f"unknown {family} '{name}' in {part.what.removesuffix(f'.{name}')}: {told}")
        return found

    def _words(self, part: Part) -> Words:
        items = part.items()
        for item in items:
            if item.kind != "a single value" or not _WORD.fullmatch(item.node.value):
                shown = f" '{item.node.value}'" if item.kind == "a single value" else ""
                raise item.error(
                    f"{part.what}: cannot read{shown}: settings are written key=value, as optimizer.lr=0.1"
                )
        return Words(tuple(item.text() for item in items), tuple(item.line for item in items))


def _fits(hint: Any, part: Part) -> bool:
    """Return whether a type of a union is that of what is written: a mapping, a list, or a single value."""
    kind = {dict: "a mapping", tuple: "a list"}.get(
        get_origin(hint), "a mapping" if is_dataclass(hint) else "a single value"
    )
    return part.kind == kind
