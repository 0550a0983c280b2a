"""Parts of a YAML file with their lines, for error messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from credit.core.errors import UserError

_KINDS = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}


@dataclass(frozen=True)
class Part:
    """One value of a file.

    Attributes:
        file: the file.
        node: the value as PyYAML reads it.
        what: its place in words, such as ``columns.bp.set``; empty for the whole file.
        line: its line, counted from 1; in a mapping that of its key.
    """

    file: Path
    node: yaml.Node
    what: str
    line: int

    @property
    def kind(self) -> str:
        """``a mapping``, ``a list``, ``a single value``, or ``empty``: null, or a key alone."""
        return "empty" if self.node.tag == "tag:yaml.org,2002:null" else _KINDS[type(self.node)]

    def error(self, text: str) -> UserError:
        """Return an error that names file and line."""
        return refusal(self.file, self.line, text)

    def entries(self) -> dict[str, "Part"]:
        """Return the values of a mapping by key, in the order of the file; empty for an empty value.

        Raises:
            UserError: the value is no mapping, or a key is given twice.
        """
        found: dict[str, Part] = {}
        for key, value in self._inside("a mapping", "a mapping, written {key: value}"):
            at_key = Part(self.file, value, f"{self.what}.{key.value}".lstrip("."), _line(key))
            if not isinstance(key, yaml.ScalarNode):
                raise at_key.error("a key must be a single word")
            if key.value in found:
                raise at_key.error(f"'{key.value}' is given twice, first on line {found[key.value].line}: keep one")
            found[key.value] = at_key
        return found

    def items(self) -> list["Part"]:
        """Return the values of a list; empty for an empty value.

        Raises:
            UserError: the value is no list.
        """
        return [
            Part(self.file, node, self.what, _line(node)) for node in self._inside("a list", "a list, written [a, b]")
        ]

    def text(self) -> str:
        """Return a single value as a text.

        Raises:
            UserError: the value is a mapping, a list, or empty.
        """
        if self.kind != "a single value" or not self.node.value.strip():
            raise self._wrong("text")
        return str(self.node.value)

    def plain(self, hint: Any) -> Any:
        """Return the value for `credit.core.options.convert`: a text for `hint` str, else a number if it can be read as one."""
        if hint is str or self.kind != "a single value":
            return self.text() if hint is str else self.value()
        try:
            return float(self.node.value)
        except ValueError:
            return self.node.value

    def value(self) -> Any:
        """Return the value as plain Python objects."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_document(self.node)
        except yaml.constructor.ConstructorError as error:
            raise self.error(f"{self.what} cannot be read: {error.problem}") from error
        finally:
            loader.dispose()

    def _inside(self, kind: str, wanted: str) -> Any:
        if self.kind not in ("empty", kind):
            raise self._wrong(wanted)
        return self.node.value if self.kind == kind else []

    def _wrong(self, wanted: str) -> UserError:
        given = f"'{self.node.value}'" if self.kind == "a single value" else self.kind
        return self.error(f"{self.what or 'the file'} is {given}: it must be {wanted}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def read(file: Path) -> Part:
    """Return the content of a YAML file.

    Raises:
        UserError: the file is no valid YAML.
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
    return Part(file, node, "", _line(node))


def _composed(text: str) -> yaml.Node | None:
    """Return the node of a YAML text, by libyaml where PyYAML has it: all tables are read in a tenth of the time."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        node = yaml.compose(text, Loader=yaml.SafeLoader)  # its errors say more
    return node


@contextmanager
def at(file: Path, line: int, what: str = "") -> Iterator[None]:
    """Return a context in which errors get a file, a line and a prefix."""
    try:
        yield
    except UserError as error:
        raise refusal(file, line, f"{what}{error}") from error


def refusal(file: Path, line: int, text: str) -> UserError:
    """Return an error about a line of a file; the file's path is relative to the current folder if it is inside."""
    cwd = Path.cwd()
    shown = file.relative_to(cwd) if file.is_relative_to(cwd) else file
    return UserError(f"{shown}:{line}: {text}")
