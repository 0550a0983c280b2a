"""What a run's parameters were when its last period ended, kept over kills and resumes."""

from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.registry import Diagnostic, Watched
from credit.rules.rule import Step


class Since(Diagnostic):
    """Base of the diagnostics that compare parameters with those of the last measured step (the first: of the run's start).

    ``trainer.measure_every=1`` compares consecutive epochs. The run's last step ends a period too, which may be a shorter one;
    ``steps`` says how many each row is over. The kept parameters cost a copy of the network, in memory and in checkpoints.
    """

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._step, self._then = run.step, self._now()

    def compare(self, then: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Any]:
        """Return the numbers of a period, from the trainable parameters by name at its start and its end."""
        raise AssertionError(f"{type(self).__name__} has no compare")

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        now = self._now()
        found = {"steps": self.run.step - self._step, **self.compare(self._then, now)}
        self._step, self._then = self.run.step, now
        return found

    def state_dict(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self._step), **{f"parameter:{name}": p for name, p in self._then.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._step = int(state["step"])
        self._then = {name: state[f"parameter:{name}"].to(p.device) for name, p in self._then.items()}

    def _now(self) -> dict[str, Tensor]:
        """Return copies of the parameters that the rule trains, in the order of the network."""
        held = dict(self.run.rule.model.named_parameters())
        return {name: held[name].detach().clone() for name in self.run.rule.plan.trainable}
