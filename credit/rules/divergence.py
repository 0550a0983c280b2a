"""What a rule raises whose inference of states does not settle."""

GROWN = 1e6
"""Times their size before any nudge, or a root mean square of that: states that have left for good."""


class InferenceDiverged(ArithmeticError):  # noqa: N818 - what happened to a run, and no mistake
    """The states of a step ran away: nothing can be learnt from them, and the run ends here as diverged.

    Args:
        where: the op whose states did, as ``linear 'fc1'``.
        why: what they did and what to write instead, in words that fit behind a colon: ``its states grew 4e+09 times; ...``.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"first in {where}: {why}")
        self.where, self.why = where, why
