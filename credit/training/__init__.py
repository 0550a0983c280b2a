"""Training runs: `prepare` checks one, `train` trains, resumes or reports one, `train_together` several that differ in seed."""

from credit.training.loop import train, train_together
from credit.training.prepare import Prepared, prepare

__all__ = ["Prepared", "prepare", "train", "train_together"]
