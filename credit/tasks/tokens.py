"""Next-token prediction: logits of tokens at every position of a sequence."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.tasks.base import Task
from credit.tasks.classification import outside
from credit.tasks.primary import Primary


class Tokens(Task):
    """Logits (B, T, V) of V tokens at each of T positions; targets: the tokens that follow, int64 (B, T).

    The loss is the mean over examples and positions.
    """

    name = "tokens"
    output = "logits (B, positions, tokens)"
    positions = 1
    primary = Primary("loss", "loss", higher=False, share=False)

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return the words for targets that are not one int64 token a position."""
        if y.dtype == torch.int64 and y.dim() == 2 and y.shape == x.shape[:2]:
            return None
        return f"the token that follows each one, int64 of shape {tuple(x.shape[:2])}"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for outputs of another shape, and for tokens without a logit."""
        if out.dim() != 3 or out.shape[:2] != y.shape:
            return f"the model returns {tuple(out.shape)} for tokens {tuple(y.shape)}; rules need logits (B, positions, tokens)"
        return outside(y, out.shape[2], "token", "tokens of the model's logits")

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B * T, V) and tokens (B * T,)."""
        if out.dim() != 3 or out.shape[:2] != y.shape:
            raise ValueError("outputs and tokens differ in shape")  # `problem` explains it
        return out.flatten(0, 1), y.flatten()

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return one-hot rows (B, T, V)."""
        return torch.zeros_like(out).scatter(2, y.unsqueeze(2), 1.0)

    def predict(self, out: Tensor) -> Tensor:
        """Return the predicted tokens, int64 (..., B, T), of logits (..., B, T, V)."""
        return out.argmax(-1)

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the share of each example's tokens that are predicted, (..., B)."""
        return (self.predict(out) == y).double().mean(-1)

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums over examples of the mean cross-entropy of their tokens, in nats, and of the share predicted."""
        loss = F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]
        return {"loss": loss, "top1": self.correct(out, y).sum()}

    def measures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Return ``loss``, in nats a token, ``bits`` a token, and ``top1``, the share of tokens predicted."""
        found = super().measures(means)
        return {"loss": found["loss"], "bits": found["loss"] / math.log(2), "top1": found["top1"]}

    def uninformed(self, outputs: int) -> tuple[float, str]:
        """Return the cross-entropy of uniform predictions."""
        return math.log(outputs), "log(tokens)"

    def example(
        self, shape: tuple[int, ...], outputs: int, size: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return tokens drawn uniformly, and those that follow them."""
        drawn = torch.randint(0, outputs, (size, shape[0] + 1), generator=source)
        return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()
