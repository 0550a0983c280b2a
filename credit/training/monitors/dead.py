"""Detect dead layers: weights whose updates are all zero, although the output has an error signal."""

from credit.engine.ops.weighted import Weighted
from credit.rules.base import Rule, Step
from credit.runs.screen import Screen

STEPS = 3
"""Number of first steps of a run's rule that are checked. A dead layer has zero updates in each; one below zero weights has not."""


class DeadLayers:
    """Check, in a run's first steps, for weights whose update is 0 everywhere while the output has an error signal.

    Such a rule still trains its output layer, so that the loss does not show it. Under layer-wise feedback propagation an output
    without any feedback is reported too. The report is a warning on the screen and a line of ``rule.notes``, and so of the result.

    Args:
        rule: the run's rule.
        screen: shows the warning.
        steps: number of steps of the run, which may be fewer than `STEPS`.
        first: number of steps before the rule's first one, that is of a warm start.
    """

    def __init__(self, rule: Rule, screen: Screen, steps: int = STEPS, first: int = 0) -> None:
        self._rule, self._screen = rule, screen
        self._first, self._until = first, min(steps, first + STEPS)
        # The backward pass starts at the topmost layer; a weight that is used twice occurs twice.
        self._dead: dict[str, Weighted] = {}
        for op in rule.plan.back:
            if isinstance(op, Weighted) and op.params.get("weight") in op.trains:
                self._dead.setdefault(op.params["weight"], op)
        self._looked = 0

    def looks(self, step: int) -> bool:
        """Return whether the next step is checked, from the number of steps done."""
        return self._first <= step < self._until

    def see(self, step: int, outcome: Step) -> None:
        """Check the updates in ``.grad`` after ``rule.step`` and before the optimizer's step.

        Args:
            step: number of steps done before this one; nothing is done after the first steps.
            outcome: the return value of ``rule.step``.
        """
        if not self.looks(step) or not self._dead:
            return
        own = self._rule._all_parameters()
        alive = [name for name in own if (grad := own[name].grad) is not None and bool(grad.any())]
        signals = outcome.signals
        if float(signals["output.rms"]) > 0 if "output.rms" in signals else alive:
            self._looked += 1
            sources = self._rule.plan.weights.sources
            self._dead = {name: op for name, op in self._dead.items() if not set(sources([name])) & set(alive)}
        if step == self._until - 1 and (note := self._words() if self._looked else self._silence()):
            self._rule.notes.append(note)
            self._screen.warn(note)

    def _silence(self) -> str | None:
        """Return the note about an output without an error signal; None unless the rule has an option ``feedback``."""
        feedback = getattr(getattr(self._rule, "options", None), "feedback", None)
        if feedback is None:
            return None
        return (
            f"no feedback: rule.feedback={feedback} (rule '{self._rule.name}') was 0 for every sample of the first steps, so "
            "nothing was learned in them; is it meant for logits like these? rule.feedback=sigmoid is the paper's"
        )

    def _words(self) -> str | None:
        if not self._dead:
            return None
        names = list(self._dead)
        top = self._dead[names[0]]
        gate = getattr(getattr(self._rule, "options", None), "gate", None)
        cause = f"rule '{self._rule.name}'" if gate is None else f"rule.gate={gate} (rule '{self._rule.name}')"
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        return (
            f"dead layers: the updates of {', '.join(names[:6])}{more} were 0 everywhere in the first steps, though the output "
            f"has a signal: none passes {cause} above '{top.name}'"
        )
