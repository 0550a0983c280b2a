"""Training of runs: `train` for one run, `train_together` for several that differ only in their seed."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.training.loop import train, train_together
    from credit.training.prepare import Prepared

__all__ = ["Prepared", "train", "train_together"]

__getattr__ = exports(__name__, {"train_together": "loop", "train": "loop", "Prepared": "prepare"})
