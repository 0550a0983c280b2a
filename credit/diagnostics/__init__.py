"""Measured quantities of rules: alignment with backprop, speed and memory of a step, the battery every rule passes."""

from credit.diagnostics.alignment import alignment

__all__ = ["alignment"]
