"""Feedback weights that learn: matrices B of their own that receive, at every step, the update of the weights W they stand for.

    self.feedback_parameters = learned_feedback.attach(self, self.feedback_weights, crossed_ops)      # in a rule's ``setup``

Weight decay acts on B too, so that B - W shrinks by the decay's factor at each step and the feedback becomes the transpose's
(Kolen and Pollack 1994; Akrout et al. 2019, Eq. 16). Without weight decay nothing shrinks: B - W stays what it was.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.ops.weighted import Weighted
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.base import Rule
from credit.rules.state import FeedbackParameters


class LearnedFeedback(FeedbackParameters):
    """A rule's learned feedback weights by name; called, the transform that gives them the updates of the weights they stand for.

    Attributes:
        of: the name of the weight that each one stands for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, str] = {}

    def __call__(self, parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        # Copies: an optimizer, or who clips gradients in a loop of their own, may change .grad in place.
        return updates | {name: updates[weight].clone() for name, weight in self.of.items() if weight in updates}

    together = __call__


def attach(rule: Rule, weights: FeedbackWeights, ops: Iterable[Weighted]) -> LearnedFeedback:
    """Return a rule's learned feedback weights, made where they are missing, and register the transform that updates them.

    The transform comes after all limits on updates, so that W and B receive the same update, clipped or not.

    Args:
        rule: whose ``transforms`` contain the weights from the first call on.
        weights: the component, with ``learns`` and the first values; where it does not learn, nothing is made.
        ops: those that a signal crosses. B of a frozen W is frozen too.

    Raises:
        UserError: the feedback weights have nothing to act on, or the model has a parameter or buffer of the same name.
    """
    ops = list(ops)
    if why := weights.refusal(ops, getattr(rule.options, "feedback_weights", rule.name)):
        raise UserError(f"{why} (rule '{rule.name}' on {type(rule.model).__name__})")
    held = next((one for one in rule.transforms if isinstance(one, LearnedFeedback)), None)
    if held is None:
        held = LearnedFeedback()
        if weights.learns:
            rule.transforms.append(held)
    taken = {name for name, _ in [*rule.model.named_parameters(), *rule.model.named_buffers()]}
    for op in ops if weights.learns else ():
        if op.params.get("weight", "") in {"", *rule.plan.weights}:
            raise UserError(
                f"rule.feedback_weights=kolen_pollack hands feedback weights the updates of the weights they stand for, but "
                f"the weight of {op.describe()} in {type(rule.model).__name__} is computed from other parameters "
                "and has no update of its own: use a parameter as it is (x @ weight.t(), F.linear(x, weight)), or write "
                "rule.feedback_weights=fixed_random"
            )
        weight = op.params["weight"]
        parameter = rule.model.get_parameter(weight)
        for name, value in weights.feedback(op, parameter.detach(), None, 0, rule.seed).items():
            if name in taken:
                raise UserError(
                    f"{type(rule.model).__name__} has a parameter '{name}', the name of the feedback weights that rule "
                    f"'{rule.name}' learns for '{weight}': give the module 'feedback' another name"
                )
            if name not in held:
                held[name], held.of[name] = nn.Parameter(value), weight
            if held[name].shape != value.shape:
                raise UserError(
                    f"the weight '{weight}' of {type(rule.model).__name__} has another shape than when rule '{rule.name}' was "
                    f"made: its feedback weights have {tuple(held[name].shape)}, and {tuple(value.shape)} is needed; make the "
                    "rule and its optimizer anew"
                )
            held[name].requires_grad_(parameter.requires_grad)
    return held
