"""What runs a table's cells: ordinary training, trees for comparison, the shapes of gates, signals at the input, and timing.

A runner is a module, or a class, with two functions, registered in the family ``runner`` (`credit.core.registry`):

    folder(config, options) -> Path      where the run's files go, below the folder of all runs; makes nothing
    run(config, options) -> dict         runs it in a process of its own, writes result.json whole, and returns it

and, where it can tell before any job starts, ``refuse(config, options)``, which raises `UserError`, and
``estimate(config, options) -> float``, about how many seconds a job takes.
Jobs of the runner ``train`` may go to any Hydra launcher; the others run on this machine, ``timing`` alone.
Imported where used: what only reads a table needs no torch.
"""

from typing import Any

from credit.core.registry import find


def runner(name: str) -> Any:
    """Return a runner.

    Raises:
        UserError: there is none of that name.
    """
    return find("runner", name).load()
