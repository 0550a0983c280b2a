"""Noise that depends on the label alone: a share of the labels is chosen, or each is drawn by a transition matrix."""

from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from credit.core.config.data_files import noise_file, noise_paths
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.reading import reading
from credit.data.noise.part import Part
from credit.data.options import MatrixNoise

CIFAR10_PAIRS = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog, in CIFAR-10's class numbers."""
SUM_TOLERANCE = 1e-3
"""By which a row of a transition matrix may miss 1, as written decimals do; it is divided by its sum."""


def unchanged(labels: Tensor, rate: float, classes: int, generator: Generator) -> Tensor:
    """Return the labels."""
    return labels


def symmetric(labels: Tensor, rate: float, classes: int, generator: Generator) -> Tensor:
    """Return labels of which a share is another class, uniformly."""
    chosen = _chosen(labels, rate, generator)
    other = torch.randint(1, classes, (len(chosen),), generator=generator)
    return labels.index_copy(0, chosen, (labels[chosen] + other) % classes)


def uniform(labels: Tensor, rate: float, classes: int, generator: Generator) -> Tensor:
    """Return labels of which a share is drawn anew from all classes."""
    chosen = _chosen(labels, rate, generator)
    return labels.index_copy(0, chosen, torch.randint(classes, (len(chosen),), generator=generator))


def pair_flip(labels: Tensor, rate: float, classes: int, generator: Generator) -> Tensor:
    """Return labels of which a share is the next class."""
    chosen = _chosen(labels, rate, generator)
    return labels.index_copy(0, chosen, (labels[chosen] + 1) % classes)


def asymmetric(labels: Tensor, rate: float, classes: int, generator: Generator) -> Tensor:
    """Return labels of which a share is the look-alike class of `CIFAR10_PAIRS`."""
    chosen = _chosen(labels, rate, generator)
    table = torch.arange(classes)
    table[list(CIFAR10_PAIRS)] = torch.tensor(list(CIFAR10_PAIRS.values()))
    return labels.index_copy(0, chosen, table[labels[chosen]])


def matrix(labels: Tensor, rate: float, classes: int, generator: Generator, part: Part, options: MatrixNoise) -> Tensor:
    """Return labels each drawn from the row of its class in the matrix of ``noise.path``."""
    return drawn_from(read_matrix(options, part.cfg, classes)[labels], generator)


def drawn_from(probabilities: Tensor, generator: Generator) -> Tensor:
    """Return a class for each row of probabilities, float64 (N, C), from one uniform number each; int64 (N,)."""
    edges = probabilities.cumsum(1)
    edges = edges / edges[:, -1:]  # a draw below 1 is below the last edge
    draws = torch.rand(len(edges), 1, generator=generator, dtype=torch.float64)
    return torch.searchsorted(edges, draws, right=True)[:, 0]


def read_matrix(options: MatrixNoise, cfg: DataConfig, classes: int) -> Tensor:
    """Return the transition matrix, float64 (classes, classes): row c has the probabilities of what class c becomes.

    Raises:
        UserError: no path, no such file, another size, or rows that are no probabilities; or a matrix that changes no label.
    """
    if not options.path:
        raise UserError("noise=matrix does not say which one: write noise.path=T.npy or noise.path=T.csv")
    path = noise_file(options, cfg)
    given = f"noise=matrix noise.path={options.path}"
    if path is None:
        raise UserError(f"{given}: there is no file at {' or '.join(map(str, noise_paths(options, cfg)))}")
    found = _numbers(path, given)
    if found.shape != (classes, classes):
        raise UserError(
            f"{given}: has shape {found.shape}; data={cfg.kind} has {classes} classes, so it must be ({classes}, {classes}), row "
            "c the probabilities of what class c becomes"
        )
    for row, values in enumerate(found):
        if not (np.isfinite(values).all() and (values >= 0).all() and abs(values.sum() - 1) <= SUM_TOLERANCE):
            transposed = np.abs(found.sum(0) - 1).max() <= SUM_TOLERANCE
            raise UserError(
                f"{given}: row {row}, of class {row}, has the sum {values.sum():.6g} and the smallest value {values.min():.6g}; "
                f"each row must be probabilities that sum to 1{' (its columns do: transpose it)' if transposed else ''}"
            )
    if np.array_equal(found, np.eye(classes)):
        raise UserError(f"{given}: is the identity, by which no label would be wrong; write noise=none")
    return torch.from_numpy(found / found.sum(1, keepdims=True))


def _numbers(path: Path, given: str) -> np.ndarray:
    remedy = "write one row a line, commas between the numbers and no header, or np.save('T.npy', T)"
    with reading(path, "a matrix of numbers", remedy):
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        if path.suffix == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
    raise UserError(f"{given}: is read from .npy or .csv files, not from '{path.suffix or path.name}'")


def _chosen(labels: Tensor, rate: float, generator: Generator) -> Tensor:
    """Return the places of round(rate * N) labels, drawn without replacement."""
    return torch.randperm(len(labels), generator=generator)[: round(rate * len(labels))]
