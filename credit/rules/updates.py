"""What any rule's update may suffer before the optimizer sees it: clipping, ball re-projection, clipping of them all.

A transform is a function (parameters, updates) -> updates, both by name; it may change the updates in place.
``rule.transforms`` is the list, open to users.
"""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.errors import UserError

Transform = Callable[[Mapping[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]


def output_layer(plan: Plan) -> set[str]:
    """Return the names of the trainable parameters of the last weighted op before the logits; none where it is frozen."""
    last = next((op for op in reversed(plan.ops) if isinstance(op, Weighted)), None)
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

    def transform(parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        chosen = [name for name in updates if name not in spared]
        if not chosen:
            return updates
        norms = torch.stack(torch._foreach_norm([parameters[name] for name in chosen]))
        _shorten([updates[name] for name in chosen], torch.where(norms > 0, share * norms, torch.inf))
        return updates

    return transform


def reproject(radius: float) -> Transform:
    """Project every update back into the Frobenius ball of ``radius`` (rec-LRA: updates of norm above it are rescaled)."""
    if radius <= 0:
        raise UserError(f"rule.reproject={radius:g} must be above 0: it is the radius of the ball; null turns it off")

    def transform(parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        _shorten(list(updates.values()), radius)
        return updates

    return transform


def clip_norm(limit: float) -> Transform:
    """Scale all updates by ``limit / (norm + 1e-6)`` where their common Euclidean norm is above ``limit``.

    The same numbers as `torch.nn.utils.clip_grad_norm_`, which takes the factor's minimum with 1.
    """
    if limit <= 0:
        raise UserError(
            f"rule.clip_norm={limit:g} must be above 0: it limits the norm of all updates together; null turns it off"
        )

    def transform(parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        values = list(updates.values())
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
        torch._foreach_mul_(values, (limit / (norm + 1e-6)).clamp(max=1.0))
        return updates

    return transform


def _shorten(updates: list[Tensor], limits: Tensor | float) -> None:
    """Scale those of the updates down, in place, that are longer than their limit; few calls for any number of them."""
    sizes = torch.stack(torch._foreach_norm(updates))
    factors = torch.where(sizes > limits, limits / sizes, 1.0)
    torch._foreach_mul_(updates, list(factors.unbind()))
