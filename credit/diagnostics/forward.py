"""Which rules' networks answer by their forward pass, which is what some diagnostics measure."""

from credit.errors import UserError
from credit.rules.rule import Rule


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
