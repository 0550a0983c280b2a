"""Settings of a cell, merged from the table's layers, and the setting that makes a run impossible."""

import re
from collections.abc import Callable, Iterable, Sequence

from credit.core.config.compose import compose
from credit.core.config.folders import OVERLAYS
from credit.core.config.overrides import rewrite
from credit.core.config.schema import GROUPS, RunConfig
from credit.core.config.sources import NUMBER
from credit.core.errors import UserError
from credit.tables.spec.consistency import OWN_KEYS
from credit.tables.spec.nodes import refusal
from credit.tables.spec.schema import NO_WORDS, Budget, Spec, Words

_LENGTHS = {"trainer.epochs": "trainer.steps", "trainer.steps": "trainer.epochs"}


def cell_words(
    spec: Spec, budget: Budget, row: str, column: str, words: Sequence[str] = (), tuned: Words = NO_WORDS
) -> Words:
    """Return the settings of a cell, each option once.

    Args:
        spec, budget, row, column: the table, its budget and the cell.
        words: settings of the command line, stronger than all others; their line is 0.
        tuned: settings of a candidate, stronger than the table's.
    """
    layers = (
        spec.common,
        spec.rows[row].set,
        spec.columns[column].set,
        spec.cells.get((row, column), NO_WORDS),
        budget.set,
        budget.settings("rows").get(row, NO_WORDS),
        budget.settings("columns").get(column, NO_WORDS),
        tuned,
        Words(tuple(words), (0,) * len(words)),
    )
    return settle(sum(layers, NO_WORDS))


def settle(words: Words) -> Words:
    """Return settings without those that a later one replaces: one of the same key, or of a key inside it.

    A choice such as ``optimizer=adam`` keeps ``optimizer.lr=0.1``. A run has one length, so of ``trainer.epochs`` and
    ``trainer.steps`` the later counts; ``noise=0.4`` is a rate too.
    """
    kept: dict[str, tuple[str, int]] = {}
    for word, line in zip(words.words, words.lines, strict=True):
        key, value = split(word)
        replaced = {key, _LENGTHS.get(key, key)} if value != "null" else {key}
        if key == "noise" and NUMBER.fullmatch(value):
            replaced.add("noise.rate")
        inside = f"{key}." if "." in key else "none inside"
        kept = {old: entry for old, entry in kept.items() if old not in replaced and not old.startswith(inside)}
        kept[key] = (word, line)
    return Words(tuple(word for word, _ in kept.values()), tuple(line for _, line in kept.values()))


def split(word: str) -> tuple[str, str]:
    """Return the key of a setting, without Hydra's plus signs, and its value."""
    key, _, value = word.partition("=")
    return key.lstrip("+"), value


def check_user_words(spec: Spec, words: Sequence[str]) -> None:
    """Refuse settings of the command line that a table does not accept.

    Raises:
        UserError: a setting is no ``key=value``, is given twice, or is repeated over by the table.
    """
    for word in words:
        if not re.fullmatch(r"\+{0,2}[A-Za-z_][\w./@-]*=.*", word, re.DOTALL):
            raise UserError(f"cannot read '{word}': settings are written key=value, for example trainer.epochs=3")
        key = split(word)[0]
        if key in OWN_KEYS:
            raise UserError(f"{word}: {OWN_KEYS[key]}")
        if key in spec.repeat:
            values = ", ".join(map(str, spec.repeat[key]))
            raise UserError(f"{word}: the repeats of {spec.name} run through {key} ({values}); leave it out")
    rewrite(words)


def check_choices(spec: Spec, cells: dict[tuple[str, str], Words], words: Sequence[str]) -> None:
    """Refuse settings that make cells equal which differ in a choice, such as ``noise=0.2`` for a table of noise rates.

    Args:
        spec: the table.
        cells: settings of each cell without `words`.
        words: settings of the command line.

    Raises:
        UserError: the choice of each row, column or cell.
    """
    for word in words:
        key = split(word)[0]
        if key not in (*GROUPS, *OVERLAYS):
            continue
        made = {
            cell: next((value for k, value in map(split, held.words) if k == key), "") for cell, held in cells.items()
        }
        if len(set(made.values())) > 1:
            raise UserError(
                f"{word}: {spec.name} compares different ones ({_by_axis(made)}), and all would be the same; "
                f"leave it out, or train a single cell with credit-train"
            )


def _by_axis(made: dict[tuple[str, str], str]) -> str:
    """Return a choice as a text by row if columns agree, by column if rows agree, else by cell."""
    for axis, name in ((0, "row"), (1, "column")):
        values: dict[str, set[str]] = {}
        for cell, value in made.items():
            values.setdefault(cell[axis], set()).add(value)
        if all(len(found) == 1 for found in values.values()):
            listed = ((key, found.pop()) for key, found in values.items())
            return ", ".join(f"{name} {key}: {value or 'the default'}" for key, value in listed)
    return ", ".join(f"{row}/{column}: {value or 'the default'}" for (row, column), value in made.items())


def blame(
    spec: Spec,
    cell: str,
    words: Words,
    error: UserError,
    fails: Callable[[RunConfig], None] = lambda config: None,
) -> UserError:
    """Return an error about a cell's run that names the setting that causes it, with file and line.

    Settings are added one by one until the run fails with the same error as with all of them. (A shorter list may fail for another
    reason: a choice whose option comes later.)

    Args:
        spec: the table.
        cell: ``row/column``, for the message.
        words: the cell's settings.
        error: the error of the run with all of them.
        fails: a function that raises `UserError` for a run that composes but cannot be made, such as `credit.training.prepare`.
    """
    for count, (word, line) in enumerate(zip(words.words, words.lines, strict=True), start=1):
        if _complaint(words.words[:count], fails) != str(error):
            continue
        said = f"{word}, in cell {cell}{'' if line else f' of {spec.name}'}: {error}"
        return refusal(spec.file, line, said) if line else UserError(said)
    return UserError(f"cell {cell} of {spec.name}: {error}")


def _complaint(words: Iterable[str], fails: Callable[[RunConfig], None]) -> str | None:
    try:
        fails(compose(list(words)))
    except UserError as error:
        return str(error)
    return None
