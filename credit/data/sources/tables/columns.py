"""The columns of a CSV file, as text, and what each of them is: numbers, categories, or the class."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.errors import UserError, nearest
from credit.core.reading import reading
from credit.data.options import CsvData
from credit.data.sources.files import some

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
MANY_CLASSES = 20
"""Different values of a target from which it is asked whether these are classes at all."""


@dataclass(frozen=True)
class Columns:
    """A table of N rows, those of a test file last.

    Attributes:
        numbers: by name, float64 (N,); NaN where missing.
        categories: by name, text (N,); None where missing.
        y: int64 (N,), classes counted from 0; or float32 (N, K), the numbers of the target columns.
        names: of the classes, sorted: as numbers where all are; or of the target columns.
        test_rows: how many rows are those of the test file; 0: there is none.
        task: ``classification`` or ``regression``.
    """

    numbers: dict[str, np.ndarray]
    categories: dict[str, np.ndarray]
    y: Tensor
    names: list[str]
    test_rows: int
    task: str = "classification"

    def row(self, place: int) -> str:
        """Return the row number at a place, counted from 1 below the header, and the file if it is the test file."""
        first = len(self.y) - self.test_rows
        return f"row {place + 1}" if place < first else f"row {place - first + 1} of the test file"


def read_columns(path: Path, test_path: Path | None, cfg: CsvData) -> Columns:
    """Return the columns of a file, and of a test file with the same columns.

    Raises:
        UserError: a file that is no table, a target that is missing, has gaps or is no class, a single class, a column with text
            and numbers, one that identifies its rows, or names in the options that are no columns.
    """
    files = [path] if test_path is None else [path, test_path]
    tables = [_cells(file, SEPARATORS[cfg.separator]) for file in files]
    _check_names(path, list(tables[0]), cfg)
    if test_path is not None:
        _check_same(path, test_path, list(tables[0]), list(tables[1]))
    text = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    gaps = {"", *cfg.missing_as}
    missing = {name: np.array([cell in gaps for cell in cells]) for name, cells in text.items()}
    targets = target_columns(cfg)
    if cfg.task == "regression":
        y = torch.stack([_target(path, name, text.pop(name), missing[name]) for name in targets], 1)
        names = targets
    else:
        y, names = _classes(path, targets[0], text.pop(targets[0]), missing[targets[0]])
    numbers, categories = {}, {}
    for name, values in text.items():
        if name in cfg.drop:
            continue
        found = None if name in cfg.categorical else _numbers(path, name, values, missing[name])
        if found is None:
            categories[name] = values.copy()
            categories[name][missing[name]] = None
            _refuse_identifiers(path, name, values[~missing[name]], name in cfg.categorical)
        else:
            numbers[name] = found
    if not numbers and not categories:
        raise UserError(
            f"{path}: has no column but the target '{', '.join(targets)}'{' that is not in data.drop' * bool(cfg.drop)}"
        )
    task = "regression" if cfg.task == "regression" else "classification"
    return Columns(numbers, categories, y, names, len(tables[1][targets[0]]) if test_path is not None else 0, task)


def target_columns(cfg: CsvData) -> list[str]:
    """Return the names of the target columns; none where none is given."""
    if cfg.target is None:
        return []
    return [cfg.target] if isinstance(cfg.target, str) else list(cfg.target)


def _cells(path: Path, separator: str) -> dict[str, np.ndarray]:
    """Return a file's columns as text by name, without blanks around it."""
    with (
        reading(path, "a table of text in UTF-8", "save it as CSV in UTF-8"),
        path.open(newline="", encoding="utf-8-sig") as stream,
    ):
        reader = csv.reader(stream, delimiter=separator, strict=True)
        header = [name.strip() for name in next(reader, [])]
        rows = []
        for cells in reader:
            if len(cells) not in (0, len(header)):
                raise UserError(
                    f"{path}: line {reader.line_num} has {len(cells)} cells, the header {len(header)}; put a cell with a "
                    f"{separator!r} in it in quotes"
                )
            rows += [cells] if cells else []
    if "" in header:
        raise UserError(
            f"{path}: column {header.index('') + 1} has no name in the header. If it is the index that pandas writes, save it "
            "with index=False; else name it"
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise UserError(f"{path}: two columns are named '{twice[0]}'; rename one")
    if not rows:
        raise UserError(
            f"{path}: has no row below its header; the first line has the columns' names, every other is an example"
        )
    columns = zip(*rows, strict=True)
    return {
        name: np.array([cell.strip() for cell in cells], object) for name, cells in zip(header, columns, strict=True)
    }


def _check_names(path: Path, found: Sequence[str], cfg: CsvData) -> None:
    """Refuse names in the options that are no columns."""
    targets = target_columns(cfg)
    if not targets:
        raise UserError(
            f"data=csv: does not say which column is the class; write data.target=..., one of {', '.join(found)}"
        )
    if len(targets) > 1 and cfg.task != "regression":
        raise UserError(
            f"data.target=[{','.join(targets)}]: one column is the class; give one, or write data.task=regression for numbers"
        )
    for target in targets:
        if target not in found:
            alone = (
                "" if len(found) > 1 else f" (its one column is '{found[0]}': is data.separator={cfg.separator} right?)"
            )
            raise UserError(f"data.target={target}: {path} has no such column; {nearest(target, found)}{alone}")
    for option in ("drop", "categorical"):
        for name in getattr(cfg, option):
            if name not in found:
                raise UserError(f"data.{option}: {path} has no column '{name}'; {nearest(name, found)}")
            if name in targets:
                raise UserError(f"data.{option}: '{name}' is the target; leave it out of data.{option}")
    if both := set(cfg.drop) & set(cfg.categorical):
        raise UserError(f"data.drop and data.categorical both name '{min(both)}': keep one")


def _check_same(path: Path, test_path: Path, train: Sequence[str], test: Sequence[str]) -> None:
    for one, other, lacking in (
        (test_path, path, [name for name in train if name not in test]),
        (path, test_path, [name for name in test if name not in train]),
    ):
        if lacking:
            raise UserError(
                f"{one}: has no {some(lacking, 'column', 'columns')}, which {other} has; both need the same columns"
            )


def _classes(path: Path, target: str, values: np.ndarray, missing: np.ndarray) -> tuple[Tensor, list[str]]:
    """Return labels int64 (N,) and the names of the classes, sorted."""
    if missing.any():
        raise UserError(
            f"{path}: the target '{target}' is missing in {int(missing.sum())} rows, row {int(missing.argmax()) + 1} the first; "
            "take them out, or remove its marker from data.missing_as if it is a class"
        )
    numbers = _as_numbers(values)
    if numbers is None:
        found, y = np.unique(values.astype(str), return_inverse=True)
        names = [str(name) for name in found]
    else:
        found, y = np.unique(numbers, return_inverse=True)
        names = [str(int(value)) if value == int(value) else str(value) for value in found.tolist()]
    if len(names) < 2:
        raise UserError(
            f"{path}: every value of the target '{target}' is {names[0]}, and a classifier needs two or more classes"
        )
    fractions = numbers is not None and bool((found != np.floor(found)).any())
    if len(names) > MANY_CLASSES and (fractions or 2 * len(names) > len(values)):
        raise UserError(
            f"{path}: the target '{target}' has {len(names)} different values in {len(values)} rows"
            f"{', with fractions' * fractions}: these are no classes; write data.task=regression to predict numbers, or give the "
            "column that says the class, or write the classes as names"
        )
    return torch.from_numpy(y.astype(np.int64)), names


def _target(path: Path, name: str, values: np.ndarray, missing: np.ndarray) -> Tensor:
    """Return a target of a regression, float32 (N,)."""
    if missing.any():
        raise UserError(
            f"{path}: the target '{name}' is missing in {int(missing.sum())} rows, row {int(missing.argmax()) + 1} the first; "
            "take them out"
        )
    numbers = _as_numbers(values)
    if numbers is None:
        text = next(value for value in values if _as_numbers(np.array([value])) is None)
        raise UserError(
            f"{path}: the target '{name}' has text ('{text}'), and data.task=regression predicts numbers; give another column, or "
            "write data.task=classification"
        )
    return torch.from_numpy(numbers.astype(np.float32))


def _numbers(path: Path, name: str, values: np.ndarray, missing: np.ndarray) -> np.ndarray | None:
    """Return a column as numbers, NaN where missing; None where it is text.

    Raises:
        UserError: text among numbers, or a number that is not finite.
    """
    found = np.full(len(values), np.nan)
    parsed = [_number(value) for value in values[~missing]]
    text = [place for place, value in enumerate(parsed) if value is None]
    if len(text) > len(parsed) / 2 or not parsed:
        return None if parsed else found
    rows = np.flatnonzero(~missing)
    if text:
        first = rows[text[0]]
        raise UserError(
            f"{path}: column '{name}' has numbers, but text in {some([str(rows[place] + 1) for place in text], 'row', 'rows')}, "
            f"'{values[first]}' first. If it stands for a missing value, write data.missing_as=['{values[first]}']; if all values "
            f"are names, data.categorical=[{name}]"
        )
    found[rows] = parsed
    infinite = np.isinf(found)
    if infinite.any():
        raise UserError(
            f"{path}: column '{name}' is not finite in row {int(infinite.argmax()) + 1}; replace it or take the row out"
        )
    return found


def _as_numbers(values: np.ndarray) -> np.ndarray | None:
    parsed = [_number(value) for value in values]
    finite = np.array([np.nan if value is None else value for value in parsed])
    return finite if np.isfinite(finite).all() else None


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _refuse_identifiers(path: Path, name: str, values: np.ndarray, asked: bool) -> None:
    """Refuse text that has another value in most rows, unless the user named its column."""
    different = len(set(values))
    if not asked and different > MANY_CLASSES and 2 * different > len(values):
        raise UserError(
            f"{path}: column '{name}' is text with {different} different values in {len(values)} rows, each to be an input "
            f"of the network. If it names the rows, write data.drop=[{name}]; if it is meant, data.categorical=[{name}]"
        )
