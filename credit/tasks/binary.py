"""Binary classification by one output: the probability of class 1."""

import torch.nn.functional as F
from torch import Tensor, nn

from credit.tasks.classification import Classification


class Binary(Classification):
    """The probability (B, 1) of class 1, which is predicted above a half; labels 0 and 1, int64 (B,).

    A network declares it in its class: ``output_kind = "probability"``. The loss of an evaluation is the squared error (p - y)^2,
    because the cross-entropy of a step's outputs, 0 and 1, is infinite.
    """

    name = "binary"
    output = "probabilities (B, 1) of class 1"
    method = "of_probability"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for more than one column, and for a third class."""
        name, shape = type(model).__name__, tuple(out.shape)
        if out.dim() != 2 or out.shape[1] != 1:
            return f"{name} says output_kind='probability' but returns {shape}; a probability is one column, (B, 1)"
        low, high = int(y.min()), int(y.max())
        if low < 0 or high > 1:
            return f"label {low if low < 0 else high}: {name} gives the probability of class 1, so labels are 0 and 1"
        return None

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and labels as they are, of one column."""
        if out.shape[1:] != (1,):
            raise ValueError("a probability is one column")  # `problem` explains it
        return out, y

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the labels as numbers (B, 1)."""
        return y.unsqueeze(1).to(out.dtype)

    def predict(self, out: Tensor) -> Tensor:
        """Return the predicted classes, int64 (..., B), of probabilities (..., B, 1)."""
        return (out[..., 0] > 0.5).long()

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums of the squared errors and of the correct predictions."""
        loss = F.mse_loss(out[:, 0], y.to(out.dtype), reduction="sum")
        return {"loss": loss, "top1": (self.predict(out) == y).sum()}
