"""Composites: which relevance rule each layer of weights takes (paper 2, section 2.5: rules by layer, type or name)."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from credit.core.errors import UserError, nearest
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan

KINDS = ("linear", "conv")


def assign(plan: Plan, base: str, composite: Mapping[str, str]) -> dict[int, str]:
    """Return the name of each weighted op's relevance rule, by the op's place in the plan.

    Args:
        plan: the traced network.
        base: the rule of layers that no selector names.
        composite: selector to rule: ``linear`` or ``conv`` (the kind of layer), ``first`` or ``last``, a position counted from 0
            (negative: from the end), or a pattern of names (``features.*``). Of several that fit, the later counts.

    A kind that the network has no layer of is passed over, so that one composite serves all networks.

    Raises:
        UserError: a position or a pattern that fits no layer.
    """
    layers = [op for op in plan.ops if isinstance(op, Weighted)]
    words = dict.fromkeys((op.index for op in layers), base)
    for selector, word in composite.items():
        fitting = [op for at, op in enumerate(layers) if _fits(str(selector), op, at, len(layers))]
        if not fitting and selector not in KINDS:
            names = [op.name for op in layers]
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            # A number is a position, also where the layers of a Sequential have numbers for names.
            known = [*dict.fromkeys(op.kind for op in layers), "first", "last", *(n for n in names if not n.isdigit())]
            raise UserError(
                f"rule.composite={{{selector}:{word}}}: no layer of {type(plan.model).__name__} fits '{selector}'; "
                f"{nearest(str(selector), known)}. Its {len(names)} layers are {shown}; a selector is linear, conv, first, last, a "
                f"position from 0 to {len(names) - 1}, or a pattern of names such as '{names[0][:3]}*'"
            )
        words |= {op.index: word for op in fitting}
    return words


def _fits(selector: str, op: Weighted, at: int, count: int) -> bool:
    if selector in KINDS:
        return op.kind == selector
    if selector in ("first", "last"):
        return at == (0 if selector == "first" else count - 1)
    if selector.lstrip("-").isdigit():
        return at == int(selector) % count if -count <= int(selector) < count else False
    return fnmatchcase(op.name, selector)
