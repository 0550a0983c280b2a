"""Published tables by name: reads ``conf/paper/<paper>/<table>.yaml`` into a `Spec`; every complaint names file and line.

Here keys, types and words are checked, in `credit.papers.consistency` what the parts say of each other. Settings are
composed, and so checked, by `credit.papers.expand`: reading a table must cost no more than reading a file.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from credit.config.folders import choices, search_folders
from credit.config.schema import GROUPS
from credit.errors import UserError, nearest
from credit.papers import nodes
from credit.papers.consistency import check_measured, check_spec
from credit.papers.marks import CROSS, DAGGER
from credit.papers.measures import measure
from credit.papers.nodes import Part
from credit.papers.runners import RUNNERS
from credit.papers.spec import (
    ACCURACIES,
    BUDGETS,
    FIGURES,
    MOMENTS,
    TESTS,
    Budget,
    Claim,
    Column,
    Contradiction,
    Diverged,
    Figure,
    Published,
    Row,
    Setting,
    Spec,
    Words,
)

FOLDER = "paper"
Cell = tuple[str, str]

_NEEDED = ("title", "source", "measures", "accuracy", "split", "rows", "columns", "budgets")
_KEYS = (
    *_NEEDED,
    *(
        "test",
        "settings",
        "contradictions",
        "common",
        "repeat",
        "cells",
        "printed",
        "published",
        "also_published",
        "diverged",
        "claims",
        "figures",
    ),
)
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_PRINTED = re.compile(rf"(?P<mean>{_NUMBER})\s*(?:(?:±|\+/?-)\s*(?P<std>{_NUMBER})|\((?P<inside>{_NUMBER})\))?")

_MARKED = re.compile(rf"(?:{DAGGER}|dagger)\s*(?P<number>.+)|(?P<first>.+?)\s*(?:{DAGGER}|dagger)")


def names() -> dict[str, str]:
    """Return every table's name, sorted, with one line of description: its file's first comment, else its title."""
    found = choices(FOLDER)
    for name in [name for name, line in found.items() if not line]:
        title = re.search(r"^title:(.*)$", file_of(name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = title[1].strip() if title else ""
    return found


def file_of(name: str) -> Path:
    """Return a table's file; a user's folder goes before the package's.

    Raises:
        UserError: there is no such table; the nearest is named.
    """
    known = choices(FOLDER)
    if name in known:
        for folder in search_folders():
            file = folder / FOLDER / f"{name}.yaml"
            if file.is_file():
                return file
    raise UserError(f"unknown table '{name}': {nearest(name, known)}. A table is conf/paper/<paper>/<table>.yaml")


def load(name: str) -> Spec:
    """Return a published table.

    Args:
        name: ``<paper>/<table>``, as ``lisp/fig3``; see `names`.

    Raises:
        UserError: there is none of this name, or its file is wrong; the message names file, line and nearest valid name.
    """
    whole = nodes.read(file_of(name))
    spec = _spec(name, whole)
    check_spec(spec)
    for part in whole.entries()["measures"].items():
        check_measured(spec, part.text(), part.line)
    return spec


def _spec(name: str, whole: Part) -> Spec:
    top = _Defaults(whole, whole.fields(_KEYS, _NEEDED))
    rows = {key: _row(key, part) for key, part in _named(top["rows"]).items()}
    columns = {key: _column(key, part, rows) for key, part in _named(top["columns"]).items()}
    budgets = top["budgets"].fields(BUDGETS, BUDGETS)
    claims = tuple(_claim(part, rows) for part in top["claims"].items())
    repeat = {key: _repeat(key, part) for key, part in top["repeat"].entries().items()}
    printed = _printing(top["printed"])
    return Spec(
        name=name,
        file=whole.file,
        title=top["title"].text(),
        source=top["source"].text(),
        measures=tuple(_measure(part) for part in _filled(top["measures"])),
        accuracy=top["accuracy"].among(ACCURACIES, "word"),
        split=top["split"].text(),
        test=top["test"].among(TESTS, "word") if top.has("test") else TESTS[0],
        settings=tuple(_setting(part) for part in top["settings"].items()),
        contradictions=tuple(_contradiction(part) for part in top["contradictions"].items()),
        common=_words(top["common"]),
        rows=rows,
        columns=columns,
        cells={key: _words(part) for key, part in _grid(top["cells"], rows, columns).items()},
        published=_numbers(top["published"], printed, rows, columns),
        also_published=_also(top["also_published"], printed, rows, columns, top["measures"].texts()),
        diverged=_diverged(top["diverged"]) if top.has("diverged") else None,
        claims=claims,
        figures=tuple(_figure(part, rows, columns) for part in top["figures"].items()),
        budgets={key: _budget(key, budgets[key], rows, columns, [claim.name for claim in claims]) for key in BUDGETS},
        repeat=repeat,
    )


class _Defaults(dict[str, Part]):
    """A mapping's parts, where a key that is not given reads as an empty part."""

    def __init__(self, of: Part, found: dict[str, Part]) -> None:
        super().__init__(found)
        self.of = of

    def __missing__(self, key: str) -> Part:
        return self.of.nothing(key)

    def has(self, key: str) -> bool:
        return key in self and not self[key].is_empty()


def _fields(part: Part, known: tuple[str, ...], needed: tuple[str, ...] = ()) -> _Defaults:
    return _Defaults(part, part.fields(known, needed))


def _filled(part: Part) -> list[Part]:
    part.texts()
    if not part.items():
        raise part.error(f"{part.what} is empty: name at least one")
    return part.items()


def _named(part: Part) -> dict[str, Part]:
    """Return rows or columns by name; names can stand in a claim, so they are plain words."""
    found = part.entries()
    if not found:
        raise part.error(f"{part.what} is empty: name at least one")
    for key, entry in found.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", key):
            raise entry.error(f"'{key}' in {part.what} is no name: use letters, digits and _; `label` takes any text")
        if key == "best":
            raise entry.error(f"'best' in {part.what}: in claims that is best(a, b): choose another name")
        if part.what == "columns" and re.fullmatch(r"[0-9]+(e[0-9]+)?", key, re.IGNORECASE):
            raise entry.error(f"'{key}' in columns is a number, and claims could not tell: begin it with a letter")
    return found


def _words(part: Part) -> Words:
    return Words(*part.words())


def _measure(part: Part) -> str:
    try:
        measure(part.text())
    except UserError as error:
        raise part.error(str(error)) from error
    return part.text()


def _row(name: str, part: Part) -> Row:
    held = _fields(part, ("label", "x", "set"))
    label = held["label"].text() if held.has("label") else name
    x = held["x"].number() if held.has("x") else None
    return Row(name, label, _words(held["set"]), x, part.line)


def _column(name: str, part: Part, rows: dict[str, Row]) -> Column:
    held = _fields(part, ("label", "set", "rows", "runner", "options"))
    return Column(
        name=name,
        label=held["label"].text() if held.has("label") else name,
        set=_words(held["set"]),
        rows=held["rows"].all_among(rows, "row"),
        runner=held["runner"].among(RUNNERS, "runner") if held.has("runner") else "train",
        options=held["options"].value() if held["options"].entries() else {},
        line=part.line,
    )


def _repeat(key: str, part: Part) -> tuple[Any, ...]:
    if key == "seed":
        raise part.error("repeat: seeds are counted by each budget's `seeds`, not listed here")
    if key in GROUPS or not re.fullmatch(r"[a-z_]+(\.\w+)+", key):
        raise part.error(f"repeat: '{key}' is no option: repeats run through one such as data.fold")
    if not part.items():
        raise part.error(f"{part.what} is empty: list the values, as [0, 1, 2]")
    values = tuple(item.value() for item in part.items())
    for item, value in zip(part.items(), values, strict=True):
        if values.count(value) > 1:
            raise item.error(f"{part.what}: {value} is given twice")
    return values


def _grid(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> dict[tuple[str, str], Part]:
    """Return the parts of ``row: {column: ...}`` by cell, every one of the table's."""
    found = {}
    for row, inner in part.entries().items():
        if row not in rows:
            raise inner.error(f"{part.what}: unknown row '{row}': {nearest(row, rows)}")
        for column, entry in inner.entries().items():
            if column not in columns:
                raise entry.error(f"{inner.what}: unknown column '{column}': {nearest(column, columns)}")
            only = columns[column].rows
            if only and row not in only:
                raise entry.error(f"{inner.what}: no cell {row}/{column}: column '{column}' has only {', '.join(only)}")
            found[row, column] = entry
    return found


@dataclass(frozen=True)
class _Printing:
    """What all published numbers have in common: a factor to the measure's unit, and how many runs each is of."""

    times: float = 1.0
    n: int | None = None

    def number(self, value: float) -> float:
        return round(self.times * value, 10)  # 100 x 0.9663 is 96.63, not 96.63000000000001


def _printing(part: Part) -> _Printing:
    held = _fields(part, ("times", "n"))
    times = held["times"].number(above=0) if held.has("times") else 1.0
    return _Printing(times, held["n"].whole() if held.has("n") else None)


def _numbers(part: Part, printed: _Printing, rows: dict[str, Row], columns: dict[str, Column]) -> dict[Cell, Published]:
    return {key: _published(entry, printed) for key, entry in _grid(part, rows, columns).items()}


def _also(
    part: Part, printed: _Printing, rows: dict[str, Row], columns: dict[str, Column], measures: Sequence[str]
) -> dict[str, dict[Cell, Published]]:
    """Return the published numbers of measures other than the main one, by measure."""
    found = {}
    for name, entry in part.entries().items():
        if name not in measures[1:]:
            told = "its numbers go into `published`" if name == measures[0] else nearest(name, measures[1:])
            raise entry.error(f"{part.what}: '{name}' is none of the table's other measures: {told}")
        found[name] = _numbers(entry, printed, rows, columns)
    return found


def _published(part: Part, printed: _Printing) -> Published:
    if part.is_mapping():
        held = _fields(part, ("mean", "std", "n"), ("mean",))
        std = printed.number(held["std"].number(low=0)) if held.has("std") else None
        n = held["n"].whole() if held.has("n") else printed.n
        return Published(printed.number(held["mean"].number()), std, n, part.line)
    text = part.text().strip()
    if text == CROSS:
        return Published(None, None, printed.n, part.line, CROSS)
    marked = _MARKED.fullmatch(text)
    match = _PRINTED.fullmatch(marked["number"] or marked["first"] if marked else text)
    if match is None:
        raise part.error(
            f'{part.what} is \'{part.text()}\': write a number, "94.0 ± 3.3", "94.0 (3.3)", '
            'or {mean: 94.0, std: 3.3, n: 5}; "89.3 ± 0.17 †" where training diverged after it, X where no model was learnt'
        )
    behind = match["std"] or match["inside"]
    if behind and float(behind) < 0:
        raise part.error(f"{part.what} is '{part.text()}': a standard deviation is at least 0")
    spread = printed.number(float(behind)) if behind else None
    mean = printed.number(float(match["mean"]))
    return Published(mean, spread, printed.n, part.line, DAGGER if marked else "")


def _diverged(part: Part) -> Diverged:
    held = part.fields(("as", "why"), ("as", "why"))
    return Diverged(held["as"].number(), held["why"].text(), part.line)


def _contradiction(part: Part) -> Contradiction:
    held = part.fields(("says", "but", "reading"), ("says", "but", "reading"))
    return Contradiction(held["says"].text(), held["but"].text(), held["reading"].text(), part.line)


def _setting(part: Part) -> Setting:
    held = part.fields(("what", "reading", "why"), ("what", "reading", "why"))
    return Setting(held["what"].text(), held["reading"].text(), held["why"].text(), part.line)


def _claim(part: Part, rows: dict[str, Row]) -> Claim:
    ways = ("compare", "grows", "falls")
    held = _fields(part, ("name", "says", *ways, "at", "at_least", "tolerance", "measure", "of"), ("name", "says"))
    if sum(held.has(way) for way in ways) != 1:
        raise part.error(f"claim '{held['name'].text()}' needs exactly one of {', '.join(ways)}")
    return Claim(
        name=held["name"].text(),
        says=held["says"].text(),
        **{way: held[way].text() for way in ways if held.has(way)},
        at=held["at"].all_among(rows, "row"),
        at_least=held["at_least"].whole() if held.has("at_least") else None,
        tolerance=held["tolerance"].number(low=0) if held.has("tolerance") else 0.0,
        measure=_measure(held["measure"]) if held.has("measure") else None,
        of=held["of"].among(MOMENTS, "word") if held.has("of") else MOMENTS[0],
        line=next(held[way].line for way in ways if held.has(way)),
    )


def _figure(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> Figure:
    held = _fields(part, ("kind", "title", "measure", "rows", "columns"), ("kind", "title"))
    return Figure(
        kind=held["kind"].among(FIGURES, "kind of figure"),
        title=held["title"].text(),
        measure=_drawn(held) if held.has("measure") else None,
        rows=held["rows"].all_among(rows, "row"),
        columns=held["columns"].all_among(columns, "column"),
        line=part.line,
    )


def _drawn(held: _Defaults) -> str:
    """Return a figure's measure; of a pruning curve and of layers it is one of a diagnostic's many numbers."""
    own = held["kind"].text() in ("pruning", "layer_curves", "layer_steps")
    return held["measure"].text() if own else _measure(held["measure"])


def _words_by(part: Part, valid: Collection[str], what: str) -> dict[str, Words]:
    """Return settings by row or column; one that several patterns stand for has the words of all, in their order."""
    found: dict[str, Words] = {}
    for pattern, entry in part.entries().items():
        for name in entry.matches(pattern, valid, what):
            found[name] = found.get(name, Words()) + _words(entry)
    return found


def _budget(name: str, part: Part, rows: dict[str, Row], columns: dict[str, Column], claims: Collection[str]) -> Budget:
    known = ("says", "seeds", "minutes", "set", "rows", "columns", "only", "claims")
    held = _fields(part, known, ("says", "seeds"))
    only = _fields(held["only"], ("rows", "columns"))
    kept, words = {}, {}
    for axis, valid in (("rows", rows), ("columns", columns)):
        what = axis.removesuffix("s")
        if held[axis].is_list() and only.has(axis):
            raise only[axis].error(f"{part.what} restricts its {axis} twice, in {axis} and in only: keep one")
        listed = held[axis] if held[axis].is_list() else only[axis]
        kept[axis] = listed.all_among(valid, what)
        words[axis] = {} if held[axis].is_list() else _words_by(held[axis], valid, what)
    return Budget(
        name=name,
        says=held["says"].text(),
        seeds=held["seeds"].whole(),
        minutes=held["minutes"].number(above=0) if held.has("minutes") else None,
        set=_words(held["set"]),
        row_set=words["rows"],
        column_set=words["columns"],
        rows=kept["rows"],
        columns=kept["columns"],
        claims=_judged(held["claims"], claims) if held.has("claims") else None,
        line=part.line,
    )


def _judged(part: Part, claims: Collection[str]) -> tuple[str, ...]:
    """Return the claims that a budget judges; an empty list: none."""
    return part.all_among(claims, "claim") if part.items() else ()
