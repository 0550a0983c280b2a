"""CSV files of one's own: numeric columns as they are, one column for each category of the others, the class by name.

What is learned from the data is learned from the training part alone: the categories, the values that stand for missing ones, and
the scaling (`credit.data.normalize`, of the numeric columns; a category's column stays 0 or 1). Inputs are the numeric columns in
the file's order, then the categories of each other column, sorted.

Without ``data.test_path`` a stratified fifth of the rows, drawn by the split seed, is the test part.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.config.data_files import csv_paths, own_paths
from credit.core.config.schema import DataConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.data.options import CsvData
from credit.data.parts import part_places, part_sizes
from credit.data.sources.files import Arrays, Whole, some
from credit.data.sources.tables.columns import MANY_CLASSES, Columns, read_columns
from credit.data.splits import stratified
from credit.data.storage import Rows

TEST_SHARE = 0.2
"""Share of the test part, where no file gives it."""

_held: dict[str, Columns] = {}
"""The last table that was read, by its files and the options of its columns."""


@dataclass(frozen=True)
class Fitted:
    """What the training part of a table shows.

    Attributes:
        instead: by column, the value that stands for missing ones.
        categories: by column, sorted.
    """

    instead: dict[str, float | str]
    categories: dict[str, list[str]]

    @property
    def width(self) -> int:
        """Number of inputs that the categories take."""
        return sum(map(len, self.categories.values()))

    def encode(self, table: Columns) -> Tensor:
        """Return the rows, float32 (N, F)."""
        columns = []
        for name, values in table.numbers.items():
            columns.append(np.where(np.isnan(values), self.instead.get(name, np.nan), values))
        for name, held in self.categories.items():
            filled = _filled(table.categories[name], self.instead.get(name))
            columns += [filled == category for category in held]
        return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def look(cfg: DataConfig) -> Whole:
    """Return the number of inputs, the classes and the sizes of the parts. The file is read for it.

    Raises:
        UserError: a missing file, columns that do not fit (`columns.read_columns`), missing values without ``data.missing``, or
            categories that the training part has not.
    """
    options, table = _table(cfg)
    train, test = _halves(options, table)
    whole = Whole((1,), len(table.names), len(train), len(test), task=table.task)
    part_sizes(options, whole)  # refuses splits that cannot be
    if options.split_seed is None and table.categories and options.unseen == "zero":
        raise UserError(
            "data.split_seed=null with data.unseen=zero: each seed's training part has categories of its own, and the networks of "
            "a run's seeds have one number of inputs; write data.split_seed=0, or data.unseen=refuse"
        )
    fitted = _fit(options, table, train, test)[0]
    width = len(table.numbers) + fitted.width
    return Whole((width,), len(table.names), len(train), len(test), Rows(len(table.numbers)), task=table.task)


def read(cfg: DataConfig) -> Arrays:
    """Return the table of ``data.split_seed``'s training part.

    Raises:
        UserError: as `look`.
    """
    options, table = _table(cfg)
    train, test = _halves(options, table)
    fitted, notes = _fit(options, table, train, test)
    x = fitted.encode(table)
    y, storage = table.y, Rows(len(table.numbers))
    return Arrays(x[train], y[train], x[test], y[test], table.names, storage, notes=notes, task=table.task)


def _table(cfg: DataConfig) -> tuple[CsvData, Columns]:
    options = CsvData(**section_values("data", cfg))
    if not options.path:
        raise UserError("data=csv: does not say which one; give the file: data.path=...")
    found: list[Path | None] = []
    for option, places in (("path", own_paths(options)), ("test_path", csv_paths(options))):
        file = next((place for place in places if place.is_file()), None)
        if places and file is None:
            looked = " or ".join(map(str, places))
            raise UserError(f"data=csv data.{option}={getattr(options, option)}: there is no file at {looked}")
        found.append(file)
    assert found[0] is not None
    read_by = [getattr(options, name) for name in ("target", "task", "separator", "drop", "categorical", "missing_as")]
    key = repr((read_by, [(file, file.stat().st_mtime_ns) for file in found if file is not None]))
    if key not in _held:
        _held.clear()
        _held[key] = read_columns(found[0], found[1], options)
    return options, _held[key]


def _halves(cfg: CsvData, table: Columns) -> tuple[Tensor, Tensor]:
    """Return the places of the rows for training, the validation part included, and for testing."""
    if table.test_rows:
        training, testing = torch.arange(len(table.y)).tensor_split([len(table.y) - table.test_rows])
        return training, testing
    if round(TEST_SHARE * len(table.y)) < 1:
        raise UserError(
            f"data=csv data.path={cfg.path}: has {len(table.y)} rows; a fifth is the test part, so it needs 3 or more"
        )
    labels = table.y if table.task == "classification" else torch.zeros(len(table.y), dtype=torch.int64)
    test, train = stratified(labels, round(TEST_SHARE * len(table.y)), cfg.split_seed or 0, "csv_test")
    return train, test


def _fit(cfg: CsvData, table: Columns, train: Tensor, test: Tensor) -> tuple[Fitted, list[str]]:
    """Return what the training part shows, and notes; where the seeds of runs split, what the whole table shows.

    Raises:
        UserError: missing values without ``data.missing``, or categories that are in another part alone.
    """
    order = torch.cat([train, test])
    seeded = CsvData(**{**section_values("data", cfg), "split_seed": cfg.split_seed or 0})
    empty = torch.empty(0)
    parts = part_places(seeded, Arrays(empty, table.y[train], empty, table.y[test], table.names, task=table.task))
    seen, others = order[parts[0]].numpy(), order[torch.cat(parts[1:])].numpy()
    if cfg.split_seed is None:  # shapes only: each seed's own part is looked at when it is read
        seen, others = order.numpy(), order.numpy()[:0]
    instead = _instead(cfg, table, seen)
    categories = {}
    for name, values in table.categories.items():
        filled = _filled(values, instead.get(name))
        held = set(filled[seen])
        categories[name] = sorted(held)
        unseen = [place for place in others if filled[place] not in held]
        if unseen and cfg.unseen == "refuse":
            raise UserError(
                f"column '{name}': '{filled[unseen[0]]}' ({table.row(unseen[0])}) is in the validation or test part, but not in "
                "the training part, of which the categories are. Write data.unseen=zero (0 for all of the column's categories), or "
                f"data.drop=[{name}]"
            )
    constant = [name for name, values in table.numbers.items() if len(np.unique(_known(values[seen]))) < 2]
    constant += [name for name, held in categories.items() if len(held) < 2]
    numbering = [name for name, values in table.numbers.items() if _numbers_rows(values)]
    notes = [
        f"{said}: {some(names, 'column', 'columns')}"
        for said, names in (
            ("constant over the training part, and so without information", constant),
            ("numbers the rows, which a network may learn by heart (data.drop)", numbering),
        )
        if names
    ]
    return Fitted(instead, categories), notes


def _instead(cfg: CsvData, table: Columns, seen: np.ndarray) -> dict[str, float | str]:
    """Return by column the value that stands for missing ones; of numbers the median or the most frequent, else the latter."""
    lacking = {name: np.isnan(values) for name, values in table.numbers.items()}
    lacking |= {name: np.array([value is None for value in values]) for name, values in table.categories.items()}
    lacking = {name: gaps for name, gaps in lacking.items() if gaps.any()}
    if lacking and cfg.missing == "refuse":
        name, gaps = next(iter(lacking.items()))
        raise UserError(
            f"missing values in {some(list(lacking), 'column', 'columns')}: '{name}' has {int(gaps.sum())} of {len(gaps)}, "
            f"{table.row(int(gaps.argmax()))} the first. Missing is an empty cell, or one of data.missing_as. Write "
            "data.missing=median (or most_frequent: of the training part), or take the rows or columns out"
        )
    instead: dict[str, float | str] = {}
    for name, gaps in lacking.items():
        values = (table.numbers if name in table.numbers else table.categories)[name][seen]
        values = values[~gaps[seen]]
        if not len(values):
            raise UserError(
                f"column '{name}' has no value in the training part, so none can stand for it; write data.drop=[{name}]"
            )
        if name in table.numbers and cfg.missing == "median":
            instead[name] = float(np.median(values))
        else:
            found, counts = np.unique(values if name in table.numbers else values.astype(str), return_counts=True)
            instead[name] = found[counts.argmax()].item()
    return instead


def _numbers_rows(values: np.ndarray) -> bool:
    """Return whether the values are consecutive whole numbers, in any order, each once."""
    ordered = np.sort(values)
    return len(values) > MANY_CLASSES and bool((np.diff(ordered) == 1).all() and ordered[0] == np.floor(ordered[0]))


def _filled(values: np.ndarray, instead: float | str | None) -> np.ndarray:
    return np.array([instead if value is None else value for value in values], dtype=object)


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]
