"""Classification: logits of classes (B, C) and labels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.tasks.base import Task


class Classification(Task):
    """Logits (B, C) of C classes, of which the largest is the prediction (the first of equal ones); labels int64 (B,)."""

    name = "classification"
    output = "logits (B, classes)"

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return the words for targets that are not one int64 label an example."""
        if y.dtype == torch.int64 and y.dim() == 1 and len(y) == len(x):
            return None
        return f"one int64 label a sample, shape ({len(x)},)"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for outputs of another shape, and for labels without a logit."""
        if out.dim() != 2:
            return f"the model returns {tuple(out.shape)}; rules need logits (B, classes)"
        why = outside(y, out.shape[1], "label", "classes of the model's logits")
        one = "; a network whose one output is a probability says so in its class, output_kind = 'probability'"
        return why and why + (one if out.shape[1] == 1 else "")

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return one-hot rows (B, C)."""
        return torch.zeros_like(out).scatter(1, y.unsqueeze(1), 1.0)

    def predict(self, out: Tensor) -> Tensor:
        """Return the predicted classes, int64 (..., B), of logits (..., B, C)."""
        return out.argmax(-1)

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Return whether each prediction is right (..., B)."""
        return self.predict(out) == y

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums of the cross-entropy and of the correct predictions, among the five largest too beyond five classes."""
        found = {"loss": F.cross_entropy(out, y, reduction="sum"), "top1": (self.predict(out) == y).sum()}
        if out.shape[1] > 5:
            found["top5"] = (out.topk(5, dim=1).indices == y[:, None]).sum()
        return found

    def uninformed(self, outputs: int) -> tuple[float, str]:
        """Return the cross-entropy of uniform predictions."""
        return math.log(outputs), "log(classes)"

    def example(
        self, shape: tuple[int, ...], outputs: int, size: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return normal inputs and labels drawn uniformly."""
        x = torch.randn(size, *shape, generator=source)
        return x, torch.randint(0, outputs, (size,), generator=source)


def outside(y: Tensor, size: int, word: str, what: str) -> str | None:
    """Return the words for a label or token outside [0, size); None where all are inside."""
    low, high = int(y.min()), int(y.max())
    if low >= 0 and high < size:
        return None
    return f"{word} {low if low < 0 else high} is outside [0, {size}), the {what}"
