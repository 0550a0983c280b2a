"""Rules by name: a YAML in a ``rule`` folder gives the class (``kind``) and options of a name."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from credit.core import registry
from credit.core.config.folders import choices, rule_kind, rule_settings
from credit.core.errors import UserError, nearest
from credit.core.option_sets import of_kind
from credit.rules.base import Rule
from credit.tasks.base import Task


def rule(name: str, model: nn.Module, *, seed: int = 0, example: Tensor | None = None, compile: bool | str = False,
         precision: str = "float32", task: str | Task = "classification", **options: Any) -> Rule:  # fmt: skip
    """Return the rule called ``name`` for ``model``.

    Args:
        name: one of ``credit.rules()``, or a rule of your own.
        model: any traceable module, input tensor to the outputs of the task.
        seed, example, compile, precision, task: see ``credit.rules.base.Rule``.
        options: the options of ``rule.*`` on the command line, over those of the rule's YAML.

    Raises:
        UserError: unknown rule or option, or a model the rule cannot take.

    >>> rule = credit.rule("lisp_margin", model, margin=2.0)     # doctest: +SKIP
    >>> rule.step(x, y); optimizer.step()                        # doctest: +SKIP
    """
    settings = read(name) | options
    return build(settings, model, seed=seed, example=example, compile=compile, precision=precision, task=task)


def build(settings: Mapping[str, Any], model: nn.Module, *, seed: int = 0, example: Tensor | None = None,
          compile: bool | str = False, precision: str = "float32", task: str | Task = "classification") -> Rule:  # fmt: skip
    """Return the rule that a config's ``rule`` section describes: ``kind``, optionally ``name``, and options."""
    options = {key: value for key, value in settings.items() if key not in ("kind", "name")}
    cls = find(str(settings["kind"]))
    label = str(settings.get("name", settings["kind"]))
    body = {"name": label, "__module__": cls.__module__, "__doc__": cls.__doc__}
    named = type(cls.__name__, (cls,), body | {"__reduce__": lambda made: _pickled(dict(settings), compile, made)})
    made: Rule = named(model, options, seed=seed, example=example, compile=compile, precision=precision, task=task)
    return made


def _pickled(settings: dict[str, Any], compile: bool | str, rule: Rule) -> tuple[Any, ...]:
    """Return how a pickled or copied rule is made again: by its settings, on its model, with its state."""
    more = {"seed": rule.seed, "compile": compile, "precision": rule.precision, "task": rule.task.name}
    return _unpickled, (settings, rule.model, more, rule.state_dict(), rule.keep_input_signal)


def _unpickled(
    settings: dict[str, Any], model: nn.Module, more: dict[str, Any], state: dict[str, Any], to_input: bool
) -> Rule:
    made = build(settings, model, **more)
    made.load_state_dict(state)
    if to_input:
        made.keep_input_signal = True
    return made


def find(kind: str) -> type[Rule]:
    """Return the class registered as ``kind``, looking in the user's folders and installed packages too."""
    cls: type[Rule] = rule_kind(kind).load()
    return cls


def options_of(kind: str) -> dict[str, Any]:
    """Return the default of every option of a kind of rule, by name; those of its components too."""
    return {one.name: one.default for one in of_kind("rule", kind).every()}


def names() -> list[str]:
    """Return the names of all rules: those with a YAML, and those registered without one."""
    return sorted({*choices("rule"), *registry.names("rule")})


def read(name: str) -> dict[str, Any]:
    """Return the settings that ``name`` stands for: its YAML's, or the registered class's own defaults."""
    settings = rule_settings(name)
    if settings is not None:
        return settings
    if registry.known("rule", name) is not None:
        return {"kind": name, "name": name}
    if instead := registry.renamed("rule", name):
        raise UserError(f"rule={name}: {instead}")
    raise UserError(f"rule={name}: there is no rule of this name; {nearest(name, names())}")
