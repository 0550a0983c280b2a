"""The tasks by name. Imports no torch."""

from credit.core.registry import declare

declare(
    "task",
    {name: f"credit.tasks.{name}:{name.capitalize()}" for name in
     ("classification", "binary", "mixtures", "regression", "tokens", "reconstruction")},
)  # fmt: skip
