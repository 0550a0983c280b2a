"""Classification by soft targets: labels, or shares of classes as mixup and cutmix make them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.tasks.classification import Classification


class Mixtures(Classification):
    """Logits (B, C) and shares of classes (B, C), at least 0 with sum 1 in every row; labels int64 (B,) are taken too.

    A prediction is counted as correct where it is the class with the largest share (the first of equal ones).
    """

    name = "mixtures"
    method = "of_mixtures"

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return the words for targets that are neither labels nor rows of floating-point numbers."""
        if super().wanted(x, y) is None or (y.is_floating_point() and y.dim() == 2 and len(y) == len(x)):
            return None
        return f"shares of classes, floating point ({len(x)}, classes), or one int64 label a sample, shape ({len(x)},)"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for outputs of another shape, and for rows that are no shares."""
        if y.dim() == 1 or out.dim() != 2:
            return super().problem(model, out, y)
        if out.shape != y.shape:
            return (
                f"the model returns {tuple(out.shape)} for shares of classes {tuple(y.shape)}; give one share a logit"
            )
        totals = y.double().sum(1)
        if bool((y < 0).any()) or not torch.allclose(totals, torch.ones_like(totals), atol=1e-3):
            return "shares of classes are at least 0, and those of a sample add up to 1; labels are int64 (B,)"
        return None

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and shares of classes (B, C)."""
        if y.dim() == 2 and out.shape != y.shape:
            raise ValueError("outputs and shares differ in shape")  # `problem` explains it
        return out, self.target(out, y)

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the shares of classes (B, C); of labels one-hot rows."""
        return super().target(out, y) if y.dim() == 1 else y.to(out.dtype)

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Return whether each prediction is the class with the largest share (..., B)."""
        return super().correct(out, y.argmax(-1) if y.is_floating_point() else y)

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums of `Classification`, the cross-entropy to the shares of classes."""
        if y.dim() == 1:
            return super().sums(out, y)
        return super().sums(out, y.argmax(1)) | {"loss": F.cross_entropy(out, y.to(out.dtype), reduction="sum")}
