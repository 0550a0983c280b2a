"""Defaults of the options of rules and networks, read from the sources as text: a run has a name before torch is imported.

What is read is written in a plain way: a dataclass's ``name: type = literal`` (or ``= field(default=literal, metadata=...)``), a
network builder's keyword-only arguments. An option whose default is written otherwise is not known here, and counts as given.
``metadata={"result": False}`` marks an option that does not decide the result.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from credit.core.config.plugins import user_folders
from credit.core.config.schema import SECTIONS

_CREDIT = Path(__file__).resolve().parents[2]
_CLASS = re.compile(r"^((?:@.*\n)*)class (\w+)(?:\((.*)\))?:\n((?:[ \t].*\n|\n|[)\]}].*\n)*)", re.MULTILINE)
_REGISTERED = re.compile(r"@(?:[\w.]*\.)?register(?:_rule)?\((?:\"(\w+)\", )?\"(\w+)\"\)")
_FIELD = re.compile(r"^    (\w+): (?!ClassVar)[^=\n]+ = (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """An option's default, and whether the option decides the result."""

    default: Any
    result: bool = True


Options = Mapping[str, Option]


@dataclass
class _Class:
    bases: list[str]
    registered: list[tuple[str, str]]
    fields: dict[str, Option]
    options: str | None
    families: list[str] = field(default_factory=list)


def rule_options(kind: str) -> Options:
    """Return the options of a kind of rule whose defaults are known, of every component that could be chosen too."""
    classes = dict(_classes(_CREDIT / "rules"))
    for folder in user_folders():
        classes |= _read(sorted((folder / "rule").glob("*.py")))
    owner = next((name for name, one in classes.items() if ("rule", kind) in one.registered), None)
    if owner is None:
        return {}
    lineage = list(_lineage(owner, classes))
    known = dict(_fields("SharedOptions", classes))
    known |= next((_fields(one.options, classes) for one in lineage if one.options), {})
    for family in next((one.families for one in lineage if one.families), []):
        for name, one in classes.items():
            if any(registered == family for registered, _ in one.registered):
                known |= _fields(name, classes)
    return known


@functools.cache
def arch_options(kind: str) -> Options:
    """Return the options of a network whose defaults are known."""
    registry = (_CREDIT / "models" / "registry.py").read_text(encoding="utf-8")
    builder = re.search(rf'^    "{re.escape(kind)}": (\w+),$', registry, re.MULTILINE)
    for file in sorted((_CREDIT / "models").rglob("*.py")) if builder else ():
        found = builder and re.search(
            rf"^def {builder[1]}\((?:.|\n)*?\) -> .*:\n", file.read_text(encoding="utf-8"), re.MULTILINE
        )
        if found:
            [function] = ast.parse(found[0] + "    pass").body
            assert isinstance(function, ast.FunctionDef)
            pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
            return {name.arg: option for name, node in pairs if node and (option := _option(node))}
    return {}


@functools.cache
def section_options(group: str) -> Options:
    """Return the options of a group that has a dataclass."""
    made = SECTIONS[group]()
    return {
        one.name: Option(getattr(made, one.name), one.metadata.get("result", True)) for one in fields(SECTIONS[group])
    }


@functools.cache
def _classes(folder: Path) -> Mapping[str, _Class]:
    return _read(sorted(folder.rglob("*.py")))


def _read(files: list[Path]) -> dict[str, _Class]:
    """Return the classes of files by name."""
    found: dict[str, _Class] = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        for decorators, name, bases, body in _CLASS.findall(text):
            registered = [(family or "rule", word) for family, word in _REGISTERED.findall(decorators)]
            options = re.search(r"^    OPTIONS\b.*= (\w+)$", body, re.MULTILINE)
            families = re.search(r"chosen_options\(([^)]*\)?)\)", body)
            found[name] = _Class(
                [base.strip().rpartition(".")[2] for base in bases.split(",") if base.strip()],
                registered,
                _literals(body),
                options[1] if options else None,
                _words(families[1], text) if families else [],
            )
    return found


def _words(expression: str, text: str) -> list[str]:
    """Return the words of a tuple, or of the constant of this name in the file."""
    constant = re.search(rf"^{re.escape(expression)} = (\(.*\))$", text, re.MULTILINE)
    return re.findall(r"\"(\w+)\"", constant[1] if constant else expression)


def _literals(body: str) -> dict[str, Option]:
    found = {}
    for name, default in _FIELD.findall(body):
        try:
            node = ast.parse(default.strip(), mode="eval").body
        except SyntaxError:  # goes on in the next line
            continue
        option = _option(node)
        if option is not None:
            found[name] = option
    return found


def _option(node: ast.expr) -> Option | None:
    words = {one.arg: one.value for one in node.keywords} if isinstance(node, ast.Call) else {}
    try:
        default = ast.literal_eval(words["default"] if words else node)
        metadata = ast.literal_eval(words["metadata"]) if "metadata" in words else {}
    except (ValueError, KeyError):
        return None
    return Option(list(default) if isinstance(default, tuple) else default, metadata.get("result", True))


def _lineage(name: str, classes: Mapping[str, _Class]) -> Iterator[_Class]:
    if name in classes:
        yield classes[name]
        for base in classes[name].bases:
            yield from _lineage(base, classes)


def _fields(name: str | None, classes: Mapping[str, _Class]) -> dict[str, Option]:
    """Return a dataclass's options, its bases' first."""
    known: dict[str, Option] = {}
    for one in reversed(list(_lineage(name or "", classes))):
        known |= one.fields
    return known
