"""Registries: everything that is chosen by a word is a component of a family, registered under the word.

The package declares its own components beside their options, in modules that import no torch (`HOMES`). A component of a
user's is found by its name: registered in the process, in a file ``<family>/<name>.py`` of a ``--config-dir`` folder, or
under the entry-point group ``credit.<family>`` of an installed package.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, get_type_hints

from credit.core import user_files
from credit.core.errors import UserError, nearest
from credit.core.options import opt

T = TypeVar("T")

_RULES = ("credit.rules.backward.options", "credit.rules.lfp.options", "credit.rules.energy.options", "credit.rules.targets.options")

HOMES: dict[str, tuple[str, ...]] = {
    "rule": _RULES,
    "loss": _RULES[:1],
    "gate": _RULES[:1],
    "feedback_weights": _RULES[:1],
    "normalizer": _RULES[:1],
    "relevance": _RULES[1:2],
    "feedback": _RULES[1:2],
    "arch": ("credit.models.options",),
    "data": ("credit.data.options",),
    "noise": ("credit.data.options",),
    "optimizer": ("credit.training.options",),
    "schedule": ("credit.training.options",),
    "logger": ("credit.runs.options",),
    "diagnostic": ("credit.diagnostics.options",),
    "figure": ("credit.tables.options",),
    "measure": ("credit.tables.options",),
    "runner": ("credit.tables.options",),
}
"""By family, the modules that declare the package's own components."""


@dataclass(frozen=True)
class Component:
    """What is registered under a word.

    Attributes:
        family: of `HOMES`.
        name: the word.
        options: the frozen dataclass of its options.
        target: the object, or where it is: ``module:name``, imported by `load`.
        version: raised where a default or the meaning of an option changes; part of a run's identity.
    """

    family: str
    name: str
    options: type
    target: Any
    version: int = 1

    def load(self) -> Any:
        """Return the object: a class, or a function."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        found = importlib.import_module(module)
        return getattr(found, name) if name else found


@dataclass(frozen=True)
class NoOptions:
    """The options of a component that has none."""


_REGISTERED: dict[str, dict[str, Component]] = {family: {} for family in HOMES}


def component(family: str, name: str, target: str, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Return a decorator for the options of one of the package's components, which names where the component is.

    Args:
        family: of `HOMES`.
        name: the word that chooses it.
        target: ``module:name``.
        version: see `Component`.
    """

    def keep(options: type[T]) -> type[T]:
        _REGISTERED[family][name] = Component(family, name, options, target, version)
        return options

    return keep


def declare(family: str, targets: Mapping[str, str], options: type | None = None) -> None:
    """Declare components of the package that share their options, or have none: ``module:name`` by word."""
    for name, target in targets.items():
        _REGISTERED[family][name] = Component(family, name, options or NoOptions, target)


def register(family: str, name: str, *, version: int = 1) -> Callable[[T], T]:
    """Return a decorator that registers a class or function of one's own as ``name`` of ``family``.

    Its options are the fields of a dataclass, those of an inner class ``Options``, or keyword-only arguments with defaults.

    Args:
        family: of `HOMES`.
        name: the word that chooses it.
        version: raise it where a default, or what an option means, changes: runs then have other names.

    Raises:
        UserError: there is no such family, or the name is taken by something else.
    """
    check_family(family, f"register('{family}', '{name}')")

    def keep(target: T) -> T:
        _home(family)
        held = _REGISTERED[family].get(name)
        if held is not None and _place(held.target) != _place(target):
            raise UserError(f"{family} '{name}' is already registered, by {_place(held.target)}; choose another name")
        _REGISTERED[family][name] = Component(family, name, options_class(target), target, version)
        return target

    return keep


def check_family(family: str, given: str) -> None:
    """Refuse a family that does not exist."""
    if family not in HOMES:
        raise UserError(f"{given}: there is no such family; {nearest(family, HOMES)}")


def options_class(target: Any) -> type:
    """Return the dataclass of an object's options; see `register`."""
    if isinstance(target, type) and dataclasses.is_dataclass(target):
        return target
    inner = getattr(target, "Options", None)
    if isinstance(inner, type) and dataclasses.is_dataclass(inner):
        return inner
    call = target.__init__ if isinstance(target, type) else target
    arguments = [one for one in inspect.signature(call).parameters.values() if one.kind is one.KEYWORD_ONLY]
    hints = get_type_hints(call)
    fields: list[Any] = [(one.name, hints.get(one.name, Any), _field(one)) for one in arguments]
    return dataclasses.make_dataclass(f"{target.__name__}_options", fields, frozen=True) if fields else NoOptions


def _field(argument: inspect.Parameter) -> Any:
    default = list(argument.default) if isinstance(argument.default, tuple) else argument.default
    return opt(None if default is argument.empty else default, "")


def find(family: str, name: object, *, key: str = "", also: Iterable[str] = ()) -> Component:
    """Return the component registered as ``name``, looking in the user's folders and installed packages too.

    Args:
        family: of `HOMES`.
        name: the word.
        key: the option that chose it, for the message; None: the family.
        also: further names of the user's files in which it may be, such as the rule that chose it.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    found = known(family, name, also=also)
    if found is None:
        raise UserError(f"{key or family}={name}: there is no {family.replace('_', ' ')} of this name; {nearest(name, names(family))}")
    return found


def known(family: str, name: object, *, also: Iterable[str] = ()) -> Component | None:
    """Return the component registered as ``name``, or None; see `find`."""
    if not isinstance(name, str):
        return None
    _home(family)
    entries = _REGISTERED[family]
    for folder, file in [(family, name), *((folder, one) for one in (name, *also) for folder in (family, "rule"))]:
        if name in entries:
            break
        user_files.load(folder, file)
    if name not in entries:
        for entry in _installed(family):
            if entry.name == name:
                entry.load()
    return entries.get(name)


def names(family: str) -> list[str]:
    """Return the names of a family, sorted, the user's and those of installed packages too; imports none of theirs."""
    _home(family)
    return sorted({*_REGISTERED[family], *user_files.names(family), *(entry.name for entry in _installed(family))})


def built_in(family: str) -> list[str]:
    """Return the names that this package declares, in the order of their declaration."""
    _home(family)
    return [name for name, one in _REGISTERED[family].items() if _place(one.target).startswith("credit.")]


def registered(family: str) -> Iterator[Component]:
    """Yield the components of a family that are registered so far, in that order."""
    _home(family)
    yield from list(_REGISTERED[family].values())


def _home(family: str) -> None:
    for module in HOMES[family]:
        importlib.import_module(module)


def _place(target: Any) -> str:
    return target.replace(":", ".") if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"


@functools.cache
def _installed(family: str) -> tuple[EntryPoint, ...]:
    if old := [entry.name for entry in entry_points(group="credit.rules")]:
        raise UserError(
            f"an installed package offers the rule '{old[0]}' under the entry-point group credit.rules, which is named credit.rule now"
        )
    return tuple(entry_points(group=f"credit.{family}"))
