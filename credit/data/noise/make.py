"""Check and make label noise of any kind."""

from collections.abc import Callable, Mapping
from inspect import signature

from torch import Tensor

from credit.core import registry
from credit.core.config.schema import RATELESS, DataConfig, NoiseConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.noise import drawn, human, instance
from credit.data.noise.part import Part
from credit.data.options import MatrixNoise
from credit.data.sources.files import Whole

EACH = (*RATELESS, "instance")
"""Kinds that draw for every label, so that no number of them is chosen."""


def check_noise(noise: NoiseConfig, cfg: DataConfig, whole: Whole) -> None:
    """Refuse noise that cannot be made on this set.

    Args:
        noise: what was asked for.
        cfg: the data set's options.
        whole: the data set.

    Raises:
        UserError: unknown kind, an option out of range, or a kind that means nothing on this set.
    """
    section_values("noise", noise)
    if noise.kind != "none" and whole.outputs < 2:
        raise UserError(f"noise={noise.kind} on data={cfg.kind}: one class only, there is no wrong label to give")
    if noise.kind in _CHECKS:
        _CHECKS[noise.kind](noise, cfg, whole)


def _check_pairs(noise: NoiseConfig, cfg: DataConfig, whole: Whole) -> None:
    if cfg.kind != "cifar10":
        raise UserError(
            f"noise=asymmetric on data={cfg.kind}: its class pairs (truck -> automobile, cat <-> dog, ...) are CIFAR-10's. "
            "Use data=cifar10, or noise=pair_flip (class c -> c + 1), or noise=symmetric"
        )


def _check_matrix(noise: NoiseConfig, cfg: DataConfig, whole: Whole) -> None:
    drawn.read_matrix(MatrixNoise(noise.kind, path=getattr(noise, "path", None)), cfg, whole.outputs)


_CHECKS: Mapping[str, Callable[[NoiseConfig, DataConfig, Whole], None]] = {
    "asymmetric": _check_pairs,
    "matrix": _check_matrix,
    "instance": instance.check,
    "human": human.check,
}


def add_noise(
    labels: Tensor, noise: NoiseConfig, classes: int, seed: int, part: Part | None = None, stream: str = "noise"
) -> Tensor:
    """Return a noisy copy of int64 (N,) labels; kinds that choose labels by a rate choose exactly round(rate * N).

    Drawn on the CPU, so the same samples are wrong on every device.

    Args:
        labels: the clean labels.
        noise: the options; `noise.seed` replaces `seed`.
        classes: number of classes.
        seed: the run's.
        part: the labelled examples, for kinds that ask for them.
        stream: what is drawn; streams are independent.

    Raises:
        UserError: a rate above 0 that chooses none, or a user's kind that returns no labels.
    """
    if noise.rate > 0 and round(noise.rate * len(labels)) == 0:
        raise UserError(
            f"noise.rate={noise.rate:g} of {len(labels)} training labels is {noise.rate * len(labels):.2g}, which rounds to none, "
            f"so no label would be wrong: write a rate above {0.5 / len(labels):.2g}, or noise=none"
        )
    kind = registry.find("noise", noise.kind, key="noise")
    draws = generator(seed if noise.seed is None else noise.seed, stream)
    given = [
        labels.clone(),
        noise.rate,
        classes,
        draws,
        *([part] if "part" in signature(kind.load()).parameters else []),
    ]
    noisy = kind.call(*given, values=section_values("noise", noise))
    if not isinstance(noisy, Tensor) or noisy.shape != labels.shape or noisy.dtype != labels.dtype:
        found = f"{noisy.dtype} {tuple(noisy.shape)}" if isinstance(noisy, Tensor) else f"a {type(noisy).__name__}"
        raise UserError(f"noise={noise.kind} returned {found}; it must return labels, int64 ({len(labels)},)")
    if len(noisy) and not 0 <= int(noisy.min()) <= int(noisy.max()) < classes:
        raise UserError(
            f"noise={noise.kind} returned labels from {int(noisy.min())} to {int(noisy.max())}; the classes are 0 to {classes - 1}"
        )
    return noisy


def measured(noise: NoiseConfig, wrong: Tensor) -> str | None:
    """Return a note on the share of wrong labels, bool (N,), that noise of the kinds of `EACH` made; None for the others."""
    if noise.kind not in EACH:
        return None
    count = int(wrong.sum())
    return f"noise={noise.kind}: {count} of {len(wrong)} training labels are wrong, {100 * count / len(wrong):.1f} %"
