"""Normalization between a convolution and its activation: batch norm, frozen batch norm, or none."""

from typing import Literal, Self

from torch import Tensor, nn

Norm = Literal["batch", "none", "frozen"]


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that uses its running statistics in training too: an affine map of every channel, whose scale and shift learn.

    Maps (B, C, H, W) to the same shape. It stays in eval mode whatever the network around it is put into. A fresh one has mean 0
    and variance 1; other statistics come from a checkpoint.
    """

    stays_frozen = True  # the engine's word for it, also in a model that is in eval mode as a whole

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def _check_input_dim(self, input: Tensor) -> None:
        """Ask nothing of the shape, so that plain `torch.fx` can look inside: its stand-in for a tensor has none."""


def norm_2d(norm: Norm, channels: int) -> nn.Module:
    """Return a layer for (B, channels, H, W) by its name; ``none`` is torch's identity, which leaves no op in a plan."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else FrozenBatchNorm2d(channels)
