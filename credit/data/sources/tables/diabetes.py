"""Diabetes of scikit-learn: ten measurements of 442 patients, and how far the disease advanced in a year (Efron et al. 2004)."""

import gzip
from pathlib import Path

import numpy as np
import torch

from credit.core.config.schema import DataConfig
from credit.data.sources.files import Arrays, Whole, sklearn_folder
from credit.data.splits import stratified
from credit.data.storage import Rows

ROWS, FEATURES, TEST = 442, 10, 88
"""Rows, columns, and rows of the fixed test part (a fifth)."""


def look(cfg: DataConfig) -> Whole:
    """Return the set before limits and splits."""
    return Whole((FEATURES,), 1, ROWS - TEST, TEST, Rows(), task="regression")


def read(cfg: DataConfig) -> Arrays:
    """Return the raw measurements, float32 (442, 10), and the progression, float32 (442, 1), in a fixed 80/20 split."""
    folder = sklearn_folder() / "datasets" / "data"
    x = _table(folder / "diabetes_data_raw.csv.gz")
    y = _table(folder / "diabetes_target.csv.gz").view(-1, 1)
    test, train = stratified(torch.zeros(len(y), dtype=torch.int64), TEST, 0, "diabetes")
    return Arrays(x[train], y[train], x[test], y[test], ["progression"], Rows(), task="regression")


def _table(file: Path) -> torch.Tensor:
    with gzip.open(file, "rt") as stream:
        return torch.from_numpy(np.loadtxt(stream, dtype=np.float32))
