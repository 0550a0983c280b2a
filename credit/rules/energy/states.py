"""What rules that settle states have in common: dual propagation, equilibrium propagation, contrastive Hebbian learning."""

from typing import Any

from torch import Tensor

from credit.core.errors import UserError
from credit.engine.inference.program import Work
from credit.engine.inference.segments import State
from credit.engine.ops.weighted import Weighted
from credit.rules.backward import learned_feedback, reach
from credit.rules.backward.feedback_weights import FeedbackWeights
from credit.rules.backward.losses import OF_STATES
from credit.rules.base import Rule
from credit.rules.traits import Traits


def before(work: Work, state: State) -> Tensor:
    """Return what the maps below give a state, (B, ...), in the precision of states."""
    a: Tensor = work.values[state.pre]
    return a if work.run.dtype is None else a.float()


def activation(state: State, z: Tensor, *, mine: bool = False) -> Tensor:
    """Return f(z), z itself for the input and the output; over z where it is ``mine`` and that is possible."""
    if state.op is None:
        return z
    function = state.op.function
    value = function.value_ if mine and function.value_ is not None else function.value
    return value(z, *state.op.options)


class TaskLoss:
    """The loss of a rule with states or targets: (outputs, targets of the task) -> (its gradient over B, its mean).

    Args:
        rule: its task, and the name of the loss in its options.
    """

    def __init__(self, rule: Any) -> None:
        self._task, self._loss = rule.task, OF_STATES[rule.options.loss]()

    def __call__(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scored: tuple[Tensor, Tensor] = self._task.score(self._loss, out, y)
        return scored

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the outputs that the targets stand for, such as one-hot rows, shaped like the outputs."""
        wanted: Tensor = self._task.target(out, y)
        return wanted


def reference(rule: Any) -> dict[str, Any]:
    """Return the options of `bp` that make it backprop on the same loss."""
    loss = rule.options.loss
    if loss == "auto" and rule.task.targets == "numbers":
        loss = "half_sse"
    return {} if loss in ("auto", "ce") else {"loss": loss}


def traits(rule: Any, **refuses: str) -> Traits:
    """Return the traits of a rule with states or targets; `refuses` adds to what it refuses."""
    if rule.options.loss == "ce":
        refuses["numbers"] = "compares the logits of classes with rule.loss=ce (rule.loss=half_sse compares numbers)"
    common = {"probability": "nudges logits, one a class", "stopped": "relates every layer to those above it"}
    return Traits(refuses={**common, **refuses}, shares=True)


def refuse_local(rule: Rule) -> None:
    """Refuse local autograd, of which no op between states could make use."""
    if rule.options.local_autograd:
        raise UserError(
            f"rule.local_autograd=true would change nothing: rule '{rule.name}' takes linear maps alone between its states, and an "
            "op that autograd differentiates is none; leave it out"
        )


def feedback_weights(rule: Rule, word: str) -> FeedbackWeights:
    """Return the feedback weights that a rule's options name.

    Raises:
        UserError: they send the output error straight to every layer.
    """
    made: FeedbackWeights = rule.components["feedback_weights"]
    if made.direct:
        raise UserError(
            f"rule.feedback_weights={word} sends the output's signal straight to every layer, but rule '{rule.name}' settles "
            "states layer by layer; write rule.feedback_weights=transpose, fixed_random or kolen_pollack"
        )
    return made


def note_no_hidden(rule: Any) -> None:
    """Add a note where the rule has no hidden state to settle (one layer, or frozen layers below the output's)."""
    note = (
        f"no hidden state: rule '{rule.name}' settles states of hidden units, and {type(rule.model).__name__} has none above a "
        "trained layer, so that its output layer alone learns, by the error at the output"
    )
    if all(state.op is None for state in rule.segments.states) and note not in rule.notes:
        rule.notes.append(note)


def make_feedback(rule: Rule, chosen: FeedbackWeights) -> learned_feedback.LearnedFeedback:
    """Make the feedback weights that a rule needs: the rule's buffers, or parameters where they learn (returned)."""
    reach.check(rule, chosen)
    crossed = [op for op in rule.plan.back if isinstance(op, Weighted) and op.wants[0]]
    made = learned_feedback.attach(rule, chosen, crossed)
    weights = rule.effective_params()
    for op in () if chosen.learns else crossed:
        weight = weights[op.params["weight"]].detach()
        for name, value in chosen.feedback(op, weight, None, 0, rule.seed).items():
            rule.buffers.make(name, value)
    return made
