"""Names: every rule class, signal, feedback, gate, transport and normalizer is registered under the word a config uses for it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from credit.core.errors import UserError, nearest
from credit.core.options import typed

T = TypeVar("T")

FAMILIES: dict[str, dict[str, Any]] = {
    family: {} for family in ("rule", "signal", "feedback", "gate", "transport", "relevance", "normalizer")
}


def register(family: str, name: str) -> Callable[[T], T]:
    """Return a class decorator that makes the class known as ``name`` in ``family``.

    Args:
        family: rule, signal, feedback, gate, transport, relevance or normalizer.
        name: the word in ``rule.<family>=<name>`` (for a rule: its ``kind``).

    Raises:
        UserError: there is no such family, or the name is taken by another class.
    """
    if family not in FAMILIES:
        raise UserError(f"register('{family}', '{name}'): there is no such family; {nearest(family, FAMILIES)}")

    def keep(cls: T) -> T:
        held = FAMILIES[family].get(name)
        if held is not None and held.__qualname__ != cls.__qualname__:  # type: ignore[attr-defined]  # T is a class
            raise UserError(
                f"{family} '{name}' is already registered by {held.__module__}.{held.__qualname__}; choose another name"
            )
        FAMILIES[family][name] = cls
        return cls

    return keep


def lookup(family: str, name: object) -> Any:
    """Return the class registered as ``name``, or refuse with the nearest name."""
    if name not in FAMILIES[family]:
        known = nearest(name, FAMILIES[family])
        if family == "rule":
            raise UserError(
                f"rule.kind={name}: there is no such kind of rule; {known}. Rules are chosen by name: rule=bp"
            )
        raise UserError(f"rule.{family}={name}: there is no {family} of this name; {known}")
    return FAMILIES[family][str(name)]


def fields(cls: Any) -> dict[str, tuple[Any, Any]]:
    """Return (annotation, default) by name of a component's options: the fields of its dataclass."""
    if not dataclasses.is_dataclass(cls):
        return {}
    hints = get_type_hints(cls)
    return {f.name: (hints[f.name], f.default) for f in dataclasses.fields(cls) if f.init}


def make(cls: Any, owner: str, options: Mapping[str, Any]) -> Any:
    """Build a component from those of ``options`` that are its fields, checking their types."""
    known = fields(cls)
    given = {name: typed("rule", owner, name, options[name], *known[name]) for name in known if name in options}
    return cls(**given)
