"""Training runs: `prepare` checks one, `train` trains, resumes or reports one, `train_together` several that differ in seed."""

from credit.training.fit import train
from credit.training.prepare import Prepared, prepare
from credit.training.together import train_together

__all__ = ["Prepared", "prepare", "train", "train_together"]
