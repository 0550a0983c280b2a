"""From a description to tensors on the training device: read, digest, limit, split, spoil labels, fit normalisation.

In this order, each with its own random stream:

1. ``limit_train`` and ``limit_test`` keep a stratified subset (seed `split_seed`), as if the set had never been larger;
2. ``val_fraction`` of what is left of the training set becomes the validation split (seed `split_seed`, so the runs of
   several seeds are selected on the same examples);
3. label noise touches the training part only (seed `noise.seed`, else the run's);
4. normalisation is fitted on the training part.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from credit.config.schema import CHOICES, DataConfig, NoiseConfig
from credit.data import sources
from credit.data.digests import arrays_digest
from credit.data.noise import add_noise, check_noise
from credit.data.normalize import Normalizer
from credit.data.splits import stratified
from credit.errors import UserError, nearest

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Spec:
    """What a run will see, known before anything is loaded.

    Attributes:
        shape: of one example: (C, H, W), or (F,) for rows of a table.
        classes: number of classes.
        train_size, val_size, test_size: examples in each part, after limits and the validation split.
    """

    shape: tuple[int, ...]
    classes: int
    train_size: int
    test_size: int
    val_size: int = 0


@dataclass
class Split:
    """Examples uint8 (N, C, H, W) or float32 (N, F) and labels int64 (N,), both on the training device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass
class Data:
    """A set, ready to train on.

    Attributes:
        train, val, test: the parts. `train.y` carries the label noise; `val.y` and `test.y` are clean. `val` is empty
            where ``val_fraction`` is 0.
        clean_y: int64 (N_train,), the training labels before noise.
        corrupted: bool (N_train,), where `train.y` differs from `clean_y`.
        names: one a class.
        digest: SHA-256 (hex) of the whole set as read, before limits and splits; a table's fold is part of it.
        normalizer: fitted on the training part.
        noise: the noise that was made.
        noise_seed: the seed it was made from.
    """

    kind: str
    train: Split
    val: Split
    test: Split
    clean_y: Tensor
    corrupted: Tensor
    names: list[str]
    digest: str
    normalizer: Normalizer
    normalize: str
    noise: NoiseConfig
    noise_seed: int

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (C, H, W), or (F,) for rows of a table."""
        return tuple(self.train.x.shape[1:])

    def prepare(self, x: Tensor) -> Tensor:
        """Return stored examples normalised, float32 of the same shape, not augmented."""
        return self.normalizer(x)

    def split(self, name: str) -> Split:
        """Return the part called train, val or test.

        Raises:
            UserError: another name.
        """
        if name not in SPLITS:
            raise UserError(f"split {name!r}: no such part of a data set; {nearest(name, SPLITS)}")
        part: Split = getattr(self, name)
        return part

    def summary(self) -> dict[str, Any]:
        """Return what a result should say about its data, as plain values."""
        wrong = int(self.corrupted.sum())
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "classes": self.classes,
            "train_size": len(self.train),
            "val_size": len(self.val),
            "test_size": len(self.test),
            "digest": self.digest,
            "normalize": self.normalize,
            "noise": self.noise.kind,
            "noise_rate": self.noise.rate,
            "noise_seed": self.noise_seed,
            "labels_chosen": round(self.noise.rate * len(self.train)),
            "labels_wrong": wrong,
            "labels_wrong_fraction": wrong / len(self.train),
            "val_labels": "clean",
        }


def describe(cfg: DataConfig, noise: NoiseConfig | None = None) -> Spec:
    """Check a data set's options against the set and say what a run will see; no example is read.

    Args:
        cfg: the data options.
        noise: the label noise, to be checked as well.

    Raises:
        UserError: unknown kind or option value, options that do not fit the set (batch larger than the set, cutout
            larger than the image, ...), missing files (which, where to put them, how to download).
    """
    _check_options(cfg)
    whole = sources.look(cfg)
    whole.storage.check(cfg, whole.shape)
    if noise is not None:
        check_noise(noise, cfg.kind, whole.classes)
    limited = min(whole.train, cfg.limit_train or whole.train)
    val_size = round(cfg.val_fraction * limited)
    train_size = limited - val_size
    _check_batch(cfg, train_size, limited)
    return Spec(whole.shape, whole.classes, train_size, min(whole.test, cfg.limit_test or whole.test), val_size)


def load(cfg: DataConfig, noise: NoiseConfig, *, seed: int, device: torch.device | str) -> Data:
    """Read a data set onto a device; see the module's description for the order of steps.

    Args:
        cfg: which set, how much of it, how it is normalised.
        noise: wrong training labels.
        seed: the run's seed; decides only the noise, and only where `noise.seed` is not given.
        device: where examples and labels are held.

    Raises:
        UserError: as `describe`; corrupt files (file, expected and found digest).
    """
    spec = describe(cfg, noise)
    arrays = sources.read(cfg)
    digest = arrays_digest(arrays.tensors())
    everything = torch.arange(len(arrays.y_train))
    kept = _limit(arrays.y_train, cfg.limit_train, cfg.split_seed, "limit_train")
    test = _limit(arrays.y_test, cfg.limit_test, cfg.split_seed, "limit_test")
    val_size = round(cfg.val_fraction * len(kept))
    val, train = stratified(arrays.y_train[kept], val_size, cfg.split_seed, "validation")
    val, train = everything[kept][val], everything[kept][train]
    clean = arrays.y_train[train]
    noisy = add_noise(clean, noise, len(arrays.names), seed)
    examples = _take(arrays.x_train, train).to(device)
    assert len(examples) == spec.train_size
    return Data(
        kind=cfg.kind,
        train=Split(examples, noisy.to(device)),
        val=Split(_take(arrays.x_train, val).to(device), arrays.y_train[val].to(device)),
        test=Split(_take(arrays.x_test, test).to(device), arrays.y_test[test].to(device)),
        clean_y=clean.to(device),
        corrupted=(noisy != clean).to(device),
        names=arrays.names,
        digest=digest,
        normalizer=arrays.storage.fit(cfg.normalize, examples),
        normalize=cfg.normalize,
        noise=noise,
        noise_seed=seed if noise.seed is None else noise.seed,
    )


def _limit(labels: Tensor, limit: int | None, seed: int, stream: str) -> Tensor:
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    return stratified(labels, limit, seed, stream)[0]


def _take(examples: Tensor, index: Tensor) -> Tensor:
    return examples if len(index) == len(examples) else examples[index]


def _check_options(cfg: DataConfig) -> None:
    for name in cfg.augment:
        if name not in CHOICES["data.augment"]:
            raise UserError(f"data.augment={name}: unknown; {nearest(name, CHOICES['data.augment'])}")
    if cfg.normalize not in CHOICES["data.normalize"]:
        raise UserError(f"data.normalize={cfg.normalize}: unknown; {nearest(cfg.normalize, CHOICES['data.normalize'])}")
    if not 0 <= cfg.val_fraction < 1:
        raise UserError(
            f"data.val_fraction={cfg.val_fraction}: a fraction of the training set, in [0, 1); the usual is 0.1"
        )
    for name in ("batch_size", "eval_batch_size", "limit_train", "limit_test", "crop_padding", "cutout_size"):
        value, lowest = getattr(cfg, name), 0 if name == "crop_padding" else 1
        if value is not None and value < lowest:
            raise UserError(f"data.{name}={value}: must be at least {lowest}")


def _check_batch(cfg: DataConfig, train_size: int, limited: int) -> None:
    if train_size < 1:
        raise UserError(
            f"data.val_fraction={cfg.val_fraction} of {limited} training examples leaves none to train on; "
            "lower it or raise data.limit_train"
        )
    if cfg.batch_size > train_size:
        raise UserError(
            f"data.batch_size={cfg.batch_size} is larger than the training part, {train_size} examples "
            f"({limited} less the validation split): not one batch would be whole. "
            f"Use data.batch_size={train_size} or less"
        )
