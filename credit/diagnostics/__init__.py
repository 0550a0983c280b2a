"""Measured quantities of rules: what a run measures of its own steps."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.diagnostics.base import Diagnostic, find, register

__all__ = ["Diagnostic", "find", "register"]

__getattr__ = exports(__name__, {"Diagnostic find register": "base"})
