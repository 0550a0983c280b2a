"""Diagnostics by name: what ``trainer.measure=[...]`` can ask for, and the classes to derive one from."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from credit.core import registry
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.rules.base import Step

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from credit.data import Data
    from credit.rules.base import Rule, Step

T = TypeVar("T")


class Watched(Protocol):
    """What a diagnostic sees of a run: a `credit.training.state.run_state.Training`, or anything with these parts.

    Attributes:
        step: steps done; the rule's `position` is that of the step being watched.
        optimizer: its groups hold this step's learning rate when `Diagnostic.after` is called.
    """

    model: "nn.Module"
    rule: "Rule"
    optimizer: "Optimizer"
    step: int


class Evaluated(Watched, Protocol):
    """What a diagnostic sees that measures the network on examples.

    Attributes:
        cfg: the run's settings.
        data: its data set, on its device.
    """

    cfg: RunConfig
    data: "Data"

    def evaluated(self) -> "nn.Module":
        """Return the network as evaluations see it."""


class Diagnostic:
    """Base of all diagnostics; one is made a run, before its first step.

    Everything of the run must be left bit for bit as it is: weights, buffers, gradients, random streams. What `before`
    keeps may serve `after` of the same step. What is to serve a later step has to be in `state_dict`, which checkpoints hold:
    a resumed run measures the same numbers.

    Args:
        run: the run to watch, at its start or where a checkpoint left it; refuse here (`UserError`) what can never be
            measured of it.

    Attributes:
        at_end: measured once, after the run's last step, however often ``trainer.measure_every`` asks.
    """

    at_end: ClassVar[bool] = False

    @classmethod
    def check(cls, rule: "Rule") -> None:
        """Refuse (`UserError`) what can never be measured of a rule on its network; called before data is loaded."""

    def __init__(self, run: Watched) -> None:
        self.run = run

    def before(self, x: "Tensor", y: "Tensor") -> None:
        """Look at the weights that the step starts from; x (B, ...), y (B,): its batch."""

    def after(self, x: "Tensor", y: "Tensor", outcome: "Step") -> dict[str, Any]:
        """Return the numbers of this step (nested dicts of numbers), the optimizer having moved the weights."""
        raise AssertionError(f"{type(self).__name__} has no after")

    def state_dict(self) -> "dict[str, Tensor]":
        """Return what later steps need, tensors only; asked for at every checkpoint."""
        return {}

    def load_state_dict(self, state: "dict[str, Tensor]") -> None:
        """Take back what `state_dict` returned, from the CPU; called where the run is resumed, before its next step."""


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that makes a `Diagnostic` known as ``trainer.measure=[name]``; see `credit.core.registry.register`.

    Raises:
        UserError: the name is taken by another class, or the class is no Diagnostic.
    """
    return lambda cls: registry.register("diagnostic", name)(_checked(name, cls))


def find(name: str) -> type[Diagnostic]:
    """Return the class registered as ``name``, importing its module.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    return _checked(name, registry.find("diagnostic", name, key="trainer.measure").load())


def _checked(name: str, cls: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, Diagnostic)):
        raise UserError(
            f"diagnostic '{name}': {getattr(cls, '__name__', cls)} must subclass credit.diagnostics.Diagnostic"
        )
    return cls


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
