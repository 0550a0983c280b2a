"""What a confusion matrix says: precision, recall and F1, of every class and on average over classes (macro)."""

import torch
from torch import Tensor

KEYS = ("precision", "recall", "f1")
SHOWN = 100
"""Classes up to which a confusion matrix is kept: it has their square of numbers."""


def confusion(predicted: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return how many examples of each class got each answer, int64 (classes, classes): a row a true class.

    Args:
        predicted: answers (N,), int64.
        y: labels (N,), int64.
        classes: how many there are.
    """
    return torch.bincount(y * classes + predicted, minlength=classes * classes).view(classes, classes)


def by_class(counts: Tensor) -> Tensor:
    """Return precision, recall and F1 of every class, float64 (classes, 3), from a confusion matrix.

    A class that is never answered has precision 0, one without examples recall 0, and F1 is 0 where there is neither.
    """
    counts = counts.double()
    right, answered, given = counts.diagonal(), counts.sum(0), counts.sum(1)
    parts = (right / answered.clamp(min=1), right / given.clamp(min=1), 2 * right / (answered + given).clamp(min=1))
    return torch.stack(parts, dim=1)


def macro(counts: Tensor) -> Tensor:
    """Return precision, recall and F1 (3,), float64, averaged over the classes that occur among labels or answers.

    F1 is the mean of the classes' F1, as in scikit-learn, not the harmonic mean of the two other means. Where all classes have
    as many examples, recall is the accuracy.
    """
    occurs = (counts.sum(0) + counts.sum(1)) > 0
    return by_class(counts)[occurs].mean(0)
