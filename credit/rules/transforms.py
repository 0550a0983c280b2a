"""Transforms of updates, between a rule and the optimizer: clipping (of each, of units, of all), projection into a ball.

A transform is a function (parameters, updates) -> updates, both by name; it may change the updates in place.
``rule.transforms`` is the list, open to users. One that also has ``together``, the same function of stacks (replicas, ...), is
called once for all replicas of a mapped step; any other once for each.

A step computes updates (pure: parameters, buffers, batch, draws), transforms what the optimizer will get (`transformed`) and
writes it to ``.grad`` (`write`). One rule's step and a step of several replicas share the last two.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.engine.reach import computed
from credit.rules.options import RuleOptions

Transform = Callable[[Mapping[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]


class _Alone:
    """Euclidean lengths (tensors,) of one rule's tensors, and scaling by as many factors; few calls for any number of them."""

    def lengths(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack(torch._foreach_norm(tensors))

    def scale(self, tensors: list[Tensor], factors: Tensor) -> None:
        torch._foreach_mul_(tensors, list(factors.unbind()))

    def units(self, tensor: Tensor, alone: bool) -> Tensor:
        """Return a tensor's units, (units, elements): its rows, or all of it where it is ``alone`` and has one dimension."""
        return tensor.reshape(1, -1) if alone and tensor.dim() < 2 else tensor.reshape(tensor.shape[0], -1)


class _Stacked:
    """The same for stacks (replicas, ...), whose lengths and factors are (tensors, replicas)."""

    def lengths(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack([torch.linalg.vector_norm(one.flatten(1), dim=1) for one in tensors])

    def scale(self, tensors: list[Tensor], factors: Tensor) -> None:
        torch._foreach_mul_(tensors, [f.view(-1, *[1] * (t.dim() - 1)) for t, f in zip(tensors, factors, strict=True)])

    def units(self, tensor: Tensor, alone: bool) -> Tensor:
        lead = tensor.shape[:1] if alone and tensor.dim() < 3 else tensor.shape[:2]
        return tensor.reshape(*lead, -1).unsqueeze(1) if len(lead) == 1 else tensor.reshape(*lead, -1)


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
    """Return the names of the trainable parameters of the last weighted op before the logits; none where it is frozen.

    Those that its weight or bias is computed from are among them.
    """
    last = next((op for op in reversed(plan.ops) if isinstance(op, Weighted)), None)
    if last is None:
        return set()
    known = computed(plan)
    behind = set().union(*(known.get(last.inputs[at], set()) for at in last.operands.values()))
    return set(plan.weights.sources({*last.trains, *(behind & set(plan.learned))}))


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


def layer_groups(plan: Plan) -> list[tuple[str, ...]]:
    """Return the names of the parameters that belong to one layer, frozen ones too: its weight and its bias, or one alone."""
    rows = {name: p.shape[:1] for name, p in plan.model.named_parameters()}
    computed = plan.weights
    found: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for op in plan.ops:
        for role, name in op.params.items():
            partner = op.params.get(role.removesuffix("weight") + "bias") if role.endswith("weight") else None
            if partner is None or partner in computed:
                continue
            pooled = (*(one for one in computed.sources([name]) if rows[one] == rows[partner]), partner)
            if len(pooled) > 1 and not set(pooled) & taken:
                found.append(pooled)
                taken |= set(pooled)
    used = [name for op in plan.ops for name in computed.sources(op.params.values())]
    alone = {name: (name,) for name in used if name not in taken}
    return found + list(alone.values())


def clip_unit(share: float, layers: Collection[tuple[str, ...]] = ()) -> Transform:
    """Limit each unit's updates to ``share max(||the unit's parameters||, 1e-6)`` (LFP's spiking networks; Brock et al. 2021).

    A unit is a row (first dimension) of a layer's weight with its entry of the bias; of a norm, a channel's scale and shift.
    The norm of a unit's parameters pools both, and each of its updates, the row's and the bias's, is limited by itself.
    A parameter without a partner has its own rows as units; a vector without one (a layer scale, a bias whose weight is another
    layer's) is one unit as a whole, for of single numbers those at 0 could never move.

    Args:
        share: above 0.
        layers: names of the parameters that belong together (see ``layer_groups``).
    """
    if share <= 0:
        raise UserError(
            f"rule.clip_unit={share:g} must be above 0: updates of a unit are limited to that share of its weights' norm, for "
            "example rule.clip_unit=0.06; null turns it off"
        )
    known = {name for names in layers for name in names}

    def limit(parameters: Mapping[str, Tensor], updates: dict[str, Tensor], by: _Measure) -> dict[str, Tensor]:
        others = [(name,) for name in updates if name not in known]
        for names in [*layers, *others]:
            moved = [name for name in names if name in updates]
            if not moved:
                continue
            alone = len(names) == 1
            most = share * _pooled([by.units(parameters[name], alone) for name in names]).clamp(min=1e-6)
            for update in (updates[name] for name in moved):
                sizes = torch.linalg.vector_norm(by.units(update, alone), dim=-1)
                factor = torch.where(sizes > most, most / sizes, 1.0)
                update.mul_(factor.view((*factor.shape[: update.dim()], *[1] * (update.dim() - factor.dim()))))
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


def _pooled(rows: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of each unit (..., units) over several tensors (..., units, elements)."""
    norms = [torch.linalg.vector_norm(one, dim=-1) for one in rows]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms), dim=0)


def limiting(options: RuleOptions, plan: Plan, unit_share: float | None) -> list[Transform]:
    """Return the limits on updates that the options of every rule ask for, in the order in which they apply.

    Args:
        options: the rule's.
        plan: the rule's.
        unit_share: what ``clip_unit`` is on this model; None: off.
    """
    limits: list[Transform] = []
    if options.clip is not None:
        limits.append(clip(options.clip, () if options.clip_output else output_layer(plan)))
    if options.reproject is not None:
        limits.append(reproject(options.reproject))
    if unit_share is not None:
        limits.append(clip_unit(unit_share, layer_groups(plan)))
    if options.clip_norm is not None:  # last, so that it limits what the optimizer gets
        limits.append(clip_norm(options.clip_norm))
    return limits


def refuse_accumulation() -> NoReturn:
    """Refuse to add limited updates to each other: the limits are meant for what the optimizer gets."""
    raise UserError(
        "step(x, y, accumulate=True): clip, reproject, clip_unit and clip_norm would limit the update of each batch, not the sum "
        "that the optimizer gets; write step(x, y, accumulate=True, transform=False) for each batch, and then rule.transform(), "
        "which limits the sum"
    )


# ------------------------------------------------------------ the last stages of a step


def transformed(transforms: Sequence[Transform], parameters: Mapping[str, Tensor], updates: Mapping[str, Tensor], *,
                fresh: bool) -> dict[str, Tensor]:  # fmt: skip
    """Return updates, by name, in their parameters' type and after all transforms.

    Args:
        transforms: in order.
        parameters: by name.
        updates: by name; computed in bfloat16 under ``precision="bf16"``.
        fresh: every update is a tensor of its own, which transforms may change; else they get copies.
    """
    done = {name: update.to(parameters[name].dtype) for name, update in updates.items()}
    if transforms and not fresh:
        done = {name: update.clone() for name, update in done.items()}
    for transform in transforms:
        done = transform(parameters, done)
    return done


def write(parameters: Mapping[str, Any], updates: Mapping[str, Tensor], *, accumulate: bool = False) -> None:
    """Set ``.grad`` of parameters, by name, to their updates, or add the updates to it.

    Of a parameter without an update the last one is dropped, which an optimizer would apply again; when accumulating, only of one
    that was frozen since.
    """
    for name, update in updates.items():
        before = parameters[name].grad
        parameters[name].grad = before + update if accumulate and before is not None else update
    for name in parameters.keys() - updates.keys():
        if not accumulate or not parameters[name].requires_grad:
            parameters[name].grad = None
