"""Robustness to the fast gradient sign method: accuracy at x + epsilon sign(d loss / d x) (Goodfellow et al. 2015).

The loss is cross-entropy (of a probability, squared error), the network in evaluation mode. Epsilon counts in units of the
network's input, which is normalised; what leaves the range of real images is not cut back.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from credit.core import outputs
from credit.core.errors import UserError
from credit.data import Data, evaluation
from credit.diagnostics.base import Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype, refuse_settled
from credit.engine.ops.activations import Activate
from credit.rules.base import Rule, Step


class Fgsm(Diagnostic):
    """``trainer.measure=[fgsm]``: `fgsm` at the run's end, at every ``trainer.fgsm_epsilon``."""

    at_end = True
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        refuse_settled("fgsm", rule, "where they settle has no gradient that the attack could follow")
        for op in rule.plan.ops:
            if isinstance(op, Activate) and op.function.vjp is None:
                raise UserError(
                    f"trainer.measure=[fgsm]: the gradient that the attack follows is 0 below {op.describe()}, a "
                    f"{op.args['name']}, so that it would move nothing. Leave the diagnostic out, or give arch.activation=relu"
                )

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        cfg = self.run.cfg
        return fgsm(self.run.evaluated(), self.run.data, cfg.trainer.fgsm_epsilon, cfg.data.eval_batch_size)


def fgsm(
    model: nn.Module, data: Data, epsilons: Sequence[float], batch_size: int = 1000
) -> dict[str, dict[str, float]]:
    """Return a network's accuracy on clean and on adversarial examples; it is left in train mode.

    Args:
        model: a network that autograd can differentiate.
        data: the data set, on the network's device.
        epsilons: sizes of the step, in units of the network's input, above 0.
        batch_size: examples at a time.

    Returns:
        For ``val`` and ``test``, where they have examples: ``clean``, and by epsilon the accuracy in [0, 1] on the examples
        moved by it: ``{"clean": 0.98, "e0_01": 0.95}`` for 0.01.
    """
    found = {}
    model.eval()
    for split in ("val", "test"):
        rights = [_rights(model, x.to(float_dtype(model)), y, epsilons) for x, y in evaluation(data, split, batch_size)]
        if rights:
            shares = (torch.stack(rights).sum(0) / len(data.split(split))).tolist()
            found[split] = dict(zip(("clean", *map(_word, epsilons)), shares, strict=True))
    model.train()
    return found


def _rights(model: nn.Module, x: Tensor, y: Tensor, epsilons: Sequence[float]) -> Tensor:
    """Return how many of a batch's answers are right (1 + epsilons,), float64, unmoved and moved."""
    with torch.enable_grad():
        given = x.detach().requires_grad_()
        out = model(given)
        (gradient,) = torch.autograd.grad(outputs.evaluation_loss(out, y, "sum"), given)
    with torch.no_grad():
        outs = [out, *(model(x + epsilon * gradient.sign()) for epsilon in epsilons)]
        return torch.stack([(outputs.answers(one) == y).sum().double() for one in outs])


def _word(epsilon: float) -> str:
    return f"e{epsilon:g}".replace(".", "_")
