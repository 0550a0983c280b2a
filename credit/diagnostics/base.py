"""The base classes of diagnostics, and their registry by the names in ``trainer.measure=[...]``."""

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
    """The interface of a run to its diagnostics: a `credit.training.state.run_state.Training`, or any object with these attributes.

    Attributes:
        model: the network.
        rule: the run's rule; its `position` is that of the measured step.
        optimizer: the optimizer; its groups have this step's learning rate when `Diagnostic.after` is called.
        step: number of steps done.
    """

    model: "nn.Module"
    rule: "Rule"
    optimizer: "Optimizer"
    step: int


class Evaluated(Watched, Protocol):
    """The interface of a run to diagnostics that measure the network on examples.

    Attributes:
        cfg: the run's configuration.
        data: the run's data set, on its device.
    """

    cfg: RunConfig
    data: "Data"

    def evaluated(self) -> "nn.Module":
        """Return the network that evaluations use."""


LABELS = ("classification", "binary", "mixtures")
"""The tasks with one class label an example."""

NUMERIC_INPUTS = (*LABELS, "regression", "reconstruction")
"""The tasks whose inputs are numbers, so that outputs have a derivative by them."""


class Diagnostic:
    """Base class of all diagnostics; an instance is created for each run, before its first step.

    A diagnostic must leave weights, buffers, gradients and random streams unchanged, bit for bit. Attributes set in `before` may be
    used in `after` of the same step. State for later steps must be in `state_dict`, which checkpoints save, so that a resumed run
    measures the same numbers.

    Args:
        run: the run to measure, at its start or resumed from a checkpoint.

    Attributes:
        at_end: measure only once, after the run's last step, whatever ``trainer.measure_every`` is.
        tasks: names of the tasks that it measures; empty: all.

    Raises:
        UserError: the diagnostic cannot measure this run.
    """

    at_end: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, rule: "Rule") -> None:
        """Check that the diagnostic can measure a rule on its network; called before data is loaded.

        Raises:
            UserError: it cannot.
        """

    def __init__(self, run: Watched) -> None:
        self.run = run

    def before(self, x: "Tensor", y: "Tensor") -> None:
        """Measure at the weights before the step, on its batch of inputs x (B, ...) and labels y (B,)."""

    def after(self, x: "Tensor", y: "Tensor", outcome: "Step") -> dict[str, Any]:
        """Return the numbers of this step as nested dicts, after the optimizer's update of the weights.

        Args:
            x: the step's inputs (B, ...).
            y: the step's labels (B,).
            outcome: the result of the rule's step.
        """
        raise AssertionError(f"{type(self).__name__} has no after")

    def state_dict(self) -> "dict[str, Tensor]":
        """Return the state for later steps as tensors by name; called at every checkpoint."""
        return {}

    def load_state_dict(self, state: "dict[str, Tensor]") -> None:
        """Restore the state returned by `state_dict`, given on the CPU; called when a run is resumed, before its next step."""


def check(name: str, rule: "Rule") -> None:
    """Check that the diagnostic registered under a name can measure a rule on its network and task.

    Raises:
        UserError: it cannot.
    """
    found = find(name)
    if found.tasks and rule.task.name not in found.tasks:
        raise UserError(
            f"trainer.measure=[{name}] measures {', '.join(found.tasks)}, and the task is {rule.task.name}: leave the diagnostic "
            "out"
        )
    found.check(rule)


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a `Diagnostic` for ``trainer.measure=[name]``; see `credit.core.registry.register`.

    Raises:
        UserError: another class has the name, or the class is not a subclass of `Diagnostic`.
    """
    return lambda cls: registry.register("diagnostic", name)(_checked(name, cls))


def find(name: str) -> type[Diagnostic]:
    """Return the class registered under a name, and import its module.

    Raises:
        UserError: no diagnostic has that name; the message gives the nearest name.
    """
    return _checked(name, registry.find("diagnostic", name, key="trainer.measure").load())


def _checked(name: str, cls: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, Diagnostic)):
        raise UserError(
            f"diagnostic '{name}': {getattr(cls, '__name__', cls)} must subclass credit.diagnostics.Diagnostic"
        )
    return cls


class Since(Diagnostic):
    """Base class of diagnostics that compare the parameters with those at the last measured step (at first: the run's start).

    ``trainer.measure_every=1`` compares consecutive epochs. The run's last step also ends a period, which may be shorter; ``steps``
    is the number of steps in a period. The earlier parameters take as much memory as the network, also in checkpoints.
    """

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._step, self._then = run.step, self._now()

    def compare(self, then: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Any]:
        """Return the numbers of a period.

        Args:
            then: the trainable parameters by name at the period's start.
            now: the same at the period's end.
        """
        raise AssertionError(f"{type(self).__name__} has no compare")

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return ``steps`` and the numbers of `compare`, and start the next period."""
        now = self._now()
        found = {"steps": self.run.step - self._step, **self.compare(self._then, now)}
        self._step, self._then = self.run.step, now
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return the step and the parameters at the period's start."""
        return {"step": torch.tensor(self._step), **{f"parameter:{name}": p for name, p in self._then.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the step and the parameters at the period's start."""
        self._step = int(state["step"])
        self._then = {name: state[f"parameter:{name}"].to(p.device) for name, p in self._then.items()}

    def _now(self) -> dict[str, Tensor]:
        """Return copies of the trainable parameters by name, in the order of the network."""
        held = dict(self.run.rule.model.named_parameters())
        return {name: held[name].detach().clone() for name in self.run.rule.plan.trainable}
