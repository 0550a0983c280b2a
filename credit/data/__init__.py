"""Data sets held on the training device, images as bytes and rows of tables as floats, with splits, noise and scaling."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.data.batches import Batch, Batches, evaluation
    from credit.data.dataset import Data, Spec, Split, describe, load, load_many
    from credit.data.sources.catalog import kinds

__all__ = ["Batch", "Batches", "Data", "Spec", "Split", "describe", "evaluation", "kinds", "load", "load_many"]

__getattr__ = exports(
    __name__,
    {
        "Batch Batches evaluation": "batches",
        "Data Spec Split describe load load_many": "dataset",
        "kinds": "sources.catalog",
    },
)
