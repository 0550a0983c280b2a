"""Find the runner of a table's cells: training, decision trees for comparison, shapes of gates, error signals at the input, timing.

A runner is a module, or a class, with two functions, registered in the family ``runner`` (`credit.core.registry`):

    folder(config, options) -> Path      the folder of the run's files, below the folder of all runs; creates nothing
    run(config, options) -> dict         runs in a process of its own, writes result.json atomically, and returns its content

and, optionally, ``refuse(config, options)``, which raises `UserError` before any job starts if the job cannot run, and
``estimate(config, options) -> float``, the estimated seconds of a job.
Jobs of the runner ``train`` may be run by any Hydra launcher. Jobs of other runners run on this machine, and those of ``timing``
one at a time. A runner is imported when it is used, so that reading a table does not import torch.
"""

from typing import Any

from credit.core.registry import find


def runner(name: str) -> Any:
    """Return the runner registered under a name, imported.

    Raises:
        UserError: no runner has that name.
    """
    return find("runner", name).load()
