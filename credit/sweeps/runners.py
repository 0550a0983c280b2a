"""What runs a table's cells: ordinary training, trees for comparison, the shapes of gates, signals at the input, and timing.

A runner is a module with two functions:

    folder(config, options) -> Path      where the run's files go, below the folder of all runs; makes nothing
    run(config, options) -> dict         runs it in a process of its own, writes result.json whole, and returns it

and, where it can tell before any job starts, ``refuse(config, options)``, which raises `UserError`, and
``estimate(config, options) -> float``, about how many seconds a job takes.
Imported where used: what only reads a table needs no torch.
"""

from importlib import import_module
from types import ModuleType

from credit.core.errors import UserError, nearest

RUNNERS = {
    "train": "credit.tables.runners.training",
    "trees": "credit.tables.runners.trees",
    "gates": "credit.tables.runners.gates",
    "shattering": "credit.tables.runners.shattering",
    "timing": "credit.tables.runners.timing",
}
"""Module of each runner. Jobs of `train` may go to any Hydra launcher; the others run on this machine, `timing` alone."""


def runner(name: str) -> ModuleType:
    """Return the module of a runner.

    Raises:
        UserError: there is none of that name.
    """
    if name not in RUNNERS:
        raise UserError(f"unknown runner '{name}': {nearest(name, RUNNERS)}")
    return import_module(RUNNERS[name])
