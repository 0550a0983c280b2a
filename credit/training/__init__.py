"""Training runs: `train` trains one, resumes or reports it, `train_together` several that differ in seed."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.training.loop import train, train_together
    from credit.training.prepare import Prepared

__all__ = ["Prepared", "train", "train_together"]

__getattr__ = exports(__name__, {"train_together": "loop", "train": "loop", "Prepared": "prepare"})
