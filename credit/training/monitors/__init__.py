"""Monitors of a training run: finite numbers, dead layers, large losses, diagnostics, stop signals, early stopping."""
