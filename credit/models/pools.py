"""A pooling that torch does not have as a module."""

import torch.nn.functional as F
from torch import Tensor, nn


class QuadraticPool2d(nn.Module):
    """Root of the mean of squares over windows side by side, sqrt(mean x^2): (B, C, H, W) -> (B, C, H // size, W // size).

    Its gradient at x_i is x_i / (size^2 y). A window of zeros has none; there it is 0, as torch's ``lp_pool2d`` defines it.

    Args:
        size: height and width of a window.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.lp_pool2d(x, 2.0, self.size) / self.size  # lp_pool2d has the root of the sum

    def extra_repr(self) -> str:
        return str(self.size)
