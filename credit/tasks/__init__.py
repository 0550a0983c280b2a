"""Tasks: what a network's output means, how a loss scores it, and what an evaluation measures of it.

One file a task. `credit.tasks.base.Task` is the contract, and `credit.tasks.base.of` returns a task by its name.
"""
