"""The contract of tasks."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from credit.core import registry
from credit.core.errors import UserError, nearest
from credit.tasks.primary import ACCURACY, Primary

OUTPUTS = {"logits": "classification", "probability": "binary"}
"""By the value of a network's attribute ``output_kind``, the task of data with class labels."""


class Task:
    """What a network's output means.

    A task has no state but the units of its measures, so that one instance serves any number of networks.

    Attributes:
        name: the task's name in the registry.
        output: outputs that the task takes, with their shape, for messages.
        targets: ``labels``, int64, or ``numbers``, floating point.
        method: the method of a loss that scores these outputs: ``__call__`` of logits (N, classes) and labels (N,),
            ``of_probability`` of probabilities (N, 1) and labels (N,), ``of_numbers`` of numbers (N, K) and targets (N, K).
        positions: how many dimensions of an output are positions of the example, each with an error of its own, before the
            dimension of features: 1 for tokens.
        primary: the measure that the best epoch is chosen by.
    """

    name: ClassVar[str]
    output: ClassVar[str]
    targets: ClassVar[str] = "labels"
    method: ClassVar[str] = "__call__"
    positions: ClassVar[int] = 0
    primary: ClassVar[Primary] = ACCURACY

    # ------------------------------------------------------------ for a rule

    def problem(self, model: nn.Module, out: Tensor, y: Tensor) -> str | None:
        """Return why outputs and targets do not belong together; None where they do.

        Args:
            model: the network that gave `out`.
            out: its output on a batch.
            y: the batch's targets, which `wanted` took.
        """
        raise NotImplementedError

    def wanted(self, x: Tensor, y: Tensor) -> str | None:
        """Return what the targets of a batch x have to be, where y is something else; None where they fit."""
        raise NotImplementedError

    def rows(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets as a loss takes them: (N, features) and (N,) or (N, features)."""
        return out, y

    def score(self, loss: Any, out: Tensor, y: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
        """Return the output error, shaped like the outputs, and the loss (0-d).

        Args:
            loss: a loss (`credit.rules.backward.losses`), or another function of rows that returns these two.
            out: the network's outputs (B, ...).
            y: targets.
            more: further arguments of the loss.
        """
        rows, targets = self.rows(out, y)
        error, value = getattr(loss, self.method)(rows, targets, **more)
        return error.view(out.shape), value

    def target(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the outputs that the targets stand for, shaped like the outputs: of labels one-hot rows."""
        raise NotImplementedError

    # ------------------------------------------------------------ for an evaluation

    def predict(self, out: Tensor) -> Tensor:
        """Return the predictions of outputs (..., B, ...): classes or tokens, int64, or numbers in the units of the targets."""
        raise NotImplementedError

    def correct(self, out: Tensor, y: Tensor) -> Tensor | None:
        """Return the share of correct predictions of each example (..., B); None where predictions are numbers."""
        return None

    def sums(self, out: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return sums over a batch's examples, which `measures` takes divided by the number of examples; 0-d or (K,)."""
        raise NotImplementedError

    def measures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the measures of a part of the data, of the means (on the CPU) of what `sums` returned; ``loss`` is one."""
        return {name: value.item() for name, value in means.items()}

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the loss that evaluations report, summed over the examples (0-d)."""
        return self.sums(out, y)["loss"]

    def uninformed(self, outputs: int) -> tuple[float, str]:
        """Return the loss of predictions without information, and its name; inf where none is known.

        Args:
            outputs: number of outputs: classes, targets or tokens.
        """
        return math.inf, ""

    def example(
        self, shape: tuple[int, ...], outputs: int, size: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return a synthetic batch: inputs (size, *shape) and targets.

        Args:
            shape: of one example.
            outputs: number of outputs: classes, targets or tokens.
            size: number of examples.
            source: generator of the random numbers.
        """
        raise NotImplementedError


def named(name: str) -> type[Task]:
    """Return the class of a task.

    Raises:
        UserError: there is no task of this name.
    """
    found = registry.known("task", name)
    if found is None:
        raise UserError(f"task={name!r}: there is no task of this name; {nearest(name, registry.names('task'))}")
    cls: type[Task] = found.load()
    return cls


def of(name: str | Task) -> Task:
    """Return a task by its name; a task as it is.

    Raises:
        UserError: there is no task of this name.
    """
    return name if isinstance(name, Task) else named(name)()


def fitting(task: str | Task, model: nn.Module) -> Task:
    """Return the task of a network: with class labels that of its ``output_kind``, ``logits`` or ``probability``.

    Raises:
        UserError: ``output_kind`` is another word, or the network gives a probability and the task takes none.
    """
    found, name = of(task), type(model).__name__
    word = getattr(model, "output_kind", "logits")
    if word not in OUTPUTS:
        raise UserError(f"{name}.output_kind={word!r}: what is its output? {nearest(word, OUTPUTS)}")
    if word == "logits" or found.name == OUTPUTS[word]:
        return found
    if found.name != "classification":
        raise UserError(
            f"{name} gives one number, the probability of class 1 (output_kind='probability'), and the outputs of "
            f"{found.name} are {found.output}: use another network"
        )
    return of(OUTPUTS[word])
