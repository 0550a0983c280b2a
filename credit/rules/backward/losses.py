"""Losses, and the output errors that are their gradients. z: logits (B, C); y: labels; m: margin; v_j: violation of class j.

Each returns the descent signal already divided by the batch size, and the loss whose gradient it is. Traits (see
`credit.rules.traits`): ``sparse`` where satisfied samples have no signal at all, which the backward pass then leaves out where it
pays; ``needs`` of ``summed_steps``: a loss of a spiking network's output at every time step, called with (steps * batch, classes)
and the labels as often. The method that is called follows from the task (`credit.tasks`): ``__call__`` with (z, y);
``of_probability`` with (p, y), where the network's output is the probability p (B, 1) of class 1, and beside it ``refusal``, which
returns why the probabilities that an op makes cannot be scored; ``of_mixtures`` with logits and shares of classes t, both (B, C);
``of_numbers`` with outputs and targets t, both (B, K).
Sources: LISP (paper 1) Eq. 1, 2 and section 2; with v_j = max(0, m - (z_y - z_j)), j != y.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op
from credit.rules.backward.options import CrossEntropyOptions, MarginOptions
from credit.rules.traits import Traits

_PROBABILITIES = ("sigmoid", "hardsigmoid")  # activations whose values cross-entropy is defined for


def _at(y: Tensor) -> Tensor:
    return y.unsqueeze(1)


def violations(z: Tensor, y: Tensor, margin: float) -> Tensor:
    """Return v (B, C), zero at the true class (LISP Eq. 1)."""
    v = z - z.gather(1, _at(y)) + margin
    return v.clamp(min=0).scatter(1, _at(y), 0.0)


def check_weights(weights: Sequence[float], classes: int) -> None:
    """Refuse weights of another number of classes."""
    if len(weights) != classes:
        raise UserError(
            f"rule.class_weights has {len(weights)} weights, and there are {classes} classes; give one a class"
        )


class CrossEntropy(CrossEntropyOptions):
    """``softmax(z) - target``: the gradient of cross-entropy (LISP-CE and backprop alike).

    Of a probability: ``(p - y) / max(p (1 - p), 1e-12)``, unbounded where p is nearly 0 or 1 (torch's binary cross-entropy,
    its logarithms cut off at -100): the output's activation is part of the network, and its gate acts on this signal.
    ``label_smoothing`` spreads that share of the target evenly over all classes (Szegedy et al. 2016). ``class_weights`` w_c scale
    the terms of the classes: ``-1/B sum_i sum_c w_c t_ic log p_ic``. (torch's loss divides by ``sum_i w_{y_i}``, not by B.)
    """

    traits = Traits(shares=True)

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.class_weights is not None:
            return self.of_mixtures(z, torch.zeros_like(z).scatter_(1, _at(y), 1.0))
        logs = F.log_softmax(z, 1)
        loss = F.nll_loss(logs, y)
        spread = self.label_smoothing
        if spread:
            loss = (1 - spread) * loss - spread * logs.mean()
        target = torch.full_like(logs[:, :1], spread - 1.0)
        signal = logs.exp_().scatter_add_(1, _at(y), target)
        if spread:
            signal.sub_(spread / z.shape[1])
        return signal.mul_(1.0 / y.shape[0]), loss

    def of_mixtures(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        logs, size = F.log_softmax(z, 1), 1.0 / z.shape[0]
        t = t * (1 - self.label_smoothing) + self.label_smoothing / z.shape[1]
        if (weights := self._weights(z, z.shape[1])) is not None:
            t = t * weights
        return (logs.exp() * t.sum(1, keepdim=True) - t).mul_(size), -(t * logs).sum() * size

    def of_probability(self, p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        target, weights = _at(y).to(p.dtype), self._weights(p, 2)
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        if weights is None:
            signal, loss = p - target, F.binary_cross_entropy(p, target)
        else:
            zero, one = weights[0] * (1 - target), weights[1] * target
            signal = zero * p - one * (1 - p)
            loss = -(one * p.log().clamp(min=-100) + zero * (1 - p).log().clamp(min=-100)).mean()
        return signal.div_((p * (1 - p)).clamp(min=1e-12)).mul_(1.0 / y.shape[0]), loss

    def _weights(self, out: Tensor, classes: int) -> Tensor | None:
        """Return the weights of the classes (C,) on the output's device; None without any."""
        if self.class_weights is None:
            return None
        check_weights(self.class_weights, classes)
        return torch.tensor(self.class_weights, dtype=out.dtype).to(out.device, non_blocking=True)

    def refusal(self, op: Op) -> str | None:
        name = op.args["name"] if isinstance(op, Activate) else op.kind
        if name == "step":
            return "a step answers 0 or 1, of which the cross-entropy is infinite where it is wrong"
        return None if name in _PROBABILITIES else f"cross-entropy needs a number in [0, 1], and {name} gives any"


class CrossEntropyRate:
    """``softmax(o[t]) - target`` at each time step t of what a spiking network's readout sums, o (its last spikes).

    The gradient of ``1/T sum_t CE(o[t], y)``: snnTorch's ``ce_rate_loss``; ``ce`` of the counts is its ``ce_count_loss``.
    """

    traits = Traits(needs={"summed_steps": "scores the output at each time step"}, shares=True)

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return CrossEntropy()(z, y)


class SquaredError:
    """``2 (z - t) / C``, of classes with t the one-hot target; ``2 (p - y)`` of a probability.

    The gradient of ``1/B sum_i 1/C sum_j (z_ij - t_ij)^2``, the mean over outputs and samples (torch's MSELoss).
    """

    traits = Traits(shares=True)

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._scored(z.scatter_add(1, _at(y), torch.full_like(z[:, :1], -1.0)))

    def of_probability(self, p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._scored(p - _at(y))

    def of_numbers(self, o: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self._scored(o - t)

    of_mixtures = of_numbers

    def _scored(self, error: Tensor) -> tuple[Tensor, Tensor]:
        return error * (2.0 / (error.shape[1] * error.shape[0])), error.square().mean()

    def refusal(self, op: Op) -> str | None:
        return None


class HalfSquaredError(SquaredError):
    """``z - t``, of classes with t the one-hot target; ``p - y`` of a probability.

    The gradient of ``1/B sum_i 1/2 sum_j (z_ij - t_ij)^2``, half the sum over outputs, averaged over the samples alone: the least
    squares of dual propagation (paper 3), C/2 times ``mse``.
    """

    traits = Traits(shares=True)

    def _scored(self, error: Tensor) -> tuple[Tensor, Tensor]:
        return error * (1.0 / error.shape[0]), 0.5 * error.square().sum() / error.shape[0]


class Usual(CrossEntropy):
    """Cross-entropy of classes, tokens and probabilities; of numbers the mean squared error."""

    traits = Traits(shares=True)
    of_numbers = SquaredError().of_numbers


class UsualOfStates(CrossEntropy):
    """Cross-entropy of classes and tokens; of numbers half the sum of squared errors, whose gradient is the distance to them."""

    traits = Traits(shares=True)
    of_numbers = HalfSquaredError().of_numbers


OF_STATES = {"auto": UsualOfStates, "ce": CrossEntropy, "half_sse": HalfSquaredError}
"""The losses of rules with states or targets."""


class Violations(MarginOptions):
    """All violations (LISP Eq. 2): ``+v_j`` at each violator, ``-sum_j v_j`` at the true class.

    The gradient of S = 1/(2B) sum_i sum_j v_ij^2 (Theorem 1).
    """

    traits = Traits(sparse=True, shares=True)

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        v = violations(z, y, self.margin)
        loss = 0.5 * v.square().sum() / y.shape[0]
        return v.scatter(1, _at(y), -v.sum(1, keepdim=True)).mul_(1.0 / y.shape[0]), loss


class WorstViolation(MarginOptions):
    """The worst violator alone (LISP-margin): ``+v`` there, ``-v`` at the true class; 0 for a satisfied sample.

    The gradient of 1/(2B) sum_i max_j v_ij^2.
    """

    traits = Traits(sparse=True, shares=True)

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        v, at = violations(z, y, self.margin).max(1, keepdim=True)
        loss = 0.5 * v.square().sum() / y.shape[0]
        v = v * (1.0 / y.shape[0])
        # scatter_add: where nothing is violated both land on one place and cancel.
        return torch.zeros_like(z).scatter_add_(1, at, v).scatter_add_(1, _at(y), -v), loss
