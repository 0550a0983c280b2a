"""The ways in which a set's examples are held, and what each allows: images as bytes, rows of a table as floats, text as tokens.

What a run may ask of a set (normalisation, augmentation) follows from how it is held, and only this file says which.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data import normalize, preprocess
from credit.data.normalize import Columnwise, Normalizer
from credit.data.preprocess import Preprocessing
from credit.data.sources.images.on_disk import Examples


@dataclass(frozen=True)
class Images:
    """uint8 (N, C, H, W); `top` is the largest value a pixel of the set's format can have (255; digits 16)."""

    top: int = 255
    dtype = torch.uint8

    def check(self, cfg: DataConfig, shape: tuple[int, ...]) -> None:
        """Refuse what images of this shape cannot have.

        Args:
            cfg: the data options.
            shape: (C, H, W).

        Raises:
            UserError: ImageNet's colours on grey images, whitening of huge images, a cutout that hides all of one, or what
                `credit.data.preprocess.check` refuses.
        """
        preprocess.check(cfg, shape)
        if cfg.normalize == "imagenet" and shape[0] != 3:
            raise UserError(
                f"data.normalize=imagenet with data={cfg.kind}: is the mean and spread of red, green and blue, but its images "
                f"have {shape[0]} channel{'s' * (shape[0] > 1)}; write data.normalize=standard"
            )
        if cfg.normalize == "zca":
            normalize.check_zca(shape)
        if "cutout" in cfg.augment and cfg.cutout_size >= min(shape[1:]):
            raise UserError(
                f"data.cutout_size={cfg.cutout_size} on images of {shape[1]} x {shape[2]}: would hide all of it; "
                f"give less, for example {max(1, min(shape[1:]) // 4)}"
            )

    def fit(self, cfg: DataConfig, x: Examples) -> Normalizer | Preprocessing:
        """Return preprocessing and normalisation fitted on training images (N, C, H, W)."""
        if cfg.preprocess != "none":
            return preprocess.fit(cfg, x, self.top)
        return normalize.fit(cfg.normalize, x, self.top)


@dataclass(frozen=True)
class Rows:
    """float32 (N, F): one row an example, one column a feature. `scaled`: how many, the first, are normalised; None: all."""

    scaled: int | None = None
    dtype = torch.float32

    def check(self, cfg: DataConfig, shape: tuple[int, ...]) -> None:
        """Refuse what rows of numbers cannot have.

        Args:
            cfg: the data options.
            shape: (F,).

        Raises:
            UserError: a normalisation or an augmentation of images.
        """
        if cfg.normalize not in normalize.COLUMNWISE:
            raise UserError(
                f"data.normalize={cfg.normalize} with data={cfg.kind}: is for images; a table's columns take "
                f"{', '.join(normalize.COLUMNWISE)}"
            )
        if cfg.augment:
            raise UserError(f"data.augment={cfg.augment} with data={cfg.kind}: is for images; write data.augment=[]")

    def fit(self, cfg: DataConfig, x: Examples) -> Columnwise:
        """Return the normalisation fitted on training rows (N, F)."""
        assert isinstance(x, Tensor)  # rows are in memory
        return normalize.fit_columns(cfg.normalize, x, self.scaled)


@dataclass(frozen=True)
class Sequences:
    """int64 (N, T): one row a sequence of tokens, which the network gets as they are."""

    dtype = torch.int64

    def check(self, cfg: DataConfig, shape: tuple[int, ...]) -> None:
        """Refuse what tokens cannot have: normalisation and augmentation.

        Args:
            cfg: the data options.
            shape: (T,).

        Raises:
            UserError: one of these was asked for.
        """
        if cfg.normalize != "none":
            raise UserError(
                f"data.normalize={cfg.normalize} with data={cfg.kind}: tokens are no numbers; write data.normalize=none"
            )
        if cfg.augment:
            raise UserError(f"data.augment={cfg.augment} with data={cfg.kind}: is for images; write data.augment=[]")

    def fit(self, cfg: DataConfig, x: Examples) -> normalize.Unchanged:
        """Return the preparation of tokens, which changes nothing."""
        return normalize.Unchanged()


Storage = Images | Rows | Sequences
