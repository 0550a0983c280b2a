"""Published numbers: means, standard deviations and marks as papers print them."""

import re
from dataclasses import MISSING, dataclass, replace

from credit.core.errors import UserError
from credit.core.options import opt
from credit.tables.measures.marks import CROSS, DAGGER

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_PRINTED = re.compile(rf"(?P<mean>{_NUMBER})\s*(?:(?:±|\+/?-)\s*(?P<std>{_NUMBER})|\((?P<inside>{_NUMBER})\))?")
_MARKED = re.compile(rf"(?:{DAGGER}|dagger)\s*(?P<number>.+)|(?P<first>.+?)\s*(?:{DAGGER}|dagger)")


@dataclass(frozen=True)
class Published:
    """A published number, in the measure's unit.

    `mark` is one of `credit.tables.measures.marks`; with an X there is no number, and `mean` is None.
    """

    mean: float | None = opt(MISSING, "mean")
    std: float | None = opt(None, "standard deviation; none where the paper gives none", ge=0)
    n: int | None = opt(None, "number of runs; none where the paper gives none", ge=1)
    line: int = 0
    mark: str = ""

    @classmethod
    def parse(cls, text: str, line: int = 0) -> "Published":
        """Return a number that is written as one text: ``94.0 ± 3.3``, ``94.0 (3.3)``, ``89.3 ± 0.17 †``, ``X``.

        Raises:
            UserError: the text is none of these.
        """
        if text.strip() == CROSS:
            return cls(None, line=line, mark=CROSS)
        marked = _MARKED.fullmatch(text.strip())
        match = _PRINTED.fullmatch(marked["number"] or marked["first"] if marked else text.strip())
        if match is None:
            raise UserError(
                f'\'{text}\': write a number, "94.0 ± 3.3", "94.0 (3.3)", or {{mean: 94.0, std: 3.3, n: 5}}; '
                '"89.3 ± 0.17 †" where training diverged after it, X where no model was learnt'
            )
        std = match["std"] or match["inside"]
        if std and float(std) < 0:
            raise UserError(f"'{text}': a standard deviation is at least 0")
        return cls(float(match["mean"]), float(std) if std else None, line=line, mark=DAGGER if marked else "")


@dataclass(frozen=True)
class Printed:
    """What all published numbers have in common."""

    times: float = opt(1.0, "factor from the printed numbers to the measure's unit: 100 for shares", gt=0)
    n: int | None = opt(None, "number of runs of each number that gives none itself", ge=1)

    def applied(self, found: Published) -> Published:
        """Return a printed number in the measure's unit, with its number of runs."""
        mean, std = (None if value is None else round(self.times * value, 10) for value in (found.mean, found.std))
        return replace(found, mean=mean, std=std, n=found.n or self.n)  # 100 x 0.9663 is 96.63, not 96.63000000000001
