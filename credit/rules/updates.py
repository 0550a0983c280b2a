"""What any rule's update may suffer before the optimizer sees it: clipping and ball re-projection.

A transform is a function (name, parameter, update) -> update; ``rule.transforms`` is the list, open to users.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from credit.errors import UserError

Transform = Callable[[str, Tensor, Tensor], Tensor]


def clip(share: float) -> Transform:
    """Limit every update to ``||dW||_F <= share ||W||_F`` (LISP section 2).

    A parameter that is zero has no scale to be clipped to and keeps its update (a fresh bias could never move otherwise).
    """
    if share <= 0:
        raise UserError(
            f"rule.clip={share:g} must be above 0: updates are limited to that share of the weight's norm; null turns it off"
        )

    def transform(name: str, parameter: Tensor, update: Tensor) -> Tensor:
        size, limit = torch.linalg.vector_norm(update), share * torch.linalg.vector_norm(parameter)
        factor = torch.where((limit > 0) & (size > limit), limit / size, 1.0)
        return update * factor

    return transform


def reproject(radius: float) -> Transform:
    """Project every update back into the Frobenius ball of ``radius`` (rec-LRA: updates of norm above it are rescaled)."""
    if radius <= 0:
        raise UserError(f"rule.reproject={radius:g} must be above 0: it is the radius of the ball; null turns it off")

    def transform(name: str, parameter: Tensor, update: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(update)
        return update * torch.where(size > radius, radius / size, 1.0)

    return transform
