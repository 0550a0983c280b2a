"""Training runs: `prepare` checks one, `train` trains, resumes or reports one."""

from credit.training.fit import train
from credit.training.prepare import Prepared, prepare

__all__ = ["Prepared", "prepare", "train"]
