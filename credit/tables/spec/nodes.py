"""A YAML file as parts that know the line they stand on, so that every complaint can name it."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from credit.core.errors import UserError, nearest

_WORD = re.compile(r"\+{0,2}[A-Za-z_][\w./@-]*=.*", re.DOTALL)
_KINDS = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}


@dataclass(frozen=True)
class Part:
    """One value of a file; `what` is its place in words, such as ``columns.bp.set``, empty for the whole file."""

    file: Path
    node: yaml.Node
    what: str

    @property
    def line(self) -> int:
        """The line it begins on, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def error(self, text: str) -> UserError:
        """Return an error that names file and line."""
        return refusal(self.file, self.line, text)

    def is_empty(self) -> bool:
        """Return whether nothing is given: ``key:`` alone, or null."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"

    def is_mapping(self) -> bool:
        """Return whether it is written ``{a: ..., b: ...}``."""
        return isinstance(self.node, yaml.MappingNode)

    def is_list(self) -> bool:
        """Return whether it is written ``[a, b]``."""
        return isinstance(self.node, yaml.SequenceNode)

    def nothing(self, key: str) -> "Part":
        """Return the empty value of a key that this mapping does not have."""
        mark = self.node.start_mark
        return Part(
            self.file, yaml.ScalarNode("tag:yaml.org,2002:null", "", mark, mark), f"{self.what}.{key}".lstrip(".")
        )

    def entries(self) -> dict[str, "Part"]:
        """Return a mapping's values by key, in order; an empty value is an empty mapping.

        Raises:
            UserError: it is something else, or a key is given twice.
        """
        if self.is_empty():
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self._wrong("a mapping, written {key: value}")
        found: dict[str, Part] = {}
        for key, value in self.node.value:
            at = Part(self.file, key, self.what)
            if not isinstance(key, yaml.ScalarNode):
                raise at.error("a key must be a single word")
            if key.value in found:
                raise at.error(f"'{key.value}' is given twice, first on line {found[key.value].line}: keep one")
            # A mapping or list begins behind its key, perhaps a line later; people look for the key.
            found[key.value] = _Under(self.file, value, f"{self.what}.{key.value}".lstrip("."), key)
        return found

    def fields(self, known: Collection[str], needed: Iterable[str] = ()) -> dict[str, "Part"]:
        """Return `entries`, whose keys must be among `known` and hold all `needed`."""
        found = self.entries()
        within = f" in {self.what}" if self.what else ""
        for key, part in found.items():
            if key not in known:
                raise part.error(f"unknown key '{key}'{within}: {nearest(key, known)}")
        for key in needed:
            if key not in found or (found[key].is_empty()):
                raise self.error(f"'{key}' is missing{within or ' from the file'}: it needs {', '.join(needed)}")
        return found

    def items(self) -> list["Part"]:
        """Return a list's values; an empty value is an empty list."""
        if self.is_empty():
            return []
        if not isinstance(self.node, yaml.SequenceNode):
            raise self._wrong("a list, written [a, b]")
        return [Part(self.file, node, self.what) for node in self.node.value]

    def text(self) -> str:
        """Return a single value as it is written."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.value.strip() == "" or self.is_empty():
            raise self._wrong("text")
        return str(self.node.value)

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts, none given twice."""
        found: list[str] = []
        for item in self.items():
            if item.text() in found:
                raise item.error(f"{self.what}: '{item.text()}' is given twice")
            found.append(item.text())
        return tuple(found)

    def among(self, valid: Collection[str], what: str) -> str:
        """Return a text that must be one of `valid`, which are called `what`."""
        text = self.text()
        if text not in valid:
            raise self.error(f"unknown {what} '{text}' in {self.what}: {nearest(text, valid)}")
        return text

    def all_among(self, valid: Collection[str], what: str) -> tuple[str, ...]:
        """Return those of `valid` that a list names, `*` and `?` standing for any characters; a given list must not be empty."""
        if not self.texts() and not self.is_empty():
            raise self.error(f"{self.what} is empty: name at least one {what}, or leave it out for all")
        return tuple(dict.fromkeys(name for item in self.items() for name in item.matches(item.text(), valid, what)))

    def matches(self, pattern: str, valid: Collection[str], what: str) -> list[str]:
        """Return the names of `valid`, which are called `what`, that a name or pattern stands for: at least one."""
        found = [name for name in valid if name == pattern or fnmatchcase(name, pattern)]
        if not found:
            told = "none matches" if re.search(r"[*?]", pattern) else nearest(pattern, valid)
            raise self.error(f"unknown {what} '{pattern}' in {self.what}: {told}")
        return found

    def number(self, low: float = -math.inf, above: float = -math.inf) -> float:
        """Return a finite number, at least `low` and greater than `above`."""
        value = math.nan
        if isinstance(self.node, yaml.ScalarNode):
            try:
                value = float(self.node.value)
            except ValueError:
                value = math.nan
        if not math.isfinite(value):
            raise self._wrong("a number")
        if value < low or value <= above:
            raise self._wrong(f"a number of at least {low:g}" if value < low else f"a number above {above:g}")
        return value

    def whole(self, low: int = 1) -> int:
        """Return a whole number, at least `low`."""
        value = self.number()
        if value != int(value) or value < low:
            raise self._wrong(f"a whole number of at least {low}")
        return int(value)

    def words(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return a list of the command line's words, and their lines."""
        for item in self.items():
            if not isinstance(item.node, yaml.ScalarNode) or not _WORD.fullmatch(item.node.value):
                shown = f" '{item.node.value}'" if isinstance(item.node, yaml.ScalarNode) else ""
                raise item.error(
                    f"{self.what}: cannot read{shown}: settings are written key=value, as optimizer.lr=0.1"
                )
        return tuple(item.text() for item in self.items()), tuple(item.line for item in self.items())

    def value(self) -> Any:
        """Return it as plain Python values."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_document(self.node)
        except yaml.constructor.ConstructorError as error:
            raise self.error(f"{self.what} cannot be read: {error.problem}") from error
        finally:
            loader.dispose()

    def _wrong(self, wanted: str) -> UserError:
        given = "is empty" if self.is_empty() else f"is {_KINDS[type(self.node)]}"
        if isinstance(self.node, yaml.ScalarNode) and not self.is_empty():
            given = f"is '{self.node.value}'"
        return self.error(f"{self.what or 'the file'} {given}: it must be {wanted}")


@dataclass(frozen=True)
class _Under(Part):
    """A mapping's value: its line is that of its key."""

    key: yaml.Node

    @property
    def line(self) -> int:
        return int(self.key.start_mark.line) + 1


class Defaults(dict[str, Part]):
    """A mapping's parts, where a key that is not given reads as an empty part."""

    def __init__(self, of: Part, found: dict[str, Part]) -> None:
        super().__init__(found)
        self.of = of

    def __missing__(self, key: str) -> Part:
        return self.of.nothing(key)

    def has(self, key: str) -> bool:
        return key in self and not self[key].is_empty()


def fields_of(part: Part, known: tuple[str, ...], needed: tuple[str, ...] = ()) -> Defaults:
    """Return a mapping's parts, those not given as empty ones; see `Part.fields`."""
    return Defaults(part, part.fields(known, needed))


def read(file: Path) -> Part:
    """Return a YAML file's whole content.

    Raises:
        UserError: it cannot be read as YAML.
    """
    try:
        node = _composed(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        quote = ""
        if error.problem and "got '['" in error.problem:
            quote = '. Put a word with brackets in quotes: ["data.augment=[crop,flip]"]'
        raise refusal(file, line, f"cannot be read as YAML: {error.problem}{quote}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refusal(file, 1, f"cannot be read as YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise refusal(file, 1, "the file is empty")
    return Part(file, node, "")


def _composed(text: str) -> yaml.Node | None:
    """Return the node of a YAML text, by libyaml where PyYAML has it: all tables are read in a tenth of the time."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        node = yaml.compose(text, Loader=yaml.SafeLoader)  # its errors say more
    return node


def refusal(file: Path, line: int, text: str) -> UserError:
    """Return an error about a line of a file, the file named from the current folder where it lies below it."""
    cwd = Path.cwd()
    shown = file.relative_to(cwd) if file.is_relative_to(cwd) else file
    return UserError(f"{shown}:{line}: {text}")
