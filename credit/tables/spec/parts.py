"""The parts of a table's file, each as its dataclass of `credit.tables.spec.schema`; every complaint names file and line."""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from credit.core import registry
from credit.core.config.schema import GROUPS
from credit.core.errors import UserError, nearest
from credit.tables.measures.measures import measure
from credit.tables.spec.nodes import Defaults, Part, fields_of
from credit.tables.spec.schema import (
    MOMENTS,
    Budget,
    Claim,
    Column,
    Contradiction,
    Costs,
    Diverged,
    Figure,
    Row,
    Setting,
    Tuning,
    Words,
)


def filled(part: Part) -> list[Part]:
    """Return a list's items, one or more."""
    part.texts()
    if not part.items():
        raise part.error(f"{part.what} is empty: name at least one")
    return part.items()


def named(part: Part) -> dict[str, Part]:
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


def words_of(part: Part) -> Words:
    """Return a list of settings."""
    return Words(*part.words())


def measure_of(part: Part) -> str:
    """Return the name of a measure that there is."""
    try:
        measure(part.text())
    except UserError as error:
        raise part.error(str(error)) from error
    return part.text()


def row_of(name: str, part: Part) -> Row:
    """Return a row."""
    held = fields_of(part, ("label", "x", "set", "base"))
    label = held["label"].text() if held.has("label") else name
    x = held["x"].number() if held.has("x") else None
    return Row(name, label, words_of(held["set"]), x, part.line, held["base"].text() if held.has("base") else "")


def column_of(name: str, part: Part, rows: dict[str, Row]) -> Column:
    """Return a column."""
    held = fields_of(part, ("label", "set", "rows", "why", "family", "runner", "options"))
    return Column(
        name=name,
        label=held["label"].text() if held.has("label") else name,
        set=words_of(held["set"]),
        rows=held["rows"].all_among(rows, "row"),
        runner=held["runner"].among(registry.names("runner"), "runner") if held.has("runner") else "train",
        options=held["options"].value() if held["options"].entries() else {},
        line=part.line,
        why=held["why"].text() if held.has("why") else "",
        family=held["family"].text() if held.has("family") else "",
    )


def repeat_of(key: str, part: Part) -> tuple[Any, ...]:
    """Return the values that repeats run through."""
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


def diverged_of(part: Part) -> Diverged:
    """Return what a diverged run counts as."""
    held = part.fields(("as", "why"), ("as", "why"))
    return Diverged(held["as"].number(), held["why"].text(), part.line)


def contradiction_of(part: Part) -> Contradiction:
    """Return what a paper says in two ways."""
    held = part.fields(("says", "but", "reading"), ("says", "but", "reading"))
    return Contradiction(held["says"].text(), held["but"].text(), held["reading"].text(), part.line)


def setting_of(part: Part) -> Setting:
    """Return a setting that a paper leaves out."""
    held = part.fields(("what", "reading", "why"), ("what", "reading", "why"))
    return Setting(held["what"].text(), held["reading"].text(), held["why"].text(), part.line)


def claim_of(part: Part, rows: dict[str, Row]) -> Claim:
    """Return a claim."""
    ways = ("compare", "grows", "falls")
    held = fields_of(part, ("name", "says", *ways, "at", "at_least", "tolerance", "measure", "of"), ("name", "says"))
    if sum(held.has(way) for way in ways) != 1:
        raise part.error(f"claim '{held['name'].text()}' needs exactly one of {', '.join(ways)}")
    return Claim(
        name=held["name"].text(),
        says=held["says"].text(),
        **{way: held[way].text() for way in ways if held.has(way)},
        at=held["at"].all_among(rows, "row"),
        at_least=held["at_least"].whole() if held.has("at_least") else None,
        tolerance=held["tolerance"].number(low=0) if held.has("tolerance") else 0.0,
        measure=measure_of(held["measure"]) if held.has("measure") else None,
        of=held["of"].among(MOMENTS, "word") if held.has("of") else MOMENTS[0],
        line=next(held[way].line for way in ways if held.has(way)),
    )


def figure_of(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> Figure:
    """Return a figure."""
    held = fields_of(part, ("kind", "title", "measure", "rows", "columns"), ("kind", "title"))
    return Figure(
        kind=held["kind"].among(registry.names("figure"), "kind of figure"),
        title=held["title"].text(),
        measure=_drawn(held) if held.has("measure") else None,
        rows=held["rows"].all_among(rows, "row"),
        columns=held["columns"].all_among(columns, "column"),
        line=part.line,
    )


def _drawn(held: Defaults) -> str:
    """Return a figure's measure; of a pruning curve and of layers it is one of a diagnostic's many numbers."""
    own = held["kind"].text() in ("pruning", "layer_curves", "layer_steps")
    return held["measure"].text() if own else measure_of(held["measure"])


def _words_by(part: Part, valid: Collection[str], what: str) -> dict[str, Words]:
    """Return settings by row or column; one that several patterns stand for has the words of all, in their order."""
    found: dict[str, Words] = {}
    for pattern, entry in part.entries().items():
        for name in entry.matches(pattern, valid, what):
            found[name] = found.get(name, Words()) + words_of(entry)
    return found


def tuning_of(part: Part, rows: dict[str, Row], whole: Tuning | None = None) -> Tuning | None:
    """Return what every cell may try; a budget's own keys go before those of the `whole` table."""
    if part.is_empty():
        return whole
    held = fields_of(part, ("set", "seeds", "like", "trials"), () if whole else ("set",))
    given: dict[str, Any] = {"line": part.line}
    if held.has("set"):
        given["candidates"] = tuple(words_of(item) for item in held["set"].items())
        if len(given["candidates"]) < 2:
            raise held["set"].error(
                f"{held['set'].what}: give two candidates or more, as [[optimizer.lr=0.1], [optimizer.lr=0.01]]"
            )
    if held.has("seeds"):
        given["seeds"] = held["seeds"].whole()
    if held.has("like"):
        given["like"] = _like(held["like"], rows)
    if held.has("trials"):
        given["trials"] = words_of(held["trials"])
    return replace(whole, **given) if whole else Tuning(**given)


def _like(part: Part, rows: dict[str, Row]) -> dict[str, str]:
    found = {}
    for row, entry in part.entries().items():
        if row not in rows:
            raise entry.error(f"{part.what}: unknown row '{row}': {nearest(row, rows)}")
        found[row] = entry.among(rows, "row")
    for row, of in found.items():
        if of in found:
            told = "itself" if of == row else f"row '{of}', which takes that of another"
            raise part.error(f"{part.what}: row '{row}' takes the choice of {told}: name a row that is tuned")
    return found


def costs_of(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> Costs:
    """Return what is timed beside the runs."""
    held = fields_of(part, ("against", "rows", "seconds"), ("against",))
    seconds = held["seconds"].number(above=0) if held.has("seconds") else None
    return Costs(held["against"].among(columns, "column"), held["rows"].all_among(rows, "row"), seconds, part.line)


def budget_of(
    name: str,
    part: Part,
    rows: dict[str, Row],
    columns: dict[str, Column],
    claims: Collection[str],
    tune: Tuning | None = None,
) -> Budget:
    """Return a budget; `tune` is what the whole table lets every cell try."""
    known = ("says", "seeds", "minutes", "set", "rows", "columns", "only", "claims", "tune", "without")
    held = fields_of(part, known, ("says", "seeds"))
    only = fields_of(held["only"], ("rows", "columns"))
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
        set=words_of(held["set"]),
        row_set=words["rows"],
        column_set=words["columns"],
        rows=kept["rows"],
        columns=kept["columns"],
        claims=_judged(held["claims"], claims) if held.has("claims") else None,
        line=part.line,
        tune=tuning_of(held["tune"], rows, tune),
        without=_without(held["without"], rows, columns),
    )


def _without(part: Part, rows: dict[str, Row], columns: dict[str, Column]) -> dict[tuple[str, str], str]:
    """Return the cells that a budget leaves out, and why: ``{column: {rows: [...], why: ...}}``."""
    found = {}
    for name, entry in part.entries().items():
        if name not in columns:
            raise entry.error(f"{part.what}: unknown column '{name}': {nearest(name, columns)}")
        held = fields_of(entry, ("rows", "why"), ("rows", "why"))
        for row in held["rows"].all_among(rows, "row"):
            if columns[name].rows and row not in columns[name].rows:
                raise held["rows"].error(f"{entry.what}: no cell {row}/{name}: column '{name}' does not have that row")
            found[row, name] = held["why"].text()
    return found


def _judged(part: Part, claims: Collection[str]) -> tuple[str, ...]:
    """Return the claims that a budget judges; an empty list: none."""
    return part.all_among(claims, "claim") if part.items() else ()
