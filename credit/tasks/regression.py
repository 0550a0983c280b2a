"""Regression: numbers (B, K) and targets of the same shape."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from credit.tasks.base import Task
from credit.tasks.primary import Primary


class Regression(Task):
    """Numbers (B, K), one for each of K targets; targets floating point (B, K).

    The loss of an evaluation is the mean squared error, over examples and targets, in the units that the network is trained in.

    Args:
        shift, scale: units of the targets, float64 (K,): target = shift + scale * what the network is trained on; None: 0 and 1.
    """

    name = "regression"
    output = "numbers (B, targets)"
    targets = "numbers"
    method = "of_numbers"
    primary = Primary("r2", "R²", share=False)

    def __init__(self, shift: Tensor | None = None, scale: Tensor | None = None) -> None:
        self.shift, self.scale = shift, scale

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return the words for targets that are not rows of floating-point numbers."""
        if y.is_floating_point() and y.dim() == 2 and len(y) == len(x):
            return None
        return f"floating-point targets of shape ({len(x)}, targets)"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for outputs of another shape."""
        if out.shape == y.shape:
            return None
        return (
            f"the model returns {tuple(out.shape)} for targets {tuple(y.shape)}; a regression needs one number a target"
        )

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets as they are, of one shape."""
        if out.shape != y.shape:
            raise ValueError("outputs and targets differ in shape")  # `problem` explains it
        return out, y

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the targets."""
        return y.to(out.dtype)

    def predict(self, out: Tensor) -> Tensor:
        """Return the outputs in the units of the targets."""
        return (
            out
            if self.shift is None or self.scale is None
            else out.double() * self.scale.to(out.device) + self.shift.to(out.device)
        )

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums of squared and absolute errors, of targets and of their squares, by target (K,)."""
        error, y = out.double() - y.double(), y.double()
        return {
            "loss": error.square().mean(1).sum(),
            "squares": error.square().sum(0),
            "absolute": error.abs().sum(0),
            "target": y.sum(0),
            "target_squares": y.square().sum(0),
        }

    def measures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Return ``loss``; ``rmse`` and ``mae`` in the units of the targets, and ``r2``, each averaged over the targets.

        R^2 is ``1 - sum (y - o)^2 / sum (y - mean y)^2``, as in scikit-learn; of a target that is constant it is 0, and 1 where
        every error is 0.
        """
        scale = torch.ones(()) if self.scale is None else self.scale
        squares = means["squares"]
        variance = (means["target_squares"] - means["target"].square()).clamp(min=0)
        constant = variance <= 1e-12 * means["target_squares"].clamp(min=1e-300)
        r2 = torch.where(constant, (squares == 0).double(), 1 - squares / torch.where(constant, 1.0, variance))
        return {
            "loss": means["loss"].item(),
            "rmse": (squares.sqrt() * scale).mean().item(),
            "mae": (means["absolute"] * scale).mean().item(),
            "r2": r2.mean().item(),
        }

    def uninformed(self, outputs: int) -> tuple[float, str]:
        """Return the mean squared error of the mean: 1 for targets of standard deviation 1."""
        return (math.inf, "") if self.scale is None else (1.0, "variance of the targets")

    def example(
        self, shape: tuple[int, ...], outputs: int, size: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return normal inputs and targets."""
        return torch.randn(size, *shape, generator=source), torch.randn(size, outputs, generator=source)
