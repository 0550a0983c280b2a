"""Optimization: optimizers by kind and by class name, what is measured of them, and averaged weights."""

from credit.training.optimization.build import (
    averaged,
    build_optimizer,
    load_optimizer,
    nonfinite_parameter,
    set_learning_rate,
)

__all__ = ["averaged", "build_optimizer", "load_optimizer", "nonfinite_parameter", "set_learning_rate"]
