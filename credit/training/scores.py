"""Precision, recall and F1 from a confusion matrix, by class and averaged over classes (macro)."""

import torch
from torch import Tensor

KEYS = ("precision", "recall", "f1")
"""Names of the scores, in the order of `by_class` and `macro`."""

SHOWN = 100
"""Largest number of classes for which an evaluation includes the confusion matrix, whose size is its square."""


def confusion(predicted: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix, int64 (classes, classes): number of examples by true class (row) and prediction (column).

    Args:
        predicted: predictions (N,), int64.
        y: labels (N,), int64.
        classes: number of classes.
    """
    return torch.bincount(y * classes + predicted, minlength=classes * classes).view(classes, classes)


def by_class(counts: Tensor) -> Tensor:
    """Return precision, recall and F1 of every class, float64 (classes, 3).

    A class that is never predicted has precision 0, a class without examples has recall 0, and F1 is 0 if both are true.

    Args:
        counts: confusion matrix (classes, classes).
    """
    counts = counts.double()
    right, answered, given = counts.diagonal(), counts.sum(0), counts.sum(1)
    parts = (right / answered.clamp(min=1), right / given.clamp(min=1), 2 * right / (answered + given).clamp(min=1))
    return torch.stack(parts, dim=1)


def macro(counts: Tensor) -> Tensor:
    """Return precision, recall and F1, float64 (3,), averaged over the classes that occur among labels or predictions.

    F1 is the mean of the classes' F1, as in scikit-learn, not the harmonic mean of the two other means. If all classes have
    the same number of examples, recall equals the accuracy.

    Args:
        counts: confusion matrix (classes, classes).
    """
    occurs = (counts.sum(0) + counts.sum(1)) > 0
    return by_class(counts)[occurs].mean(0)
