"""The kinds of data sets and of label noise. Imports no torch.

A data set of one's own is a function that returns ``(x_train, y_train, x_test, y_test)`` (`credit.data.sources.own`); a noise of
one's own a function ``(labels, rate, classes, generator)`` that returns the noisy labels (`credit.data.noise`). Keyword-only
arguments of either are options beside those of `DataConfig` and `NoiseConfig`.
"""

from dataclasses import dataclass
from typing import Literal

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.options import opt
from credit.core.registry import common, component, declare

PUBLISHED = ("mnist", "fashion_mnist", "cifar10", "cifar100")

common("data", DataConfig)
common("noise", NoiseConfig)
declare(
    "data",
    {
        "diabetes": "credit.data.sources.catalog:DIABETES",
        "digits": "credit.data.sources.catalog:DIGITS",
        "image_folder": "credit.data.sources.catalog:IMAGE_FOLDER",
        "imagenet32": "credit.data.sources.catalog:IMAGENET32",
        "npz": "credit.data.sources.catalog:NPZ",
        "ones": "credit.data.sources.catalog:ONES",
        "sign_line": "credit.data.sources.catalog:SIGN_LINE",
        "tabular": "credit.data.sources.catalog:TABULAR",
        **dict.fromkeys(PUBLISHED, "credit.data.sources.catalog:PUBLISHED"),
    },
)
declare(
    "noise",
    {
        "none": "credit.data.noise.drawn:unchanged",
        "symmetric": "credit.data.noise.drawn:symmetric",
        "uniform": "credit.data.noise.drawn:uniform",
        "asymmetric": "credit.data.noise.drawn:asymmetric",
        "pair_flip": "credit.data.noise.drawn:pair_flip",
    },
)


@component("data", "csv", "credit.data.sources.catalog:CSV")
@dataclass(frozen=True)
class CsvData(DataConfig):
    """Options of a CSV file."""

    path: str | None = opt(None, "the file, with a header line")
    test_path: str | None = opt(None, "a file of the same columns that is the test part; null: a fifth of the rows is")
    target: str | list[str] | None = opt(
        None, "the column of the class; with data.task=regression one or more of numbers"
    )
    separator: Literal["comma", "semicolon", "tab"] = opt("comma", "between the columns")
    drop: list[str] = opt([], "columns that are not used")
    categorical: list[str] = opt([], "columns of numbers that are names of categories")
    missing: Literal["refuse", "median", "most_frequent"] = opt(
        "refuse", "what stands for missing values, of the training part; of categories always the most frequent"
    )
    missing_as: list[str] = opt(
        ["NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"],
        "texts that stand for a missing value beside the empty cell",
    )
    unseen: Literal["refuse", "zero"] = opt(
        "refuse", "a category that the training part has not; zero: 0 for all of the column's categories"
    )


@component("data", "text", "credit.data.sources.catalog:TEXT")
@dataclass(frozen=True)
class TextData(DataConfig):
    """Options of a text of characters."""

    path: str | None = opt(None, "the file, in UTF-8; null: text/tinyshakespeare.txt in the data folder")
    context: int = opt(64, "characters of a window, which is one example", ge=1)


@component("data", "torchvision", "credit.data.sources.catalog:TORCHVISION")
@dataclass(frozen=True)
class TorchvisionData(DataConfig):
    """Options of an image set that torchvision reads."""

    name: str | None = opt(None, "torchvision's class, such as SVHN, KMNIST, EMNIST, STL10")
    subset: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = opt(
        "balanced", "which of EMNIST's sets", when="name=EMNIST"
    )
    image_size: int | None = opt(
        None, "pixels of the side of the square that is cut out; null: images as they are", ge=1
    )
    resize: int | None = opt(None, "pixels of the shorter side before the centre is cut out; null: image_size", ge=1)


@component("noise", "matrix", "credit.data.noise.drawn:matrix")
@dataclass(frozen=True)
class MatrixNoise(NoiseConfig):
    """Options of noise by a transition matrix."""

    path: str | None = opt(None, "file of the matrix, .npy or .csv (no header): row c has what class c becomes")


@component("noise", "instance", "credit.data.noise.instance:instance")
@dataclass(frozen=True)
class InstanceNoise(NoiseConfig):
    """Options of noise that depends on the example."""

    deviation: float = opt(0.1, "of the examples' flip rates around the rate", gt=0, source="algorithm 2")


@component("noise", "human", "credit.data.noise.human:human")
@dataclass(frozen=True)
class HumanNoise(NoiseConfig):
    """Options of labels that people gave."""

    labels: Literal["aggre", "random1", "random2", "random3", "worse", "noisy"] = opt(
        "worse",
        "of CIFAR-10N: the majority of three people, each of the three, a wrong one where one was given; CIFAR-100N: noisy",
    )
    path: str | None = opt(
        None, "file of the labels, .npz or .pt; null: cifar10n.npz or CIFAR-10_human.pt in the data folder"
    )
