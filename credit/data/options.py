"""The kinds of data sets and of label noise. Imports no torch.

A data set of one's own is a function that returns ``(x_train, y_train, x_test, y_test)`` (`credit.data.sources.own`); a noise of
one's own a function ``(labels, rate, classes, generator)`` that returns the noisy labels (`credit.data.noise`). Keyword-only
arguments of either are options beside those of `DataConfig` and `NoiseConfig`.
"""

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.registry import common, declare

PUBLISHED = ("mnist", "fashion_mnist", "cifar10", "cifar100")

common("data", DataConfig)
common("noise", NoiseConfig)
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
        **dict.fromkeys(PUBLISHED, "credit.data.sources.catalog:PUBLISHED"),
    },
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
)
