"""Wrong labels: an exact number of training samples, drawn from a seed of their own; the clean labels are kept.

Only the training part is touched. Validation and test labels stay clean, so selection and scores mean what they say.

| kind | a chosen sample of class c gets | source |
|---|---|---|
| symmetric | another class, uniformly | uniform noise, the default reading of "random labels" |
| redraw | any class, uniformly; c again with probability 1/C | by which 40 % leaves 36 % wrong at C = 10 |
| pair_flip | c + 1 modulo C | Han et al. 2018 (co-teaching) |
| asymmetric | its look-alike in CIFAR-10 (`CIFAR10_PAIRS`); classes without one keep theirs | Patrini et al. 2017 |
"""

import math

import torch
from torch import Tensor

from credit.core.config.schema import CHOICES, NoiseConfig
from credit.core.errors import UserError, nearest
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
        UserError: unknown kind, a rate outside [0, 1), a rate without a kind, or a kind that means nothing on this set.
    """
    if noise.kind not in CHOICES["noise.kind"]:
        raise UserError(f"noise.kind={noise.kind}: unknown; {nearest(noise.kind, CHOICES['noise.kind'])}")
    if not (math.isfinite(noise.rate) and 0 <= noise.rate < 1):
        raise UserError(
            f"noise.rate={noise.rate}: must lie in [0, 1): a fraction of the labels; 40 % is noise.rate=0.4"
        )
    if noise.kind == "none" and noise.rate > 0:
        raise UserError(f"noise.kind=none with noise.rate={noise.rate}: write noise.kind=symmetric, or rate 0")
    if noise.kind == "asymmetric" and kind != "cifar10":
        raise UserError(
            f"noise=asymmetric on data={kind}: its class pairs (truck -> automobile, cat <-> dog, ...) are CIFAR-10's. "
            "Use data=cifar10, or noise=pair_flip (class c -> c + 1), or noise=symmetric"
        )
    if noise.kind != "none" and classes < 2:
        raise UserError(f"noise={noise.kind} on data={kind}: one class only, there is no wrong label to give")


def add_noise(labels: Tensor, noise: NoiseConfig, classes: int, seed: int) -> Tensor:
    """Return a noisy copy of int64 (N,) labels; exactly round(rate * N) samples are chosen.

    Drawn on the CPU, so the same samples are wrong on every device. `seed` is the run's; `noise.seed` replaces it.

    Raises:
        UserError: a rate above 0 that chooses none.
    """
    noisy = labels.clone()
    count = round(noise.rate * len(labels))
    if noise.kind == "none" or noise.rate == 0:
        return noisy
    if count == 0:
        raise UserError(
            f"noise.rate={noise.rate:g} of {len(labels)} training labels is {noise.rate * len(labels):.2g}, which rounds to none, "
            f"so no label would be wrong: write a rate above {0.5 / len(labels):.2g}, or noise=none"
        )
    source = generator(seed if noise.seed is None else noise.seed, "noise")
    chosen = torch.randperm(len(labels), generator=source)[:count]
    clean = labels[chosen]
    if noise.kind == "symmetric":
        noisy[chosen] = (clean + torch.randint(1, classes, (count,), generator=source)) % classes
    elif noise.kind == "redraw":
        noisy[chosen] = torch.randint(classes, (count,), generator=source)
    elif noise.kind == "pair_flip":
        noisy[chosen] = (clean + 1) % classes
    else:
        table = torch.arange(classes)
        table[list(CIFAR10_PAIRS)] = torch.tensor(list(CIFAR10_PAIRS.values()))
        noisy[chosen] = table[clean]
    return noisy
