"""Detect changes of a module after tracing: of its submodules, parameters, modes and options."""

from copy import copy
from operator import attrgetter, getitem, is_
from typing import Any

import torch
from torch import nn

from credit.engine.guards.contents import containers
from credit.engine.guards.model import HOOKS, TENSOR_HOOKS
from credit.engine.weights import by_hooks

_REQUIRES_GRAD = attrgetter("requires_grad")
_GRADIENT_HOOKS = [attrgetter(kind) for kind in TENSOR_HOOKS]
_OF_EVERY_MODULE = set(vars(nn.Module()))
_COUNTED = ("_modules", "_parameters", "_buffers")


class _Without:
    """A module's attributes but for some names, as a dict to be compared."""

    def __init__(self, attributes: dict[str, Any], names: frozenset[str]) -> None:
        self._attributes, self._names = attributes, names

    def __eq__(self, other: object) -> bool:
        return {k: v for k, v in self._attributes.items() if k not in self._names} == other


class Traced:
    """The traced module as it was when its plan was built.

    ``changed`` is called at every step, so its comparisons run over whole lists in C: 1 to 2 microseconds a submodule.
    Lists, dicts, sets and configurations among the modules' attributes are compared too; globals and attributes of classes are not.

    Args:
        model: the module, as it is when it is traced.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        own = [vars(module) for module in modules]
        # What forward pre-hooks of torch compute is another tensor after each forward pass.
        made = [frozenset(by_hooks(module)) for module in modules]
        self._now: list[Any] = [_Without(one, names) if names else one for one, names in zip(own, made, strict=True)]
        self._then = [{k: v for k, v in one.items() if k not in names} for one, names in zip(own, made, strict=True)]
        seen: set[int] = set()
        inside = [
            one
            for attributes in self._then
            for key, value in attributes.items()
            if key not in _OF_EVERY_MODULE
            for _, one in containers(value, key, seen)
        ]
        self._hooks = [attributes[kind] for attributes in own for kind in HOOKS]
        self._hooked = list(map(len, self._hooks))
        # Values by the dict and the name that they are found under, compared by identity.
        tables = [attributes[kind] for attributes in own for kind in ("_modules", "_parameters")]
        tables += [{k: v for k, v in attributes.items() if isinstance(v, torch.Tensor)} for attributes in self._then]
        self._counted = [attributes[kind] for attributes in own for kind in _COUNTED]
        self._counts = list(map(len, self._counted))
        owners = [attributes[kind] for attributes in own for kind in ("_modules", "_parameters")] + own
        places = [
            (owner, name, value) for owner, table in zip(owners, tables, strict=True) for name, value in table.items()
        ]
        self._owners, self._names, self._values = ([place[at] for place in places] for at in range(3))
        # Last, as the others count the modules.
        self._now, self._then = [*self._now, *inside], [*self._then, *map(copy, inside)]
        self._parameters = [value for value in self._values if isinstance(value, nn.Parameter)]
        self._trainable = list(map(_REQUIRES_GRAD, self._parameters))

    def changed(self) -> bool:
        """Return whether a submodule, parameter, mode, option, hook or plain attribute has changed since the model was traced."""
        try:
            if self._now != self._then or list(map(len, self._hooks)) != self._hooked:
                return True
        except (RuntimeError, ValueError):  # arrays were compared element by element, so they are other objects
            return True
        if list(map(len, self._counted)) != self._counts:
            return True
        try:
            if not all(map(is_, map(getitem, self._owners, self._names), self._values)):
                return True
        except KeyError:
            return True
        if any(any(map(kind, self._parameters)) for kind in _GRADIENT_HOOKS):
            return True
        return list(map(_REQUIRES_GRAD, self._parameters)) != self._trainable
