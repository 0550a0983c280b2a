"""Packages that import what they export on first use, so that a module of theirs may be read without torch."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` (PEP 562) of a package.

    Args:
        package: its ``__name__``.
        homes: by exported names, separated by spaces, the module below the package that defines them.
    """
    places = {name: f"{package}.{module}" for names, module in homes.items() for name in names.split()}

    def attribute(name: str) -> Any:
        if name in places:
            return getattr(importlib.import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
