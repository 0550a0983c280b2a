"""Noticing what learns nothing: a rule that zeroes hidden updates still trains its output layer, and looks well."""

from credit.engine.ops.weighted import Weighted
from credit.rules.base import Rule, Step
from credit.runs.screen import Screen

STEPS = 3
"""First steps of a run's rule that are looked at. A layer must be dead in each: one below zero weights comes to life after one."""


class DeadLayers:
    """Looks, in a run's first steps, for weights whose update is 0 everywhere while the output has a signal.

    Under layer-wise feedback propagation an output without any feedback is told too.
    What is found is a warning on the screen and a line of ``rule.notes``, and so of the result. It is no error.

    Args:
        rule: the run's rule.
        screen: where the warning goes.
        steps: the run's length; a shorter one than `STEPS` is looked at as far as it goes.
        first: the step that is the rule's first, after a warm start.
    """

    def __init__(self, rule: Rule, screen: Screen, steps: int = STEPS, first: int = 0) -> None:
        self._rule, self._screen = rule, screen
        self._first, self._until = first, min(steps, first + STEPS)
        # The sweep meets the topmost layer first; a weight that is used twice is met twice.
        self._dead: dict[str, Weighted] = {}
        for op in rule.plan.back:
            if isinstance(op, Weighted) and op.params.get("weight") in op.trains:
                self._dead.setdefault(op.params["weight"], op)
        self._looked = 0

    def looks(self, step: int) -> bool:
        """Return whether the step after so many is looked at."""
        return self._first <= step < self._until

    def see(self, step: int, outcome: Step) -> None:
        """Look at the updates in ``.grad`` after ``rule.step`` and before the optimizer; nothing after the first steps.

        Args:
            step: steps done before this one.
            outcome: what ``rule.step`` returned.
        """
        if not self.looks(step) or not self._dead:
            return
        own = self._rule._all_parameters()
        alive = [name for name in own if (grad := own[name].grad) is not None and bool(grad.any())]
        signals = outcome.signals
        if float(signals["output.rms"]) > 0 if "output.rms" in signals else alive:
            self._looked += 1
            self._dead = {name: op for name, op in self._dead.items() if name not in alive}
        if step == self._until - 1 and (note := self._words() if self._looked else self._silence()):
            self._rule.notes.append(note)
            self._screen.warn(note)

    def _silence(self) -> str | None:
        """What to say of an output without a signal: of a margin that every sample meets, nothing."""
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
