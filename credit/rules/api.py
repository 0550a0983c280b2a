"""Rules by name: a YAML in a ``rule`` folder says which class (``kind``) and options a name stands for."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from credit.core.config.folders import choices, rule_settings
from credit.core.errors import UserError, nearest
from credit.core.user_files import discover_rule
from credit.rules import registry
from credit.rules.backward import rule as sweep
from credit.rules.base import Rule
from credit.rules.energy import dual, equilibrium
from credit.rules.lfp import rule as lfp
from credit.rules.targets import lra, target_propagation

assert dual and equilibrium and lfp and lra and sweep and target_propagation  # importing the families registers them


def rule(name: str, model: nn.Module, *, seed: int = 0, example: Tensor | None = None, compile: bool | str = False,
         precision: str = "float32", **options: Any) -> Rule:  # fmt: skip
    """Return the rule called ``name`` for ``model``.

    Args:
        name: one of ``credit.rules()``, or a rule of your own.
        model: any traceable module, input tensor to logits (B, classes).
        seed, example, compile, precision: see ``credit.rules.base.Rule``.
        options: the options of ``rule.*`` on the command line, over those of the rule's YAML.

    Raises:
        UserError: unknown rule or option, or a model the rule cannot take.

    >>> rule = credit.rule("lisp_margin", model, margin=2.0)     # doctest: +SKIP
    >>> rule.step(x, y); optimizer.step()                        # doctest: +SKIP
    """
    settings = read(name) | options
    return build(settings, model, seed=seed, example=example, compile=compile, precision=precision)


def build(settings: Mapping[str, Any], model: nn.Module, *, seed: int = 0, example: Tensor | None = None,
          compile: bool | str = False, precision: str = "float32") -> Rule:  # fmt: skip
    """Return the rule that a config's ``rule`` section describes: ``kind``, optionally ``name``, and options."""
    options = {key: value for key, value in settings.items() if key not in ("kind", "name")}
    cls = find(str(settings["kind"]))
    label = str(settings.get("name", settings["kind"]))
    _discover_components(label, options)
    named = type(cls.__name__, (cls,), {"name": label, "__module__": cls.__module__, "__doc__": cls.__doc__})
    made: Rule = named(model, options, seed=seed, example=example, compile=compile, precision=precision)
    return made


def _discover_components(label: str, options: Mapping[str, Any]) -> None:
    """Import the user's file of a signal, gate, transport or normalizer that nobody registered: its own, or the rule's."""
    for family, known in registry.FAMILIES.items():
        word = options.get(family)
        if word is not None and word not in known:
            for name in (str(word), label):
                if word not in known:
                    discover_rule(name)


def find(kind: str) -> type[Rule]:
    """Return the class registered as ``kind``, looking in the user's folders and installed packages too."""
    if kind not in registry.FAMILIES["rule"] and not discover_rule(kind) and kind in choices("rule"):
        raise UserError(f"rule.kind={kind}: '{kind}' is a rule's name, not a kind of rule: write rule={kind}")
    cls: type[Rule] = registry.lookup("rule", kind)
    return cls


def options_of(kind: str) -> dict[str, Any]:
    """Return the default of every option of a kind of rule, by name."""
    return {name: default for name, (_, default) in find(kind).options().items()}


def names() -> list[str]:
    """Return the names of all rules: those with a YAML, and those registered without one."""
    return sorted(set(choices("rule")) | set(registry.FAMILIES["rule"]))


def read(name: str) -> dict[str, Any]:
    """Return the settings that ``name`` stands for: its YAML's, or the registered class's own defaults."""
    settings = rule_settings(name)
    if settings is not None:
        return settings
    if name in registry.FAMILIES["rule"] or discover_rule(name):
        return {"kind": name, "name": name}
    raise UserError(f"rule={name}: there is no rule of this name; {nearest(name, names())}")
