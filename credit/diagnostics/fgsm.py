"""Robustness to the fast gradient sign method (FGSM): accuracy at x + epsilon sign(d loss / d x) (Goodfellow et al. 2015).

The loss is cross-entropy (squared error for a single probability), the network is in evaluation mode. Epsilon is in units of the
network's normalized input; adversarial examples are not clipped to the range of images.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data, evaluation
from credit.diagnostics.base import LABELS, Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype, refuse_settled
from credit.engine.ops.activations import Activate
from credit.rules.base import Rule, Step
from credit.tasks.base import Task, fitting


class Fgsm(Diagnostic):
    """The diagnostic ``fgsm``: `fgsm` at the run's end, at every ``trainer.fgsm_epsilon``."""

    tasks = LABELS
    at_end = True
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        """Refuse rules whose evaluations are no forward pass, and networks with activations whose derivative is zero."""
        refuse_settled("fgsm", rule, "where they settle has no gradient that the attack could follow")
        for op in rule.plan.ops:
            if isinstance(op, Activate) and op.function.vjp is None:
                raise UserError(
                    f"trainer.measure=[fgsm]: the gradient that the attack follows is 0 below {op.describe()}, a "
                    f"{op.args['name']}, so that it would move nothing. Leave the diagnostic out, or give arch.activation=relu"
                )

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return `fgsm` of the network after the run's last step."""
        cfg = self.run.cfg
        return fgsm(self.run.evaluated(), self.run.data, cfg.trainer.fgsm_epsilon, cfg.data.eval_batch_size)


def fgsm(
    model: nn.Module, data: Data, epsilons: Sequence[float], batch_size: int = 1000
) -> dict[str, dict[str, float]]:
    """Return a network's accuracy on clean and on adversarial examples; the network is left in train mode.

    Args:
        model: a network that autograd can differentiate.
        data: the data set, on the network's device.
        epsilons: positive sizes of the perturbation, in units of the network's input.
        batch_size: number of examples in a forward pass.

    Returns:
        For ``val`` and ``test``, if they have examples, the accuracy in [0, 1] on ``clean`` examples and by epsilon:
        ``{"clean": 0.98, "e0_01": 0.95}`` for 0.01.
    """
    found = {}
    task = fitting(data.task, model)
    model.eval()
    for split in ("val", "test"):
        rights = [
            _rights(model, x.to(float_dtype(model)), y, epsilons, task) for x, y in evaluation(data, split, batch_size)
        ]
        if rights:
            shares = (torch.stack(rights).sum(0) / len(data.split(split))).tolist()
            found[split] = dict(zip(("clean", *map(_word, epsilons)), shares, strict=True))
    model.train()
    return found


def _rights(model: nn.Module, x: Tensor, y: Tensor, epsilons: Sequence[float], task: Task) -> Tensor:
    """Return the numbers of correct predictions in a batch (1 + epsilons,), float64: clean, then by epsilon."""
    with torch.enable_grad():
        given = x.detach().requires_grad_()
        out = model(given)
        (gradient,) = torch.autograd.grad(task.loss(out, y), given)
    with torch.no_grad():
        outs = [out, *(model(x + epsilon * gradient.sign()) for epsilon in epsilons)]
        return torch.stack([(task.predict(one) == y).sum().double() for one in outs])


def _word(epsilon: float) -> str:
    return f"e{epsilon:g}".replace(".", "_")
