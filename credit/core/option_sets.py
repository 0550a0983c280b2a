"""The options of one kind: those of its own class and those of the components that it chooses."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from credit.core import registry
from credit.core.errors import UserError, nearest
from credit.core.options import Option, convert, of_class, words, written
from credit.core.registry import Component


class OptionSet:
    """The options of a kind of a group, as ``rule.kind=dual``.

    Args:
        group: the word before the dot: ``rule``, ``data``, ``trainer``.
        options: the dataclass of the kind's own options.
        kind: its name; empty for a group without kinds.
        version: of the kind; see `credit.core.registry.Component`.
    """

    def __init__(self, group: str, options: type, kind: str = "", version: int = 1) -> None:
        self.group, self.kind, self.options, self.version = group, kind, options, version
        self.own = of_class(options)
        self.choosing = {name: one for name, one in self.own.items() if one.meta.family}

    def check(self, given: Mapping[str, Any], label: str = "") -> dict[str, Any]:
        """Return every option that is read, given or not, typed and in range.

        Args:
            given: values by name.
            label: whose they are, for messages; None: the kind.

        Raises:
            UserError: an unknown or renamed option, a value that does not fit, or one that would change nothing.
        """
        label = label or (f"{self.group}={self.kind}" if self.kind else self.group)
        values = {name: self._value(one, given, label) for name, one in self.own.items()}
        chosen = self.components(values, label)
        read = {name: one for part in chosen.values() for name, one in of_class(part.options).items()}
        values |= {name: self._value(one, given, label) for name, one in read.items()}
        for name, value in given.items():
            if name not in values:
                self._refuse(name, value, chosen, label)
        for name, one in {**self.own, **read}.items():
            if one.meta.when and values[name] != one.default:
                self._refuse_idle(one, values)
        self.make(values)
        for part in chosen.values():
            _made(part.options, values)
        return values

    def make(self, values: Mapping[str, Any]) -> Any:
        """Return the kind's own options as an instance of its class, from checked values."""
        return _made(self.options, values)

    def components(self, values: Mapping[str, Any], label: str = "") -> dict[str, Component]:
        """Return the component that each choice names, by the option's name; of a mapping by ``option.key`` for each of its keys.

        Words that the option's type lists, such as ``auto``, name none.

        Raises:
            UserError: there is none of that name.
        """
        also = (label.split("'")[1],) if "'" in label else ()
        return {
            key: registry.find(one.meta.family, word, key=self._key(key), also=also)
            for option, one in self.choosing.items()
            for key, word in _chosen(one, values[option]).items()
        }

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return checked values without those that `Meta.when` leaves unread; other keys (``kind``, ``name``) stay."""
        options = self._options(values)
        return {name: value for name, value in values.items() if name not in options or _reads(options[name], values)}

    def every(self) -> Iterator[Option]:
        """Yield the own options, then those of every component that could be chosen, each with its owner."""
        yield from self.own.values()
        by_family = {one.meta.family: one for one in reversed(self.choosing.values())}  # of several, the first
        for one in reversed(by_family.values()):
            for part in registry.registered(one.meta.family):
                for option in of_class(part.options).values():
                    yield dataclasses.replace(option, owner=(one.name, part.name))

    def condition(self, option: Option) -> str | None:
        """Return when an option is read, in words, such as ``with rule.damped=true``; None: never of this kind; empty: always."""
        clauses = [clause for clause in option.meta.when.split(";") if clause]
        if not all(_holds(clause, {"kind": self.kind}) for clause in clauses if _parts(clause)[0] == "kind"):
            return None
        defaults = {one.name: one.default for one in self.every()}
        return " and ".join(self._needed(clause, defaults) for clause in clauses if _parts(clause)[0] != "kind")

    def decisive(self, values: Mapping[str, Any], *, speed: bool = False) -> dict[str, Any]:
        """Return the values that decide a result and differ from their defaults, and versions of components above 1.

        Args:
            values: as `check` returns them.
            speed: also the options that decide the speed alone.
        """
        found = {}
        for name, one in self._options(values).items():
            value = one.meta.same.get(values[name], values[name]) if _hashable(values[name]) else values[name]
            if (one.meta.result or (speed and one.meta.speed)) and value != one.default and _reads(one, values):
                found[name] = value
        versions = {name: part.version for name, part in self.components(values).items() if part.version > 1}
        if self.version > 1:
            versions["kind"] = self.version
        return {**found, **({"versions": versions} if versions else {})}

    def _options(self, values: Mapping[str, Any]) -> dict[str, Option]:
        """Return the own options and those of the chosen components, by name."""
        parts = self.components(values).values()
        return {**self.own, **{name: one for part in parts for name, one in of_class(part.options).items()}}

    def _key(self, name: str) -> str:
        return f"{self.group}.{name}" if self.group else name

    def _value(self, option: Option, given: Mapping[str, Any], label: str) -> Any:
        if option.name not in given:
            if option.default is dataclasses.MISSING:
                known = {one.name for one in self.every()}
                for name in (name for name in given if name not in known):  # such as this one, misspelt
                    self._refuse(name, given[name], {}, label)
                raise UserError(
                    f"{self._key(option.name)} is missing: {label} has no default for it; write {self._key(option.name)}=..."
                )
            return option.default.copy() if isinstance(option.default, list | dict) else option.default
        return convert(self._key(option.name), given[option.name], option, label)

    def _refuse(self, name: str, value: Any, chosen: Mapping[str, Component], label: str) -> None:
        """Refuse an option that nothing chosen has, unless it is another component's and at its default."""
        key = f"{self._key(name)}={written(value)}"
        if instead := getattr(self.options, "MOVED", {}).get(name):
            raise UserError(f"{key}: {instead.format(value=written(value))}")
        every = list(self.every())
        owners = [one for one in every if one.name == name and one.owner]
        read = [*self.own.values(), *(one for part in chosen.values() for one in of_class(part.options).values())]
        for one in read if owners else every:
            if name in one.meta.was:
                raise UserError(f"{key}: the option is named {self._key(one.name)} now")
        if any(one.default == value for one in owners):
            return
        if owners:
            wheres = ", ".join(f"{self.group}.{one.owner[0]}={one.owner[1]}" for one in owners if one.owner)
            raise UserError(
                f"{key} would change nothing: none of this {self.group}'s choices read it; it belongs to {wheres}"
            )
        others = [part.name for part in self._siblings() if name in of_class(part.options)]
        if others:
            have = f"{', '.join(others[:-1])} and {others[-1]} have" if len(others) > 1 else f"{others[0]} has"
            raise UserError(f"{label} has no option '{name}' ({have} it): {nearest(name, [one.name for one in every])}")
        raise UserError(f"{key}: {label} has no such option; {nearest(name, [one.name for one in every])}")

    def _siblings(self) -> list[Component]:
        return list(registry.registered(self.group)) if self.kind and self.group != "rule" else []

    def _refuse_idle(self, option: Option, values: Mapping[str, Any]) -> None:
        for clause in filter(None, option.meta.when.split(";")):
            if not _holds(clause, values):
                name = _parts(clause)[0]
                raise UserError(
                    f"{self._key(option.name)}={written(values[option.name])} would change nothing: it is read "
                    f"{self._needed(clause, values)} alone, and here {self._shown(name)}={written(values.get(name))}; leave it "
                    "out, or change that too"
                )

    def _needed(self, clause: str, values: Mapping[str, Any]) -> str:
        """Return what a clause of `Meta.when` asks for, in words."""
        name, negated, wanted = _parts(clause)
        if negated:
            others = " and ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
            return f"with {self._shown(name)} other than {others}"
        if wanted:
            return "with " + " or ".join(f"{self._shown(name)}={word}" for word in wanted)
        truth = {bool: "=true", list: " that names something"}.get(type(values.get(name)), " above 0")
        return f"with {self._shown(name)}{truth}"

    def _shown(self, name: str) -> str:
        return self.group if name == "kind" else self._key(name)


def of_kind(group: str, kind: str) -> OptionSet:
    """Return the options of a kind.

    Raises:
        UserError: there is no such kind.
    """
    return _of_component(registry.find(group, kind, key=f"{group}.kind"))


@functools.cache
def _of_component(found: Component) -> OptionSet:
    return OptionSet(found.family, found.options, found.name, found.version)


def of_options(group: str, options: type) -> OptionSet:
    """Return the options of a class, the same object each time."""
    return _of_class(group, options)


@functools.cache
def _of_class(group: str, options: type) -> OptionSet:
    return OptionSet(group, options)


def _chosen(option: Option, value: Any) -> dict[str, str]:
    """Return the words that an option's value names components by, each by its key."""
    if isinstance(value, Mapping):
        return {f"{option.name}.{key}": word for key, word in value.items()}
    return {} if value is None or value in words(option.hint) else {option.name: value}


def _made(options: type, values: Mapping[str, Any]) -> Any:
    return options(**{name: values[name] for name in of_class(options)})


def _reads(option: Option, values: Mapping[str, Any]) -> bool:
    return all(_holds(clause, values) for clause in option.meta.when.split(";") if clause)


def _holds(clause: str, values: Mapping[str, Any]) -> bool:
    name, negated, wanted = _parts(clause)
    value = values.get(name)
    if not wanted:
        return bool(value)
    return negated != any(written(entry) in wanted for entry in (value if isinstance(value, list) else [value]))


def _parts(clause: str) -> tuple[str, bool, list[str]]:
    """Return the option's name, whether the words are those it must not be, and the words, of a clause of `Meta.when`."""
    name, _, wanted = clause.strip().partition("=")
    return name.removesuffix("!"), name.endswith("!"), wanted.split("|") if wanted else []


def _hashable(value: Any) -> bool:
    return not isinstance(value, list | dict)
