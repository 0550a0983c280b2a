"""What feedback weights do not reach: refused by default, or named in a run's notes."""

from credit.core.errors import UserError
from credit.engine.ops.base import Op
from credit.engine.ops.local import Local
from credit.engine.reach import unreached
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.backward.options import ReplacingOptions
from credit.rules.base import Rule

_NOTE = "unreached by feedback weights, crossed by backprop:"


def check(rule: Rule, weights: FeedbackWeights) -> None:
    """Refuse ops that multiply the error signal by parameters and have no weight to replace, or name them in the rule's notes.

    Args:
        rule: after its plan is traced; gets the note where ``rule.unreached=backprop``.
        weights: those that the error signal crosses layers by.

    Raises:
        UserError: such ops without ``rule.unreached=backprop``, or that option without such ops.
    """
    if not weights.replaces:
        return
    names = [_described(op) for op in unreached(rule.plan)]
    model = type(rule.model).__name__
    if not names:
        if weights.unreached == "backprop" and isinstance(weights, ReplacingOptions):
            raise UserError(
                f"rule.unreached=backprop would change nothing: rule '{rule.name}' replaces the weights of every layer of {model} "
                "that the error signal crosses; leave it out"
            )
        return
    if weights.unreached == "refuse":
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        raise UserError(
            f"rule '{rule.name}' puts feedback weights in the place of the weights that the error signal crosses, but {len(names)} "
            f"op(s) of {model} multiply the error signal by parameters that have no such place: {shown}. They would be backprop. "
            f"Write them as nn.Linear, nn.Conv1d to 3d, F.linear, F.conv1d to 3d or x @ weight; or write {_allowed(weights)}, "
            "and the error signal crosses them by backprop, which the run's notes then record"
        )
    if not any(note.startswith(_NOTE) for note in rule.notes):
        rule.notes.append(f"{_NOTE} {', '.join(names)}")


def _allowed(weights: FeedbackWeights) -> str:
    """Return what to write to let backprop cross such ops."""
    if isinstance(weights, ReplacingOptions):
        return "rule.unreached=backprop"
    return f'unreached = "backprop" in the class {type(weights).__name__}'


def _described(op: Op) -> str:
    what = op.args["what"] if isinstance(op, Local) else op.kind
    return f"'{op.name}' ({what})"
