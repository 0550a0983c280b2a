"""The kinds of data sets and of label noise. Imports no torch."""

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.registry import declare

_PUBLISHED = ("mnist", "fashion_mnist", "cifar10", "cifar100")

declare(
    "data",
    {
        "digits": "credit.data.sources.catalog:DIGITS",
        "image_folder": "credit.data.sources.catalog:IMAGE_FOLDER",
        "imagenet32": "credit.data.sources.catalog:IMAGENET32",
        "npz": "credit.data.sources.catalog:NPZ",
        "ones": "credit.data.sources.catalog:ONES",
        "sign_line": "credit.data.sources.catalog:SIGN_LINE",
        "tabular": "credit.data.sources.catalog:TABULAR",
        **dict.fromkeys(_PUBLISHED, "credit.data.sources.catalog:PUBLISHED"),
    },
    DataConfig,
)
declare(
    "noise",
    {
        "none": "credit.data.noise:unchanged",
        "symmetric": "credit.data.noise:symmetric",
        "uniform": "credit.data.noise:uniform",
        "asymmetric": "credit.data.noise:asymmetric",
        "pair_flip": "credit.data.noise:pair_flip",
    },
    NoiseConfig,
)
