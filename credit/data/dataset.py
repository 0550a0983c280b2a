"""From a description to tensors on the training device: read, digest, part, limit, split, spoil labels, fit normalisation.

In this order, each with its own random stream; `split_seed` is an option, and null stands for the run's seed:

1. ``test_fraction``, where given, pools the set's own parts and takes a stratified test part anew (seed `split_seed`);
   without it a validation part of the set's own is taken as it is, and step 3 is left out;
2. ``limit_train`` and ``limit_test`` keep a stratified subset (seed `split_seed`), as if the set had never been larger;
3. ``val_fraction`` of what is left of the training set, or exactly ``val_size`` of it, becomes the validation split (seed
   `split_seed`: as an option it is the same for all seeds, so that their runs are selected on the same examples); with
   ``val_split=last`` the last ones as stored;
4. label noise touches the training part (seed `noise.seed`, else the run's), and with ``val_noise`` the validation part by draws
   of its own: the training labels are the same with it and without;
5. preprocessing and normalisation are fitted on the training part. Preprocessed images are held as they come out where they fit
   (`KEPT`), before any augmentation; else every batch is preprocessed anew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError, nearest
from credit.data import targets
from credit.data.noise.make import EACH, add_noise, check_noise, measured
from credit.data.noise.part import Part
from credit.data.normalize import Normalizer
from credit.data.parts import absent, check_options, part_places, part_sizes
from credit.data.preprocess import Centred, Preprocessing, Stored, Whitened, note
from credit.data.sources import catalog
from credit.data.sources.files import Arrays
from credit.data.sources.images.on_disk import Examples, Files
from credit.tasks.base import Task
from credit.tasks.classification import Classification
from credit.tasks.reconstruction import Reconstruction

SPLITS = ("train", "val", "test")

KEPT = 2**28
"""Numbers up to which the preprocessed images of all parts are held (1 GiB as float32)."""
_AT_ONCE = 2**22  # numbers preprocessed at a time


@dataclass(frozen=True)
class Spec:
    """Shape, number of outputs, sizes and task of a run's data, known before the data are loaded.

    Attributes:
        shape: of one example: (C, H, W), (F,) for rows of a table, or (T,) for tokens.
        outputs: number of outputs that a network needs: of classes, of numbers to predict, or of different tokens.
        train_size, val_size, test_size: examples in each part, after limits and the validation split.
        task: what is predicted, a name of `credit.tasks`.
    """

    shape: tuple[int, ...]
    outputs: int
    train_size: int
    test_size: int
    val_size: int = 0
    task: str = "classification"


@dataclass
class Split:
    """Examples uint8 (N, C, H, W), preprocessed float32 (N, C, H, W), float32 (N, F) or tokens int64 (N, T), and targets: labels
    int64 (N,), numbers float32 (N, K) or the next tokens int64 (N, T); all on the training device, but for images that stay files.
    """

    held: Examples
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def x(self) -> Tensor:
        """All examples as one tensor; images that stay files are decoded for it."""
        return self.held[:] if isinstance(self.held, Files) else self.held

    def take(self, index: Tensor) -> Tensor:
        """Return the examples at these places, int64 (B,)."""
        return self.held.take(index) if isinstance(self.held, Files) else self.held.index_select(0, index)

    def between(self, start: int, end: int) -> Tensor:
        """Return the examples from one place up to another."""
        return self.held[start:end]


@dataclass
class Data:
    """A set, ready to train on.

    Attributes:
        train, val, test: the parts. `train.y` carries the label noise, with ``data.val_noise`` `val.y` too; `test.y` is clean.
            `val` is empty where nothing is held out.
        clean_y: int64 (N_train,), the training labels before noise.
        corrupted: bool (N_train,), where `train.y` differs from `clean_y`.
        val_wrong: wrong labels of the validation part; None: its labels are clean.
        names: one an output: of each class, number or token.
        task: what is predicted; of numbers with the units of the targets.
        digest: SHA-256 (hex) of the whole set as read, before limits and splits; a table's fold is part of it, and where
            the set is drawn (ones), so is the split seed.
        normalizer: from examples as they are held to what the network gets; fitted on the training part.
        preprocess, zca_epsilon: as of the options.
        notes: what a user must know of it.
        noise: the noise that was made.
        noise_seed: the seed it was made from.
        split_seed: the seed that limits and splits were made from.
        top: the largest value of a stored pixel; None for rows of numbers.
        fitted: the preprocessing of examples that are held preprocessed; else None.
    """

    kind: str
    task: Task
    train: Split
    val: Split
    test: Split
    clean_y: Tensor
    corrupted: Tensor
    names: list[str]
    digest: str
    normalizer: Normalizer | Preprocessing | Stored
    normalize: str
    noise: NoiseConfig
    noise_seed: int
    split_seed: int
    preprocess: str = "none"
    zca_epsilon: float | None = None
    val_wrong: int | None = None
    notes: list[str] = field(default_factory=list)
    top: int | None = None
    fitted: Preprocessing | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def targets(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the targets of examples: y as held, or, of a reconstruction, the inputs x as the network gets them."""
        return x if isinstance(self.task, Reconstruction) else y

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (C, H, W), or (F,) for rows of a table."""
        return tuple(self.train.held.shape[1:])

    def prepare(self, x: Tensor) -> Tensor:
        """Return examples as they are held, preprocessed and normalised, float32 of the same shape, not augmented."""
        return self.normalizer(x)

    def _other_task(self) -> dict[str, Any]:
        outputs = math.prod(self.shape) if isinstance(self.task, Reconstruction) else len(self.names)
        return {"task": self.task.name, "outputs": outputs, **targets.units(self.task)}

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
            **({"classes": self.classes} if isinstance(self.task, Classification) else self._other_task()),
            "train_size": len(self.train),
            "val_size": len(self.val),
            "test_size": len(self.test),
            "split_seed": self.split_seed,
            "digest": self.digest,
            "normalize": self.normalize,
            "preprocess": self.preprocess,
            **({} if self.zca_epsilon is None else {"zca_epsilon": self.zca_epsilon}),
            "noise": self.noise.kind,
            "noise_rate": self.noise.rate,
            "noise_seed": self.noise_seed,
            "labels_chosen": wrong if self.noise.kind in EACH else round(self.noise.rate * len(self.train)),
            "labels_wrong": wrong,
            "labels_wrong_fraction": wrong / len(self.train),
            "val_labels": "clean" if self.val_wrong is None else "noisy",
            **({} if self.val_wrong is None else {"val_labels_wrong": self.val_wrong}),
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
    check_options(cfg)
    whole = catalog.look(cfg)
    whole.storage.check(cfg, whole.shape)
    task = targets.task_of(cfg, whole, noise)
    if noise is not None:
        check_noise(noise, cfg, whole)
    sizes = part_sizes(cfg, whole)
    if cfg.val_noise and not sizes.val:
        raise UserError(
            "data.val_noise=true would change nothing: there is no validation part; write data.val_fraction=0.1"
        )
    outputs = math.prod(whole.shape) if task == "reconstruction" else whole.outputs
    return Spec(whole.shape, outputs, sizes.train, sizes.test, sizes.val, task)


def load(cfg: DataConfig, noise: NoiseConfig, *, seed: int, device: torch.device | str) -> Data:
    """Read a data set onto a device; see the module's description for the order of steps.

    Args:
        cfg: which set, how much of it, how it is normalised.
        noise: wrong training labels.
        seed: the run's seed; decides the noise where `noise.seed` is not given, and limits and splits (and the sample of a
            drawn set) where ``data.split_seed`` is null.
        device: where examples and labels are held.

    Raises:
        UserError: as `describe`; corrupt files (file, expected and found digest).
    """
    return load_many(cfg, noise, [seed], device)[0]


def load_many(cfg: DataConfig, noise: NoiseConfig, seeds: Sequence[int], device: torch.device | str) -> list[Data]:
    """Return what `load` gives for each of the seeds, reading the set once.

    Seeds with the same examples in a part share that part's tensor; labels are each one's own.

    Args:
        cfg, noise, device: as of `load`.
        seeds: of the runs, in any order.

    Raises:
        UserError: as `load`.
    """
    spec = describe(cfg, noise)
    made: list[Data] = []
    read: dict[int | None, _Read] = {}
    for seed in seeds:
        own = replace(cfg, split_seed=seed if cfg.split_seed is None else cfg.split_seed)
        sample = own.split_seed if catalog.source(cfg.kind).drawn else None
        if sample not in read:
            arrays = catalog.read(own)
            read[sample] = _Read(arrays, arrays.digest(), device)
        made.append(read[sample].data(own, noise, seed, spec.task))
        assert len(made[-1].train) == spec.train_size
    return made


class _Read:
    """A set that was read, from which the data of any number of seeds is taken."""

    def __init__(self, arrays: Arrays, digest: str, device: torch.device | str) -> None:
        self.arrays, self.digest, self.device = arrays, digest, device
        self.x = [arrays.x_train, arrays.x_test]
        self.y = torch.cat([arrays.y_train, arrays.y_test])
        self._taken: list[tuple[Tensor, Examples]] = []
        self._fitted: list[tuple[Examples, Normalizer | Preprocessing]] = []
        self._made: list[tuple[Examples, Preprocessing, Tensor]] = []

    def data(self, cfg: DataConfig, noise: NoiseConfig, seed: int, task: str) -> Data:
        """Return one seed's data for a task; `cfg.split_seed` is a number."""
        assert cfg.split_seed is not None
        train, val, test = part_places(cfg, self.arrays)
        y, goal = targets.scaled(cfg, task, self.y, train)
        clean = y[train]
        parts = [self._examples(part) for part in (train, val, test)]
        labelled = task == "classification"
        noisy = self._noisy(cfg, noise, seed, parts[0], parts[0], train) if labelled else clean
        wrong = noisy != clean if labelled else torch.zeros(len(clean), dtype=torch.bool)
        val_y = y[val]
        noisy_val = cfg.val_noise and noise.kind != "none"
        if noisy_val:
            val_y = self._noisy(cfg, noise, seed, parts[1], parts[0], val, "noise_val")
        normalizer: Normalizer | Preprocessing | Stored = self._normalizer(cfg, parts[0])
        fitted: Preprocessing | None = None
        if isinstance(normalizer, Centred | Whitened) and sum(part.numel() for part in parts) <= KEPT:
            fitted, normalizer = normalizer, Stored()
            parts = [self._preprocessed(part, fitted) for part in parts]
        found = [
            absent(clean, self.arrays.names) if labelled else None,
            note(cfg, len(train), tuple(parts[0].shape[1:])),
            measured(noise, wrong),
            None if noisy_val or not cfg.val_noise else "data.val_noise=true changes nothing without label noise",
        ]
        return Data(
            kind=cfg.kind,
            task=goal,
            train=Split(parts[0], noisy.to(self.device)),
            val=Split(parts[1], val_y.to(self.device)),
            test=Split(parts[2], y[test].to(self.device)),
            clean_y=clean.to(self.device),
            corrupted=wrong.to(self.device),
            names=self.arrays.names,
            digest=self.digest,
            normalizer=normalizer,
            normalize=cfg.normalize,
            noise=noise,
            noise_seed=seed if noise.seed is None else noise.seed,
            split_seed=cfg.split_seed,
            preprocess=cfg.preprocess,
            zca_epsilon=cfg.zca_epsilon if "zca" in cfg.preprocess else None,
            val_wrong=int((val_y != self.y[val]).sum()) if noisy_val else None,
            notes=[*self.arrays.notes, *(one for one in found if one is not None)],
            top=getattr(self.arrays.storage, "top", None),
            fitted=fitted,
        )

    def _noisy(
        self, cfg: DataConfig, noise: NoiseConfig, seed: int, x: Examples, fitted: Examples, places: Tensor,
        stream: str = "noise",
    ) -> Tensor:  # fmt: skip
        """Return the noisy labels of the examples x at these places; `fitted`: those of the training part."""
        scaled = replace(cfg, normalize="standard", preprocess="none")
        part = Part(
            cfg,
            x,
            places,
            self.arrays.y_train,
            seed if noise.seed is None else noise.seed,
            standardise=lambda: self.arrays.storage.fit(scaled, fitted),
        )
        return add_noise(self.y[places], noise, len(self.arrays.names), seed, part, stream)

    def _examples(self, index: Tensor) -> Examples:
        """Return the examples at these places of both parts together, on the device; the same object for the same places."""
        for known, examples in self._taken:
            if torch.equal(known, index):
                return examples
        files = self.arrays.files
        examples = self._take(index).to(self.device) if files is None else files.select(index, self.device)
        self._taken.append((index, examples))
        return examples

    def _take(self, index: Tensor) -> Tensor:
        """Return the examples at ascending places; neighbours of one part as they are, without a copy beside it."""
        start = 0
        for part in self.x:
            if (
                len(index)
                and start <= index[0]
                and index[-1] < start + len(part)
                and index[-1] - index[0] == len(index) - 1
            ):
                return part[int(index[0]) - start : int(index[-1]) - start + 1]
            start += len(part)
        taken = self.x[0].new_empty(len(index), *self.x[0].shape[1:])
        start = done = 0
        for part in self.x:
            inside = index[(index >= start) & (index < start + len(part))] - start
            torch.index_select(part, 0, inside, out=taken[done : done + len(inside)])
            start, done = start + len(part), done + len(inside)
        return taken

    def _normalizer(self, cfg: DataConfig, examples: Examples) -> Normalizer | Preprocessing:
        for known, normalizer in self._fitted:
            if known is examples:
                return normalizer
        normalizer = self.arrays.storage.fit(cfg, examples)
        self._fitted.append((examples, normalizer))
        return normalizer

    def _preprocessed(self, examples: Examples, fitted: Preprocessing) -> Tensor:
        """Return the examples preprocessed; the same tensor for the same examples and fit."""
        for known, by, made in self._made:
            if known is examples and by is fitted:
                return made
        made = torch.empty(examples.shape, dtype=torch.float32, device=examples.device)
        count = max(1, _AT_ONCE // examples.shape[1:].numel())
        for start in range(0, len(examples), count):
            made[start : start + count] = fitted(examples[start : start + count])
        self._made.append((examples, fitted, made))
        return made
