"""Components of rules: the options of a rule's families, and those that nothing chosen reads."""

from collections.abc import Iterable, Mapping
from typing import Any

from credit.errors import UserError
from credit.options import written
from credit.rules.registry import FAMILIES, fields


def chosen_options(families: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return (annotation, default) by name of the options of every component that could be chosen."""
    known: dict[str, tuple[Any, Any]] = {}
    for family in families:
        for component in FAMILIES[family].values():
            known |= fields(component)
    return known


def refuse_unread(options: Mapping[str, Any], rule: Any, own: type, chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an option of a component that was not chosen, unless it stands at its default.

    Args:
        options: as the user gave them.
        rule: the rule, whose ``options()`` knows all defaults.
        own: dataclass of the rule's own options.
        chosen: by family, the chosen components by name.
    """
    read = set(fields(own)).union(*(fields(part) for parts in chosen.values() for part in parts.values()))
    defaults = rule.options()
    for option, value in options.items():
        if option in read or value == defaults[option][1]:
            continue
        owners = [
            f"rule.{family}={name}"
            for family in chosen
            for name, component in FAMILIES[family].items()
            if option in fields(component)
        ]
        raise UserError(
            f"rule.{option}={written(value)} would change nothing: none of this rule's choices read it; it belongs to "
            f"{', '.join(owners)}"
        )
