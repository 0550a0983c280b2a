"""Registries: everything that is chosen by a word is a component of a family, registered under the word.

The package declares its own components beside their options, in modules that import no torch (`HOMES`). A component of a
user's is found by its name: registered in the process, in a file ``<family>/<name>.py`` of a ``--config-dir`` folder, or
under the entry-point group ``credit.<family>`` of an installed package.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from credit.core import user_files
from credit.core.errors import UserError, nearest
from credit.core.options import OPTION, Option, of_class, opt

T = TypeVar("T")

_RULES = (
    "credit.rules.backward.options",
    "credit.rules.lfp.options",
    "credit.rules.energy.options",
    "credit.rules.targets.options",
)

HOMES: dict[str, tuple[str, ...]] = {
    "rule": _RULES,
    "loss": _RULES[:1],
    "gate": _RULES[:1],
    "feedback_weights": _RULES[:1],
    "normalizer": _RULES[:1],
    "relevance": _RULES[1:2],
    "feedback": _RULES[1:2],
    "task": ("credit.tasks.options",),
    "arch": ("credit.models.options",),
    "data": ("credit.data.options",),
    "noise": ("credit.data.options",),
    "optimizer": ("credit.training.options",),
    "schedule": ("credit.training.options",),
    "logger": ("credit.runs.options",),
    "diagnostic": ("credit.diagnostics.options",),
    "figure": ("credit.tables.options",),
    "measure": ("credit.tables.measures.measures",),
    "runner": ("credit.tables.options",),
}
"""By family, the modules that declare the package's own components."""


_NONE = {"feedback_weights": "are no feedback weights"}
_RENAMED = {"signal": "loss", "transport": "feedback_weights"}


@dataclass(frozen=True)
class Component:
    """A registered component: its family, name, options and target.

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

    def call(self, *arguments: Any, values: Mapping[str, Any]) -> Any:
        """Call the object with its own options: as keyword arguments where it has such, else as an instance of their class.

        Args:
            arguments: what every component of the family is called with.
            values: checked options by name; those of other components are passed over.

        Raises:
            UserError: a user's object that cannot be called so.
        """
        target = self.load()
        names = [one.name for one in inspect.signature(target).parameters.values() if one.kind is one.KEYWORD_ONLY]
        if names or self.options in (_COMMON.get(self.family), NoOptions):
            keywords = {name: values[name] for name in names}
        else:
            arguments, keywords = (
                (*arguments, self.options(**{name: values[name] for name in of_class(self.options)})),
                {},
            )
        try:
            inspect.signature(target).bind(*arguments, **keywords)
        except TypeError as error:
            raise UserError(
                f"{self.family}={self.name}: {_place(target)}{inspect.signature(target)} is called with {len(arguments)} arguments "
                f"and its options as keyword-only arguments ({error}). Write its options behind a star, each with a default"
            ) from error
        return target(*arguments, **keywords)

    def make(self, values: Mapping[str, Any]) -> Any:
        """Return an instance of a component that is a class, made with its own options among ``values``."""
        return self.load()(**{name: values[name] for name in of_class(self.options)})


@dataclass(frozen=True)
class NoOptions:
    """The options of a component that has none."""


_REGISTERED: dict[str, dict[str, Component]] = {family: {} for family in HOMES}
_COMMON: dict[str, type] = {}
_EARLIER: dict[str, dict[str, str]] = {}
_OF_TORCH = ("params", "fused", "foreach", "capturable", "differentiable", "maximize")
"""Arguments of torch's optimizers that are no options."""


def rename(family: str, names: Mapping[str, str]) -> None:
    """Declare what to write instead of earlier names of a family."""
    _EARLIER.setdefault(family, {}).update(names)


def common(family: str, options: type) -> None:
    """Declare the options that every component of a family has beside its own."""
    _COMMON[family] = options


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
        _REGISTERED[family][name] = Component(family, name, options or _COMMON.get(family, NoOptions), target)


def provide(family: str, objects: Mapping[str, Any]) -> None:
    """Register objects of the package that are no classes or functions, by word; such as measures."""
    for name, target in objects.items():
        _REGISTERED[family][name] = Component(family, name, NoOptions, target)


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
        _REGISTERED[family][name] = Component(family, name, options_class(target, family), target, version)
        return target

    return keep


def check_family(family: str, given: str) -> None:
    """Refuse a family that does not exist."""
    if family in _RENAMED:
        raise UserError(f"{given}: the family is named {_RENAMED[family]} now")
    if family not in HOMES:
        raise UserError(f"{given}: there is no such family; {nearest(family, HOMES)}")


def options_class(target: Any, family: str = "") -> type:
    """Return the dataclass of an object's options, those that every component of the family has included; see `register`.

    Raises:
        UserError: an option without a default.
    """
    base = _COMMON.get(family, NoOptions)
    for own in (target, getattr(target, "Options", None)):
        if isinstance(own, type) and dataclasses.is_dataclass(own):
            if family not in _COMMON or issubclass(own, base):
                return own
            return dataclass(frozen=True)(type(own.__name__, (own, base), {}))
    is_class = isinstance(target, type)
    call = target.__init__ if is_class else target
    hints, known = get_type_hints(call), of_class(base)
    fields: list[Any] = [
        (
            one.name,
            known[one.name].hint if one.name in known else hints.get(one.name, Any),
            _field(one, known, _place(target)),
        )
        for one in inspect.signature(call).parameters.values()
        if one.kind is one.KEYWORD_ONLY or (family == "optimizer" and one.default is not one.empty)
        if not (family == "optimizer" and one.name in _OF_TORCH)
    ]
    return (
        dataclasses.make_dataclass(f"{target.__name__}_options", fields, bases=(base,), frozen=True) if fields else base
    )


def _field(argument: inspect.Parameter, known: Mapping[str, Option], owner: str) -> Any:
    """Return the field of an argument; one that every component of the family has keeps its meaning and range."""
    if argument.default is argument.empty and argument.name not in known:
        raise UserError(f"{owner}: its option '{argument.name}' has no default; write {argument.name}=...")
    held = known.get(argument.name)
    default = held.default if held and argument.default is argument.empty else argument.default
    made = opt(list(default) if isinstance(default, tuple) else default, "")
    if held:
        made.metadata = {OPTION: dataclasses.replace(held.meta, when="")}
    return made


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
    if found is None and (instead := renamed(family, name)):
        raise UserError(f"{key or family}={name}: {instead}")
    if found is None:
        raise UserError(
            f"{key or family}={name}: there {_NONE.get(family, f'is no {family}')} of this name; {nearest(name, names(family))}"
        )
    return found


def renamed(family: str, name: object) -> str:
    """Return what to write instead of an earlier name of a family; empty: it was none."""
    _home(family)
    if str(name) in _EARLIER.get(family, {}):
        return _EARLIER[family][str(name)]
    kind = of_class(_COMMON.get(family, NoOptions)).get("kind")
    return kind.meta.renamed.get(str(name), "") if kind else ""


def known(family: str, name: object, *, also: Iterable[str] = ()) -> Component | None:
    """Return the component registered as ``name``, or None; see `find`."""
    if not isinstance(name, str):
        return None
    _home(family)
    entries = _REGISTERED[family]
    for folder, file in [(family, name), *((folder, one) for one in (name, *also) for folder in (family, "rule"))]:
        if name in entries:
            break
        if (
            (module := user_files.load(folder, file)) is not None
            and folder == family
            and name not in entries
            and file == name
        ):
            _take_plain(family, name, module)
    if name not in entries:
        for entry in _installed(family):
            if entry.name == name:
                entry.load()
    return entries.get(name)


def _take_plain(family: str, name: str, module: ModuleType) -> None:
    """Register the function or class that a file defines under the file's own name: ``mynet`` or ``MyNet`` of ``mynet.py``."""
    plain = name.replace("_", "").lower()
    for word, target in vars(module).items():
        if word.replace("_", "").lower() == plain and callable(target) and target.__module__ == module.__name__:
            register(family, name)(target)
            return


def names(family: str) -> list[str]:
    """Return the names of a family, sorted, the user's and those of installed packages too; imports none of theirs."""
    _home(family)
    return sorted({*_REGISTERED[family], *user_files.names(family), *installed(family)})


def installed(family: str) -> list[str]:
    """Return the names that installed packages offer, sorted; imports none of them."""
    return sorted(entry.name for entry in _installed(family))


def built_in(family: str) -> list[str]:
    """Return the names that this package declares, in the order of their declaration."""
    _home(family)
    return [name for name, one in _REGISTERED[family].items() if isinstance(one.target, str)]


@contextlib.contextmanager
def temporary() -> Iterator[None]:
    """Return a context at whose end everything that was registered in it is forgotten."""
    before = {family: set(entries) for family, entries in _REGISTERED.items()}
    try:
        yield
    finally:
        for family, entries in _REGISTERED.items():
            for name in entries.keys() - before[family]:
                if not isinstance(
                    entries[name].target, str
                ):  # the package's are declared once, when they are first asked for
                    del entries[name]


def registered(family: str) -> Iterator[Component]:
    """Yield the components of a family that are registered so far, in that order."""
    _home(family)
    yield from list(_REGISTERED[family].values())


def users_modules(name: str) -> list[str]:
    """Return the modules outside this package that registered a component of this name, in any family."""
    held = [entries[name] for entries in _REGISTERED.values() if name in entries]
    return [str(one.target.__module__) for one in held if not isinstance(one.target, str)]


def _home(family: str) -> None:
    """Import what declares the package's components of a family; forget those of users' folders that are no longer in use."""
    for module in HOMES[family]:
        importlib.import_module(module)
    entries = _REGISTERED[family]
    for name in [name for name, one in entries.items() if not isinstance(one.target, str)]:
        if not user_files.in_use(entries[name].target.__module__):
            del entries[name]


def _place(target: Any) -> str:
    named = target if hasattr(target, "__qualname__") else type(target)  # an object is named by its class
    return target.replace(":", ".") if isinstance(target, str) else f"{named.__module__}.{named.__qualname__}"


@functools.cache
def _installed(family: str) -> tuple[EntryPoint, ...]:
    if old := [entry.name for entry in entry_points(group="credit.rules")]:
        raise UserError(
            f"an installed package offers the rule '{old[0]}' under the entry-point group credit.rules, which is named credit.rule "
            "now"
        )
    return tuple(entry_points(group=f"credit.{family}"))
