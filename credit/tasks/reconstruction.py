"""Reconstruction: an autoencoder's output, of which the input is the target."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from credit.tasks.primary import Primary
from credit.tasks.regression import Regression


class Reconstruction(Regression):
    """The example again, (B, ...) or one row an example (B, F); targets: the inputs as the network gets them.

    The loss of an evaluation is the mean squared error over examples and values.
    """

    name = "reconstruction"
    output = "as many numbers as an example has"
    primary = Primary("loss", "loss", higher=False, share=False)

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return the words for targets that are not shaped like the inputs."""
        if y.is_floating_point() and y.shape == x.shape:
            return None
        return f"the inputs, of shape {tuple(x.shape)}: step(x, x)"

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return the words for outputs of another size."""
        if out.shape[:1] == y.shape[:1] and out.numel() == y.numel():
            return None
        return f"the model returns {tuple(out.shape)} for inputs {tuple(y.shape)}; a reconstruction has as many numbers"

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets as rows (B, F)."""
        return super().rows(out.flatten(1), y.flatten(1))

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the targets, shaped like the outputs."""
        return y.to(out.dtype).view(out.shape)

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the sums of `Regression` over rows."""
        return super().sums(out.flatten(1), y.flatten(1))

    def measures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Return ``loss``, and ``r2``: the share of the variance of all values around their means that is reconstructed."""
        variance = (means["target_squares"] - means["target"].square()).clamp(min=0).mean().item()
        loss = means["loss"].item()
        return {"loss": loss, "r2": 1 - loss / variance if variance > 0 else float(loss == 0)}

    def example(
        self, shape: tuple[int, ...], outputs: int, size: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return normal inputs, twice."""
        assert outputs == math.prod(shape)
        x = torch.randn(size, *shape, generator=source)
        return x, x
