"""What any rule's update may suffer before the optimizer sees it: clipping and ball re-projection.

A transform is a function (name, parameter, update) -> update; ``rule.transforms`` is the list, open to users.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.errors import UserError

Transform = Callable[[str, Tensor, Tensor], Tensor]


def output_layer(plan: Plan) -> set[str]:
    """Return the names of the trainable parameters of the last weighted op before the logits."""
    last = next((op for op in plan.back if isinstance(op, Weighted) and op.trains), None)
    return set() if last is None else set(last.trains)


def clip(share: float, spared: Collection[str] = ()) -> Transform:
    """Limit every update to ``||dW||_F <= share ||W||_F`` (LISP section 2).

    A parameter that is zero has no scale to be clipped to and keeps its update (a fresh bias could never move otherwise).

    Args:
        share: above 0.
        spared: names of parameters whose updates are left as they are.
    """
    if share <= 0:
        raise UserError(
            f"rule.clip={share:g} must be above 0: updates are limited to that share of the weight's norm; null turns it off"
        )

    def transform(name: str, parameter: Tensor, update: Tensor) -> Tensor:
        if name in spared:
            return update
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
