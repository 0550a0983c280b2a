"""Find the containers in a module's attributes: lists, dicts and sets, and objects of plain values, such as a configuration."""

from collections.abc import Iterator
from typing import Any

PLAIN = bool | int | float | str | bytes | complex | None
"""Types of values that are compared as they are."""


def containers(value: Any, name: str, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield every list, dict and set that a value is or contains, each once, with the name of the attribute it was found under.

    Args:
        value: an attribute's. An object whose attributes are all plain values or containers (a namespace, a dataclass) counts
            as the dict of its attributes; other objects are not looked into.
        name: the attribute's.
        seen: ids of containers that were yielded already; extended.
    """
    seen = set() if seen is None else seen
    if _of_plain_values(value):
        value = vars(value)
    if not isinstance(value, list | tuple | dict | set) or id(value) in seen:
        return
    seen.add(id(value))
    if not isinstance(value, tuple):
        yield name, value
    for item in list(value.values() if isinstance(value, dict) else value):
        yield from containers(item, name, seen)


def _of_plain_values(value: Any) -> bool:
    attributes = getattr(value, "__dict__", None)
    return (
        isinstance(attributes, dict)
        and bool(attributes)
        and not isinstance(value, type)
        and all(isinstance(one, PLAIN | list | tuple | dict | set) for one in attributes.values())
    )
