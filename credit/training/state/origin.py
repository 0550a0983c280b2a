"""Runs that begin with the last weights of a finished run, ``trainer.init_from``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.runs.folder import different_settings
from credit.runs.identity import decisive
from credit.runs.places import find_run
from credit.training.state.finished import finished, state_of

_ALIKE = ("arch", "rule", "optimizer.kind", "optimizer.name", "trainer.precision")
"""Options whose state or weights are taken over, so that both runs must have the same."""

_CONTINUED = (*_ALIKE, "data", "noise", "seed", "trainer.warm_rule", "trainer.warm_steps")
"""Options that decide what a step is, which must be the same where the steps go on."""


@dataclass(frozen=True)
class Origin:
    """A finished run that another one begins with.

    Attributes:
        folder: its folder.
        result: content of its ``result.json``.
        goes_on: whether steps and schedule go on where it ended, in place of beginning anew.
    """

    folder: Path
    result: dict[str, Any]
    goes_on: bool

    @property
    def steps(self) -> int:
        """The steps that are done when the run begins."""
        return int(self.result["steps"]) if self.goes_on else 0

    @property
    def note(self) -> str:
        """The note for the run's result and screen."""
        what = "steps and schedule go on there" if self.goes_on else "steps and schedule begin anew"
        return f"begins with the last weights of {self.folder.name} (step {self.result['steps']}); {what}"

    def state(self) -> dict[str, Any]:
        """Return the content of its last checkpoint.

        Raises:
            UserError: it is missing or damaged.
        """
        return state_of(self.folder, self.result, "last")


def origin_of(cfg: RunConfig, total_steps: int) -> Origin | None:
    """Return the run that ``trainer.init_from`` names; None without.

    Args:
        cfg: the run's configuration.
        total_steps: at which it ends.

    Raises:
        UserError: there is no such finished run, it differs in what is taken over, or it is as long as this run already.
    """
    if cfg.trainer.init_from is None:
        return None
    given = f"trainer.init_from={cfg.trainer.init_from}"
    try:
        folder = find_run(cfg.trainer.init_from)
        before, result = finished(folder)
    except UserError as error:
        raise UserError(f"{given}: {error}") from error
    goes_on = cfg.trainer.init_schedule == "continue"
    alike = _CONTINUED if goes_on else _ALIKE
    different = [
        name for name in different_settings(decisive(before), decisive(cfg))
        if name != "rule.name" and any(name == one or name.startswith(f"{one}.") for one in alike)
    ]  # fmt: skip
    if different:
        anew = " (trainer.init_schedule=restart allows other data and another seed)" if goes_on else ""
        raise UserError(f"{given}: that run has other settings of {', '.join(different)}; give this one the same{anew}")
    if cfg.trainer.warm_rule is not None and not goes_on:
        raise UserError(
            f"{given}: its weights are trained already; leave out trainer.warm_rule={cfg.trainer.warm_rule}"
        )
    if goes_on and total_steps <= result["steps"]:
        raise UserError(
            f"{given} trainer.init_schedule=continue: that run ended at step {result['steps']}, and this one ends at step "
            f"{total_steps}; give trainer.epochs or trainer.steps the length of both together"
        )
    return Origin(folder, result, goes_on)
