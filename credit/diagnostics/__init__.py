"""Diagnostics: quantities that a run measures of its rule and its network."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.diagnostics.base import Diagnostic, find, register

__all__ = ["Diagnostic", "find", "register"]

__getattr__ = exports(__name__, {"Diagnostic find register": "base"})
