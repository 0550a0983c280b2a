"""Adversarial training by the fast gradient sign method: steps at x + epsilon sign(d loss / d x) (Goodfellow et al. 2015)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from credit.core.config.schema import TrainerConfig
from credit.core.errors import UserError
from credit.core.options import of_class
from credit.engine.backward import AddUpdates
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Signals
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Rule
from credit.rules.replicas import Mapped
from credit.rules.state import RuleRun


class InputGradient(BackwardRule):
    """Backprop to the network's input alone: its outcome has the gradient there, and no updates.

    Attributes:
        frozen_norms: BatchNorm's running statistics are used, as by a rule that freezes norms.
    """

    name = "input_gradient"
    frozen_norms = False

    def setup(self) -> None:
        super().setup()
        if self.frozen_norms:
            self.plan = self.plan.adapted(self, frozen_norms=True)

    def visit(self, op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
        return op.adjoint(run, signal) if any(op.wants) else (None,) * len(op.wants)


class Attack:
    """Moves batches against a network, by the gradient of a rule's loss at the input.

    The gradient is the true one (derivatives and transposes), whatever the rule's gate and feedback weights, of the network as the
    rule's step has it: with the same dropout masks and the statistics of the same batch.

    Args:
        rule: whose steps are made at the moved batches; cross-entropy is followed where it has no loss of its own.
        epsilon: size of the step, in units of the network's input, above 0.
        share: of the samples of a batch, (0, 1]; which ones is drawn in every step. In expectation a share of 0.5 is the mean of
            the clean and the adversarial loss that Goodfellow et al. train on.

    Raises:
        UserError: the network's gradient is 0, or the rule's loss scores each time step.
    """

    def __init__(self, rule: Rule, epsilon: float, share: float = 1.0) -> None:
        loss = _loss(rule)
        _refuse(rule, loss, epsilon)
        self.rule, self.epsilon, self.share = rule, epsilon, share
        settings = {**loss, "local_autograd": rule.options.local_autograd}
        self.gradient = InputGradient(rule.model, settings, seed=rule.seed, precision=rule.precision, task=rule.task)
        self.gradient.frozen_norms = rule.freezes_norms
        self.gradient.keep_input_signal = True

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the moved batch of the rule's next step, of the shape (B, ...) and type of x; nothing else changes."""
        self.gradient.position = self.rule.position
        reached = self.gradient.updates(x, y).input_signal
        assert reached is not None
        return torch.add(x, self._step(x, reached))

    def _step(self, x: Tensor, reached: Tensor) -> Tensor:
        step = reached.sign().to(x.dtype) * self.epsilon
        if self.share < 1:
            draws = Draws(self.rule.seed, self.rule.position, x.device)
            drawn = draws.get("adversarial", "uniform", (len(x),), x.dtype)
            step = step * (drawn < self.share).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return step

    @staticmethod
    def together(attacks: Sequence["Attack"], mapped: Mapped, x: Tensor, y: Tensor) -> Tensor:
        """Return the moved batches (replicas, B, ...) of the next step of several replicas.

        Args:
            attacks: of the rules that ``mapped`` steps, in their order.
            mapped: the rules as one.
            x, y: batches (replicas, B, ...) and labels (replicas, B).
        """
        reached = mapped.computed(x, y, [one.gradient for one in attacks]).input_signal
        assert reached is not None
        return x + torch.stack([one._step(*each) for one, *each in zip(attacks, x, reached, strict=True)])


def attack(rule: Rule, trainer: TrainerConfig) -> Attack | None:
    """Return the attack that a run's settings ask for, on one of its rules; None where they ask for none."""
    if trainer.adversarial_epsilon is None:
        return None
    return Attack(rule, trainer.adversarial_epsilon, trainer.adversarial_share)


def _loss(rule: Rule) -> dict[str, Any]:
    """Return the options of `bp` that name a rule's loss."""
    if not isinstance(rule, BackwardRule):
        return rule.reference
    own = of_class(type(rule.loss)).keys() & rule.given.keys()
    return {"loss": rule.options.loss, **{name: rule.given[name] for name in own}}


def _refuse(rule: Rule, loss: dict[str, Any], epsilon: float) -> None:
    if loss.get("loss") == "ce_rate":
        raise UserError(
            f"trainer.adversarial_epsilon={epsilon:g} follows the gradient of one score an image, but rule.loss=ce_rate scores "
            "every time step: write rule.loss=ce, or trainer.adversarial_epsilon=null"
        )
    jump = next((op for op in rule.plan.ops if isinstance(op, Activate) and op.function.vjp is None), None)
    if jump is not None:
        raise UserError(
            f"trainer.adversarial_epsilon={epsilon:g} follows the gradient at the input, which is 0 below {jump.describe()} in "
            f"{type(rule.model).__name__}, a {jump.args['name']}: nothing would be moved. Write trainer.adversarial_epsilon=null, "
            "or arch.activation=relu"
        )
