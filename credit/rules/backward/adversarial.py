"""Adversarial training by the fast gradient sign method: a step at x + epsilon sign(d loss / d x) (Goodfellow et al. 2015).

The loss is the rule's own, its gradient the true one (derivatives and transposes, whatever the rule's gate and transport): one
forward and one backward pass to the input, which update nothing. The rule then makes its step at the moved batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.backward import AddUpdates, BackwardPass
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Signals
from credit.engine.plan import Plan
from credit.rules.state import RuleRun


class _Gradient(BackwardPass[RuleRun]):
    """Backprop to the input alone: no parameter's update is made on the way."""

    def visit(self, op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
        return op.adjoint(run, signal) if any(op.wants) else (None,) * len(op.wants)


class Attack:
    """What moves a batch against the network.

    Args:
        plan: the rule's, which stays as it is.
        epsilon: size of the step, in units of the network's input, above 0.
        share: of the samples of a batch, (0, 1]; which ones is drawn in every step. In expectation a share of 0.5 is the mean of
            the clean and the adversarial loss that the authors train on.

    Raises:
        UserError: the network's gradient is 0.
    """

    def __init__(self, plan: Plan, epsilon: float, share: float) -> None:
        jump = next((op for op in plan.ops if isinstance(op, Activate) and op.function.vjp is None), None)
        if jump is not None:
            raise UserError(
                f"rule.fgsm_epsilon={epsilon:g} follows the gradient at the input, which is 0 below {jump.describe()} in "
                f"{type(plan.model).__name__}, a {jump.args['name']}: nothing would be moved. Write rule.fgsm_epsilon=null, or "
                "arch.activation=relu"
            )
        self.epsilon, self.share = epsilon, share
        self.plan = plan.adapted(_Gradient(), to_input=True)
        self._moving = {name for op in self.plan.ops for name in op.stats()}

    def __call__(self, run: RuleRun, x: Tensor, output: Callable[[RuleRun, Tensor], Tensor]) -> Tensor:
        """Return the moved batch, of x's shape and type.

        Args:
            run: a step's arguments, of this plan; moved statistics are copies, so that they move once a step.
            x: batch (B, ...).
            output: (run, logits) -> the signal at the logits.
        """
        run.buffers = run.buffers | {name: run.buffers[name].clone() for name in self._moving}
        signal = output(run, self.plan.forward(run, x))
        self.plan.backward(run, signal, _Gradient())
        assert run.entry is not None
        step = run.entry.sign().to(x.dtype) * self.epsilon
        if self.share < 1:
            drawn: Tensor = run.draws.get("adversarial", "uniform", (run.batch,), x.dtype)
            step = step * (drawn < self.share).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return torch.add(x, step)


def make(plan: Plan, epsilon: float | None, share: float) -> Attack | None:
    """Return the attack that a rule's options ask for; None where they ask for none."""
    return None if epsilon is None else Attack(plan, epsilon, share)
