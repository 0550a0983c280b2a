"""Weights that a module computes from other tensors at each forward pass: parametrizations, weight norms, pruning masks.

``torch.nn.utils.parametrize`` (``parametrizations.weight_norm``, ``spectral_norm``, ``orthogonal``, a user's own module) and the
forward pre-hooks of ``torch.nn.utils.weight_norm``, ``spectral_norm`` and ``prune`` replace a parameter by a function of others.
A plan is traced from the plain network (`plain`), in which each computed weight is a parameter by its name, so that rules treat
``fc.weight`` as the weight of any layer. A step computes these weights once (`Weights.opened`) and sends their updates on to the
parameters that they are computed from by the vector-Jacobian product of that computation alone: of backprop's updates the
chain rule, of another rule's the same map.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from credit.core.errors import UserError
from credit.engine.guards.tracing import Generators

Updates = dict[str, Tensor]
Pull = Callable[[Updates], Updates]
"""From updates by the names that ops have to those of the model's own parameters."""


def computes(hook: Any) -> str | None:
    """Return the name of the tensor that a forward pre-hook of torch computes for its module; None for another hook."""
    if isinstance(hook, WeightNorm | SpectralNorm):
        return str(hook.name)
    return str(hook._tensor_name) if isinstance(hook, BasePruningMethod) else None


def by_hooks(module: nn.Module) -> list[str]:
    """Return the names of the tensors that a module's forward pre-hooks compute."""
    names = [computes(hook) for hook in module._forward_pre_hooks.values()]
    return [name for name in names if name is not None]


class _Computation(nn.Module):
    """Computes a layer's tensors anew, as its forward pass does; ``layer`` stays as it is, but for buffers."""

    def __init__(self, layer: nn.Module, role: str) -> None:
        super().__init__()
        self.layer, self.role = layer, role

    def forward(self) -> Tensor:
        found = _lists(self.layer)
        if self.role in found:
            value: Tensor = found[self.role]()
            return value
        attributes = vars(self.layer)
        before = {name: attributes[name] for name in by_hooks(self.layer) if name in attributes}
        try:
            for hook in list(self.layer._forward_pre_hooks.values()):
                if computes(hook) is not None:
                    hook(self.layer, ())
            value = attributes[self.role]
        finally:
            attributes.update(before)
        return value


def _lists(module: nn.Module) -> dict[str, ParametrizationList]:
    # Not hasattr, which a user's own attribute of this name would satisfy.
    found = dict(module.named_children()).get("parametrizations")
    lists = found.items() if isinstance(found, nn.ModuleDict) else ()
    return {name: one for name, one in lists if isinstance(one, ParametrizationList)}


@dataclass(frozen=True)
class Weight:
    """A weight that a layer computes.

    Attributes:
        name: the name that it would have as a parameter, such as ``fc.weight``.
        params, buffers: names in the model of what it is computed from, by the names in its computation.
        trains: names in the model of those parameters that are trainable.
        computation: a module that returns it.
    """

    name: str
    params: dict[str, str]
    buffers: dict[str, str]
    trains: tuple[str, ...]
    computation: _Computation

    def value(self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
        """Return the weight computed from a model's tensors by name; moves buffers in place, as the layer itself does."""
        given = {key: params[name] for key, name in self.params.items()}
        given |= {key: buffers[name] for key, name in self.buffers.items()}
        found: Tensor = torch.func.functional_call(self.computation, given, ())
        return found

    def like(self) -> tuple[Any, ...]:
        """Return what computations of two models must have in common to be one function of the tensors."""
        layer, role = self.computation.layer, self.computation.role
        one = _lists(layer).get(role)
        found = list(layer._forward_pre_hooks.values()) if one is None else list(one.modules())
        plain = (bool, int, float, str, tuple)
        return tuple(
            (type(part).__qualname__, sorted((k, v) for k, v in vars(part).items() if isinstance(v, plain)))
            for part in found
        )


class Weights(dict[str, Weight]):
    """The computed weights that a plan's ops use, by name."""

    def sources(self, names: Iterable[str]) -> list[str]:
        """Return the model's own parameters behind names that ops have: of a computed weight, the trainable ones behind it."""
        return list(dict.fromkeys(own for name in names for own in (self[name].trains if name in self else (name,))))

    def opened(self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Pull]:
        """Return parameters by the names that ops have, and what sends their updates on to the model's own.

        Args:
            params: by the model's names.
            buffers: by the model's names; moved in place where a computation moves some (a power iteration's vectors).
        """
        if not self:
            return dict(params), lambda updates: updates
        own = {name: params[name].detach() for name in self.sources(self)}
        fixed = {name: value.detach() for name, value in params.items()}

        def computed(given: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: one.value(fixed | given, buffers) for name, one in self.items()}

        values, back = torch.func.vjp(computed, own)[:2]

        def pull(updates: Updates) -> Updates:
            kept = {name: value for name, value in updates.items() if name not in self}
            given = {
                name: updates[name].to(value.dtype) if name in updates else torch.zeros_like(value)
                for name, value in values.items()
            }
            (found,) = back(given)
            return kept | {name: value + kept[name] if name in kept else value for name, value in found.items()}

        return dict(params) | values, pull


@contextmanager
def plain(model: nn.Module) -> Iterator[Weights]:
    """Turn a model into its plain network while the context lasts: each computed weight is a parameter of its layer.

    Yields:
        The computed weights by name.

    Raises:
        UserError: a computation that draws random numbers, that autograd cannot differentiate, or whose original is a buffer.
    """
    found = _found(model)
    layers = list(dict.fromkeys(one.computation.layer for one in found.values()))
    saved = [(layer, type(layer), dict(vars(layer)), _tables(layer)) for layer in layers]
    values = _values(model, found)
    try:
        for one in found.values():
            _simplify(one, values[one.name])
        yield found
    finally:
        for layer, kind, attributes, tables in saved:
            layer.__class__ = kind
            vars(layer).clear()
            vars(layer).update(attributes)
            for table, contents in tables:
                table.clear()
                table.update(contents)


def _tables(layer: Any) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """Return the tables of a layer that its plain form changes, each with a copy."""
    tables: tuple[dict[Any, Any], ...] = (layer._parameters, layer._modules, layer._forward_pre_hooks)
    return [(table, dict(table)) for table in tables]


def _found(model: nn.Module) -> Weights:
    """Return the computed weights of a model, parametrized ones first in each layer."""
    names = {id(value): name for name, value in [*model.named_parameters(), *model.named_buffers()]}
    found = Weights()
    for path, layer in model.named_modules():
        for role in dict.fromkeys([*_lists(layer), *by_hooks(layer)]):
            computation = _Computation(layer, role)
            behind = _behind(layer, role)
            params = {key: p for key, p in computation.named_parameters() if key.startswith(behind)}
            buffers = {key: b for key, b in computation.named_buffers() if key.startswith(behind)}
            name = f"{path}.{role}" if path else role
            if role in _lists(layer) and any(key.removeprefix(behind[0]).startswith("original") for key in buffers):
                raise UserError(
                    f"'{name}' in {type(model).__name__} is a buffer with a parametrization, which no rule has a row for: compute "
                    "it in forward() instead"
                )
            trains = tuple(names[id(p)] for p in params.values() if p.requires_grad)
            found[name] = Weight(
                name,
                {key: names[id(p)] for key, p in params.items()},
                {key: names[id(b)] for key, b in buffers.items()},
                trains,
                computation,
            )
    return found


def _behind(layer: nn.Module, role: str) -> tuple[str, ...]:
    """Return how the names begin, in its `_Computation`, of the tensors that a weight is computed from."""
    if role in _lists(layer):
        return (f"layer.parametrizations.{role}.",)
    return tuple(f"layer.{role}_{suffix}" for suffix in ("orig", "mask", "g", "u", "v"))


def _values(model: nn.Module, found: Weights) -> dict[str, Tensor]:
    """Return the values of a model's computed weights, differentiated once to see that it can be done; nothing moves."""
    if not found:
        return {}
    params = dict(model.named_parameters())
    buffers = {name: value.detach().clone() for name, value in model.named_buffers()}
    draws = Generators(model)
    try:
        with torch.no_grad():
            values, pull = found.opened(params, buffers)
            pull({name: torch.zeros_like(values[name]) for name in found})
    except RuntimeError as error:
        raise UserError(
            f"{', '.join(found)} in {type(model).__name__}: the weight is computed from other parameters, and torch.func.vjp "
            f"cannot differentiate that computation ({str(error).splitlines()[0]}). Write it with ordinary ops; a custom autograd "
            "function needs setup_context, or w + (q - w).detach() instead"
        ) from error
    finally:
        drawn = draws.restore()
    if drawn:
        raise UserError(
            f"{', '.join(found)} in {type(model).__name__}: the weight is computed with random numbers from {drawn}, which a step "
            "cannot repeat. Draw them in __init__ and keep them as a buffer"
        )
    return values


def _simplify(one: Weight, value: Tensor) -> None:
    layer, role = one.computation.layer, one.computation.role
    if (lists := layer._modules.pop("parametrizations", None)) is not None:
        layer.__class__ = type(layer).__bases__[0]
        assert isinstance(lists, nn.ModuleDict)
    for number in [number for number, hook in layer._forward_pre_hooks.items() if computes(hook) is not None]:
        del layer._forward_pre_hooks[number]
    for name in one.params:
        layer._parameters.pop(name.removeprefix("layer."), None)
    vars(layer).pop(role, None)
    layer._parameters[role] = nn.Parameter(value, requires_grad=bool(one.trains))
