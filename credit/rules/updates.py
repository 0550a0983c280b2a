"""What any rule's update may suffer before the optimizer sees it: clipping, ball re-projection, clipping of them all.

A transform is a function (parameters, updates) -> updates, both by name; it may change the updates in place.
``rule.transforms`` is the list, open to users. One that also has ``together``, the same function of stacks (replicas, ...), is
called once for all replicas of a mapped step; any other once for each.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.errors import UserError

Transform = Callable[[Mapping[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]


class _Alone:
    """Euclidean lengths (tensors,) of one rule's tensors, and scaling by as many factors; few calls for any number of them."""

    def lengths(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack(torch._foreach_norm(tensors))

    def scale(self, tensors: list[Tensor], factors: Tensor) -> None:
        torch._foreach_mul_(tensors, list(factors.unbind()))


class _Stacked:
    """The same for stacks (replicas, ...), whose lengths and factors are (tensors, replicas)."""

    def lengths(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack([torch.linalg.vector_norm(one.flatten(1), dim=1) for one in tensors])

    def scale(self, tensors: list[Tensor], factors: Tensor) -> None:
        torch._foreach_mul_(tensors, [f.view(-1, *[1] * (t.dim() - 1)) for t, f in zip(tensors, factors, strict=True)])


_Measure = _Alone | _Stacked


@dataclass(frozen=True)
class _Limited:
    """A transform written once, for one rule's updates and for stacks of several."""

    limit: Callable[[Mapping[str, Tensor], dict[str, Tensor], _Measure], dict[str, Tensor]]

    def __call__(self, parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.limit(parameters, updates, _Alone())

    def together(self, parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.limit(parameters, updates, _Stacked())


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

    def limit(parameters: Mapping[str, Tensor], updates: dict[str, Tensor], by: _Measure) -> dict[str, Tensor]:
        chosen = [name for name in updates if name not in spared]
        if not chosen:
            return updates
        norms = by.lengths([parameters[name] for name in chosen])
        _shorten([updates[name] for name in chosen], torch.where(norms > 0, share * norms, torch.inf), by)
        return updates

    return _Limited(limit)


def reproject(radius: float) -> Transform:
    """Project every update back into the Frobenius ball of ``radius`` (rec-LRA: updates of norm above it are rescaled)."""
    if radius <= 0:
        raise UserError(f"rule.reproject={radius:g} must be above 0: it is the radius of the ball; null turns it off")

    def limit(parameters: Mapping[str, Tensor], updates: dict[str, Tensor], by: _Measure) -> dict[str, Tensor]:
        _shorten(list(updates.values()), radius, by)
        return updates

    return _Limited(limit)


def clip_norm(most: float) -> Transform:
    """Scale all updates by ``most / (norm + 1e-6)`` where their common Euclidean norm is above ``most``.

    The same numbers as `torch.nn.utils.clip_grad_norm_`, which takes the factor's minimum with 1.
    """
    if most <= 0:
        raise UserError(
            f"rule.clip_norm={most:g} must be above 0: it limits the norm of all updates together; null turns it off"
        )

    def limit(parameters: Mapping[str, Tensor], updates: dict[str, Tensor], by: _Measure) -> dict[str, Tensor]:
        values = list(updates.values())
        lengths = by.lengths(values)
        factor = (most / (torch.linalg.vector_norm(lengths, dim=0) + 1e-6)).clamp(max=1.0)
        by.scale(values, factor.expand(lengths.shape))
        return updates

    return _Limited(limit)


def _shorten(updates: list[Tensor], limits: Tensor | float, by: _Measure) -> None:
    """Scale those of the updates down, in place, that are longer than their limit."""
    lengths = by.lengths(updates)
    by.scale(updates, torch.where(lengths > limits, limits / lengths, 1.0))
