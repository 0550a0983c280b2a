"""Components of rules: the options of a rule's families, and those that nothing chosen reads."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from credit.core.errors import UserError
from credit.core.options import written
from credit.rules.registry import FAMILIES, fields

RENAMED = {
    (
        "loss",
        "mse",
    ): "half the sum over outputs, 1/2 sum_j (o_j - y_j)^2, is rule.loss=half_sse, with the same numbers as before; mse "
    "is the mean over outputs of (o_j - y_j)^2 (rule=bp rule.signal=mse)"
}
"""By (option, value): where a value that an option had is found now."""


def refuse_renamed(option: str, value: object, hint: Any) -> None:
    """Refuse a value that an option had under a name that is another's now."""
    words = RENAMED.get((option, value)) if isinstance(value, str) else None
    if words is not None and get_origin(hint) is Literal and value not in get_args(hint):
        raise UserError(f"rule.{option}={value}: {words}")


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
        moved = next((part.MOVED[option] for parts in chosen.values() for part in parts.values()
                      if option in getattr(part, "MOVED", {})), None)  # fmt: skip
        if moved is not None:
            raise UserError(
                f"rule.{option}={written(value)}: rule '{rule.name}' has that option under the name rule.{moved}"
            )
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
