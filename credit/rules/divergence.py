"""What a rule raises whose inference of states does not settle."""


class InferenceDiverged(ArithmeticError):  # noqa: N818 - what happened to a run, and no mistake
    """The states of a step ran away: nothing can be learnt from them, and the run ends here as diverged.

    Args:
        where: the op whose states did, as ``linear 'fc1'``.
        why: what they did, in words that fit before "at step 12": ``states that grew 4e+09 times``.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{why}, first in {where}")
        self.where, self.why = where, why
