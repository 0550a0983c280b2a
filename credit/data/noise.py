"""Wrong labels: an exact number of training samples, drawn from a seed of their own; the clean labels are kept.

A kind is a function ``(labels, rate, classes, generator)``: int64 labels (N,), a copy; `rate` of `NoiseConfig`; the number of
classes; a torch generator from which all is drawn. It returns the noisy labels. Keyword-only arguments are options.

Only the training part is touched. Validation and test labels stay clean, so selection and scores mean what they say.

| kind | a chosen sample of class c gets | source |
|---|---|---|
| symmetric | another class, uniformly | uniform noise, the default reading of "random labels" |
| uniform | any class, uniformly; c again with probability 1/C | by which 40 % leaves 36 % wrong at C = 10 |
| pair_flip | c + 1 modulo C | Han et al. 2018 (co-teaching) |
| asymmetric | its look-alike in CIFAR-10 (`CIFAR10_PAIRS`); classes without one keep theirs | Patrini et al. 2017 |
"""

import torch
from torch import Generator, Tensor

from credit.core import registry
from credit.core.config.schema import NoiseConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.core.randomness import generator

CIFAR10_PAIRS = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog, in CIFAR-10's class numbers."""


def check_noise(noise: NoiseConfig, kind: str, classes: int) -> None:
    """Refuse noise that cannot be made on this set.

    Args:
        noise: what was asked for.
        kind: the data set's kind.
        classes: its number of classes.

    Raises:
        UserError: unknown kind, an option out of range, or a kind that means nothing on this set.
    """
    section_values("noise", noise)
    if noise.kind == "asymmetric" and kind != "cifar10":
        raise UserError(
            f"noise=asymmetric on data={kind}: its class pairs (truck -> automobile, cat <-> dog, ...) are CIFAR-10's. "
            "Use data=cifar10, or noise=pair_flip (class c -> c + 1), or noise=symmetric"
        )
    if noise.kind != "none" and classes < 2:
        raise UserError(f"noise={noise.kind} on data={kind}: one class only, there is no wrong label to give")


def add_noise(labels: Tensor, noise: NoiseConfig, classes: int, seed: int) -> Tensor:
    """Return a noisy copy of int64 (N,) labels; the package's kinds choose exactly round(rate * N) samples.

    Drawn on the CPU, so the same samples are wrong on every device. `seed` is the run's; `noise.seed` replaces it.

    Raises:
        UserError: a rate above 0 that chooses none, or a user's kind that returns no labels.
    """
    if noise.rate > 0 and round(noise.rate * len(labels)) == 0:
        raise UserError(
            f"noise.rate={noise.rate:g} of {len(labels)} training labels is {noise.rate * len(labels):.2g}, which rounds to none, "
            f"so no label would be wrong: write a rate above {0.5 / len(labels):.2g}, or noise=none"
        )
    kind = registry.find("noise", noise.kind, key="noise")
    draws = generator(seed if noise.seed is None else noise.seed, "noise")
    noisy = kind.call(labels.clone(), noise.rate, classes, draws, values=section_values("noise", noise))
    if not isinstance(noisy, Tensor) or noisy.shape != labels.shape or noisy.dtype != labels.dtype:
        found = f"{noisy.dtype} {tuple(noisy.shape)}" if isinstance(noisy, Tensor) else f"a {type(noisy).__name__}"
        raise UserError(f"noise={noise.kind} returned {found}; it must return labels, int64 ({len(labels)},)")
    if len(noisy) and not 0 <= int(noisy.min()) <= int(noisy.max()) < classes:
        raise UserError(
            f"noise={noise.kind} returned labels from {int(noisy.min())} to {int(noisy.max())}; the classes are 0 to {classes - 1}"
        )
    return noisy


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


def _chosen(labels: Tensor, rate: float, generator: Generator) -> Tensor:
    """Return the places of round(rate * N) labels, drawn without replacement."""
    return torch.randperm(len(labels), generator=generator)[: round(rate * len(labels))]
