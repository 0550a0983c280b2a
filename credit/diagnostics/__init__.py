"""Diagnostics: quantities that a run measures of its rule and its network."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.diagnostics.base import Diagnostic, check, find, register

__all__ = ["Diagnostic", "check", "find", "register"]

__getattr__ = exports(__name__, {"Diagnostic check find register": "base"})
