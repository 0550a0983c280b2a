"""credit: train with any credit-assignment rule.

    rule = credit.rule("lisp_margin", model)
    rule.step(x, y)          # fills .grad of every trainable parameter
    optimizer.step()

Importing the package is cheap; torch is imported when a rule is asked for.

The floors of the package. A module imports from its own folder and from lower floors, never from higher ones
(``tests/test_house.py``):

    cli                   the commands: parsing and printing
    tables                published tables: spec, runs, measures, claims, report, figures, runners
    benchmarks, testing   time and memory of steps; the battery for rules
    sweeps                many runs: jobs, processes, launchers, estimates
    training              one run: the loop, its backends, monitors, and state
    diagnostics           what is measured of a rule, one file a quantity
    runs                  records of runs: identity, folder, metrics, result, provenance, mirrors
    rules                 credit-assignment rules: backward, lfp, energy, targets
    models, data          networks by name; data sets, splits, noise
    engine                trace, plan, rows, ops, inference: a network without autograd
    tasks                 what an output means: losses' targets, measures; one file a task
    core                  options, registry, errors, randomness, configuration
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from credit.core.options import opt
    from credit.rules.backward.rule import BackwardRule
    from credit.rules.base import Rule, Step
    from credit.rules.options import RuleOptions
    from credit.rules.traits import Traits
    from credit.rules.wrap import wrap
    from credit.training.state.loading import load

    def rules() -> list[str]:
        """Return the names of all rules (at run time, the package ``credit.rules``, which can be called)."""


__all__ = [
    "Rule",
    "RuleOptions",
    "Step",
    "BackwardRule",
    "Traits",
    "load",
    "opt",
    "register",
    "register_rule",
    "rule",
    "rules",
    "use",
    "wrap",
]

_HOMES = {
    "Rule": "credit.rules.base",
    "RuleOptions": "credit.rules.options",
    "Step": "credit.rules.base",
    "BackwardRule": "credit.rules.backward.rule",
    "Traits": "credit.rules.traits",
    "load": "credit.training.state.loading",
    "opt": "credit.core.options",
    "wrap": "credit.rules.wrap",
}


def rule(name: str, model: "nn.Module", *, seed: int = 0, example: "Tensor | None" = None, compile: bool | str = False,
         precision: str = "float32", **options: Any) -> "Rule":  # fmt: skip
    """Return the rule called ``name`` for ``model``; see ``credit.rules.api.rule``."""
    from credit.rules import api

    return api.rule(name, model, seed=seed, example=example, compile=compile, precision=precision, **options)


def register_rule(name: str) -> Any:
    """Return a class decorator that makes a rule of your own known as ``name`` (``kind: name`` in its YAML)."""
    return register("rule", name)


def register(family: str, name: str, *, version: int = 1) -> Any:
    """Return a decorator for a rule, loss, gate, feedback weights, ... of your own; see ``credit.core.registry.register``."""
    from credit.core import registry

    return registry.register(family, name, version=version)


def use(name: str) -> None:
    """Take your own components into use: those of a folder, or of a module that registers them.

    Args:
        name: a folder laid out as for ``--config-dir`` (``mine/rule/mine.yaml``, ``mine/gate/soft.py``), which is added to those
            in use; or the name of a module that can be imported.

    Raises:
        UserError: there is neither.
    """
    from credit.core import user_files

    user_files.use(name)


def __getattr__(name: str) -> Any:
    if name == "rules":  # the package; credit.rules() lists the names of all rules
        return importlib.import_module("credit.rules")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "SweepRule":
        raise AttributeError("credit.SweepRule is named credit.BackwardRule now")
    raise AttributeError(f"module 'credit' has no attribute '{name}'")
