"""Mixup and cutmix: pairs of a batch's examples mixed, and their labels in the same shares.

A step has one share, from Beta(alpha, alpha), and one permutation of the batch. Both are drawn on the CPU from
``generator(seed, "mix", step)``, so that they are the same on every device.
Sources: Zhang et al. 2018 (mixup); Yun et al. 2019 (cutmix, supplement, algorithm 1).
"""

import math

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.randomness import generator


def mixes(cfg: DataConfig) -> list[str]:
    """Return which of mixup and cutmix a run uses, as ``data.mixup=0.2``."""
    return [f"data.{name}={alpha:g}" for name in ("mixup", "cutmix") if (alpha := getattr(cfg, name)) is not None]


def task_of_steps(cfg: DataConfig, task: str, shape: tuple[int, ...]) -> str:
    """Return the task of a run's training steps: the data's, or ``mixtures`` where labels are mixed.

    Args:
        cfg: the data options.
        task: of the data.
        shape: of an example.

    Raises:
        UserError: examples or targets that cannot be mixed, or a probability without anything to mix.
    """
    words = mixes(cfg)
    if not words:
        if cfg.mix_probability != DataConfig().mix_probability:
            raise UserError(
                f"data.mix_probability={cfg.mix_probability:g} would change nothing: nothing is mixed; write data.mixup=0.2, "
                "or leave it out"
            )
        return task
    if task != "classification":
        raise UserError(f"{words[0]} mixes class labels, and the task is {task}; leave it out")
    if cfg.cutmix is not None and len(shape) != 3:
        raise UserError(
            f"data.cutmix={cfg.cutmix:g} pastes a rectangle of another image, and the examples of data={cfg.kind} have the shape "
            f"{shape}; write data.mixup={cfg.cutmix:g}"
        )
    return "mixtures"


def mixed(cfg: DataConfig, x: Tensor, y: Tensor, classes: int, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return a step's batch with its examples mixed in pairs.

    Where both mixup and cutmix are asked for, a step uses one of them, each with probability 1/2.

    Args:
        cfg: the data options, with ``mixup``, ``cutmix`` or both.
        x: inputs (B, ...), floating point; changed in place by cutmix.
        y: labels, int64 (B,).
        classes: number of classes C.
        seed, step: of the run.

    Returns:
        Inputs shaped like x, and shares of classes (B, C) of x's type.
    """
    source = generator(seed, "mix", step)
    chance, choice, share, *centre = torch.rand(5, generator=source, dtype=torch.float64).tolist()
    partner = torch.randperm(len(x), generator=source).to(x.device, non_blocking=True)
    shares = F.one_hot(y, classes).to(x.dtype)
    if chance >= cfg.mix_probability:
        return x, shares
    cuts = cfg.mixup is None or (cfg.cutmix is not None and choice < 0.5)
    alpha = cfg.cutmix if cuts else cfg.mixup
    kept = float(betaincinv(alpha, alpha, share))
    if cuts:
        rows, columns = (_side(size, kept, at) for size, at in zip(x.shape[-2:], centre, strict=True))
        x[:, :, rows, columns] = x[partner][:, :, rows, columns]
        kept = 1 - len(range(*rows.indices(x.shape[-2]))) * len(range(*columns.indices(x.shape[-1]))) / math.prod(
            x.shape[-2:]
        )
    else:
        x = torch.lerp(x[partner], x, kept)
    return x, torch.lerp(shares[partner], shares, kept)


def _side(size: int, kept: float, uniform: float) -> slice:
    """Return the pixels of one side of a rectangle: ``sqrt(1 - kept)`` of the image's, around any pixel, cut off at the border."""
    length, middle = int(size * math.sqrt(1 - kept)), int(size * uniform)
    return slice(max(0, middle - length // 2), min(size, middle + length // 2))
