"""Split examples into training, validation and test parts: options, sizes and indices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.data.sources.files import Arrays, Whole, some
from credit.data.splits import stratified


@dataclass(frozen=True)
class Sizes:
    """Numbers of examples after limits and the validation split."""

    train: int
    val: int
    test: int


def part_sizes(cfg: DataConfig, whole: Whole) -> Sizes:
    """Return how many examples each part has.

    A validation part of the set's own is taken whole, and none is split off; ``data.test_fraction`` pools it too.

    Raises:
        UserError: a part that would be empty, a batch larger than the training part, or options of a validation split where
            the set has a validation part of its own.
    """
    whole_train, own, whole_test = _parted(cfg, whole)
    limited = min(whole_train, cfg.limit_train or whole_train)
    if own:
        _check_batch(cfg, limited, limited)
        return Sizes(limited, own, min(whole_test, cfg.limit_test or whole_test))
    val = _held_out(cfg, limited)
    _check_batch(cfg, limited - val, limited)
    return Sizes(limited - val, val, min(whole_test, cfg.limit_test or whole_test))


def part_places(cfg: DataConfig, arrays: Arrays) -> tuple[Tensor, Tensor, Tensor]:
    """Return the places of the training, validation and test examples, counted through both parts of the set; ascending."""
    assert cfg.split_seed is not None
    count, seed = len(arrays.y_train), cfg.split_seed
    y = torch.cat(arrays.labels)
    own = 0 if cfg.test_fraction is not None else arrays.val
    train, val, test = torch.arange(len(y)).split([count - own, own, len(y) - count])
    if cfg.test_fraction is not None:
        test, train = stratified(y, _test_size(cfg.test_fraction, len(y)), seed, "test")
    train = train[_limit(y[train], cfg.limit_train, seed, "limit_train")]
    test = test[_limit(y[test], cfg.limit_test, seed, "limit_test")]
    if own:
        return train, val, test
    held_out = _held_out(cfg, len(train))
    if cfg.val_split == "last":
        return train[: len(train) - held_out], train[len(train) - held_out :], test
    chosen, rest = stratified(y[train], held_out, seed, "validation")
    return train[rest], train[chosen], test


def absent(y: Tensor, names: Sequence[str]) -> str | None:
    """Return a note on the classes of which the training part has no example, or None.

    Args:
        y: int64 (N,), labels of the training part.
        names: of the classes.

    Raises:
        UserError: a training part of a single class.
    """
    counts = y.bincount(minlength=len(names)).tolist()
    lacking = [name for name, count in zip(names, counts, strict=True) if not count]
    if len(lacking) == len(names) - 1:
        raise UserError(
            f"the training part, {len(y)} examples after limits and splits, is all of class {names[counts.index(len(y))]}, and a "
            "classifier needs two or more: raise data.limit_train, or use another set"
        )
    return f"no training example of {some(lacking, 'class', 'classes')}: a network cannot learn it" if lacking else None


def _parted(cfg: DataConfig, whole: Whole) -> tuple[int, int, int]:
    """Return the sizes of the training part, of the set's own validation part and of the test part before limits."""
    if cfg.test_fraction is None:
        usual = DataConfig()
        for name in ("val_fraction", "val_size", "val_split"):
            if whole.val and getattr(cfg, name) != getattr(usual, name):
                raise UserError(
                    f"data.{name}={getattr(cfg, name)}: the set has a validation part of its own, {whole.val} examples, so none is "
                    f"split off the training part. Leave data.{name} out, or take the validation part out of the set; "
                    "data.test_fraction pools all parts and splits them anew"
                )
        return whole.train - whole.val, whole.val, whole.test
    total = whole.train + whole.test
    test = _test_size(cfg.test_fraction, total)
    if not 1 <= test < total:
        raise UserError(
            f"data.test_fraction={cfg.test_fraction:g} of {total} examples leaves none to "
            f"{'test' if test < 1 else 'train'} on; the usual is 0.2"
        )
    return total - test, 0, test


def _held_out(cfg: DataConfig, count: int) -> int:
    """Return how many of `count` training examples are for validation."""
    return round(cfg.val_fraction * count) if cfg.val_size is None else cfg.val_size


def _test_size(fraction: float, total: int) -> int:
    return round(fraction * total)


def _limit(labels: Tensor, limit: int | None, seed: int, stream: str) -> Tensor:
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    return stratified(labels, limit, seed, stream)[0]


def check_options(cfg: DataConfig) -> None:
    """Refuse options that no set of the kind could take.

    Raises:
        UserError: the option, what was given and what it may be.
    """
    section_values("data", cfg)
    usual = DataConfig().val_fraction
    if cfg.val_size is not None and cfg.val_fraction != usual:
        raise UserError(
            f"data.val_size={cfg.val_size} and data.val_fraction={cfg.val_fraction:g} are two sizes of one validation split: "
            f"leave one out (data.val_fraction={usual:g} is as if it had not been given)"
        )


def _check_batch(cfg: DataConfig, train_size: int, limited: int) -> None:
    if train_size < 1 and cfg.val_size is not None:
        raise UserError(
            f"data.val_size={cfg.val_size} of {limited} training examples leaves none to train on; "
            f"write {max(1, limited // 10)}, a tenth, or raise data.limit_train"
        )
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
