"""What diagnostics ask of a network: its layers in order, and whether its predictions are its forward pass."""

from credit.core.errors import UserError
from credit.engine.plan import Plan
from credit.rules.base import Rule


def in_order(plan: Plan) -> list[str]:
    """Return the trainable parameters' names in the order the forward pass first uses them."""
    return list(dict.fromkeys(name for op in plan.ops for name in op.trains))


def layers(plan: Plan) -> dict[str, list[str]]:
    """Return the trainable parameters by layer, the module that holds them, in the same order: ``{"fc1": [weight, bias]}``.

    A parameter of the network itself, in no module, is a layer of its own.
    """
    grouped: dict[str, list[str]] = {}
    for name in in_order(plan):
        grouped.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return grouped


def refuse_settled(name: str, rule: Rule, why: str) -> None:
    """Refuse a diagnostic of the forward pass for a rule whose evaluations ask another network (`Rule.predictor`).

    Args:
        name: the diagnostic's.
        rule: the run's.
        why: what is missing, as a clause.

    Raises:
        UserError: the rule's answers are no forward pass.
    """
    if type(rule).predictor is not Rule.predictor:
        raise UserError(
            f"trainer.measure=[{name}]: rule '{rule.name}' is evaluated where its states settle, not by a forward pass, and {why}. "
            "Leave the diagnostic out, or measure it of a rule that answers by its forward pass, such as rule=dp_adjoint"
        )
