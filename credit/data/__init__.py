"""Data sets held as bytes on the training device, with splits, label noise, augmentation and normalisation."""

from credit.data.batches import Batch, Batches, evaluation
from credit.data.dataset import Data, Spec, Split, describe, load
from credit.data.sources import kinds

__all__ = ["Batch", "Batches", "Data", "Spec", "Split", "describe", "evaluation", "kinds", "load"]
