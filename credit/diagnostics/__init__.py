"""Measured quantities of rules: what a run measures of its own steps, a step's speed, the battery every rule passes."""

from credit.diagnostics.base import Diagnostic, find, register

__all__ = ["Diagnostic", "find", "register"]
