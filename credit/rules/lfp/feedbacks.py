"""Feedback functions of layer-wise feedback propagation: the feedback of each output for each sample.

o: logits (B, C); y: labels (B,).

Each is called with (logits, y) and returns the feedback r (B, C) and the loss, 0-d. r is ascent, per sample (not divided by
the batch size): where it has the logit's own sign, the logit is to keep its sign and grow in size. The loss is for the log.
One that is 0 for a logit of 0 declares ``silent_at_zero = True``: a ReLU above it then need not keep its input.
One that scores spike counts declares ``needs_steps = True`` and is called with (counts, y, steps=L).
One of your own is a plain function, ``@credit.rules.feedback("name")``.
Sources: LFP (paper 2) Eq. 6 and 7, Appendix A.1, Eq. A.16; what the text leaves open is as in the authors' release.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.errors import UserError
from credit.core.registry import register
from credit.rules.lfp.options import BoundedSoftmaxOptions, RewardOptions
from credit.rules.traits import Traits

Function = TypeVar("Function", bound=Callable[..., Tensor])

CHECKED = 3
"""First calls of a user's function in which its numbers are looked at; their shape and type are in every one."""


def _onehot(o: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(o).scatter(1, y.unsqueeze(1), 1.0)


def _wrong(o: Tensor, y: Tensor) -> Tensor:
    return (o.argmax(1) != y).to(o.dtype).mean()


class Sigmoid:
    """``o_c (y_c - sigmoid(o_c))`` (Eq. 7). Loss: binary cross-entropy of every logit, summed over classes, mean over samples."""

    silent_at_zero: ClassVar[bool] = True

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        target = _onehot(o, y)
        loss = F.binary_cross_entropy_with_logits(o, target, reduction="sum") / o.shape[0]
        return target.sub_(o.sigmoid()).mul_(o), loss


class Softmax:
    """``o_c (y_c - softmax(o)_c)``. Loss: cross-entropy."""

    silent_at_zero: ClassVar[bool] = True

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logs = F.log_softmax(o, 1)
        return _onehot(o, y).sub_(logs.exp()).mul_(o), F.nll_loss(logs, y)


class BoundedSoftmax(BoundedSoftmaxOptions):
    """``o_c (y_c - p_c)``, p the softmax with what is above ``upper_bound`` set to 1 and below ``lower_bound`` to 0.

    So a true class that is sure enough, and another that is unlikely enough, gets no feedback any more; a wrong one that is
    sure gets the whole of it. With the bounds at 0 and 1, the release's defaults, it is ``softmax``. Loss: cross-entropy.
    """

    silent_at_zero: ClassVar[bool] = True

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logs = F.log_softmax(o, 1)
        p = logs.exp()
        p = torch.where(p > self.upper_bound, 1.0, torch.where(p < self.lower_bound, 0.0, p))
        return _onehot(o, y).sub_(p).mul_(o.sign() if self.sign_only else o), F.nll_loss(logs, y)


class Reward(RewardOptions):
    """The true class alone: +1 for a right answer, -1 for a wrong one (Appendix A.1). Loss: share of wrong answers."""

    @property
    def silent_at_zero(self) -> bool:
        return self.reward_sign

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        right = (o.argmax(1) == y).to(o.dtype).unsqueeze(1)
        reward = _onehot(o, y).mul_(2 * right - 1)
        return reward.mul_(o.sign()) if self.reward_sign else reward, _wrong(o, y)


class Misclassification(RewardOptions):
    """-1 for every class whose logit is above the true one's (the release's reward). Loss: share of wrong answers."""

    @property
    def silent_at_zero(self) -> bool:
        return self.reward_sign

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        reward = -(o > o.gather(1, y.unsqueeze(1))).to(o.dtype)
        return reward.mul_(o.sign()) if self.reward_sign else reward, _wrong(o, y)


class Spiking:
    """Of n spikes in L steps: ``1 - sigmoid(n - L//2)`` for the true class, ``-(1 - sigmoid(L - n - L//2))`` for the others.

    Eq. A.16 as the authors run it: L//2 whole, and the silent steps counted, where the text prints a negative number. The
    readout hands the true class's feedback to every step and another class's to the steps with a spike.
    Loss: cross-entropy of the counts.
    """

    needs_steps: ClassVar[bool] = True
    traits = Traits(needs={"spike_counts": "compares the spikes of each class with the number of steps"})

    def __call__(self, counts: Tensor, y: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        half = steps // 2
        true = y.unsqueeze(1) == torch.arange(counts.shape[1], device=y.device)
        # 1 - sigmoid(a) = sigmoid(-a), which keeps its digits where it is small.
        feedback = torch.where(true, torch.sigmoid(half - counts), -torch.sigmoid(counts + (half - steps)))
        return feedback, F.cross_entropy(counts, y)


class FunctionFeedback:
    """The feedback that a user's function returns. Loss: cross-entropy of the logits."""

    name: ClassVar[str]
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        feedback = type(self).function(o, y)
        self._check(o, feedback)
        return feedback.to(o.dtype), F.cross_entropy(o, y)

    def _check(self, o: Tensor, feedback: Any) -> None:
        where = f"rule.feedback={self.name}"
        if not isinstance(feedback, Tensor):
            raise UserError(
                f"{where} returned {feedback!r}, a {type(feedback).__name__}; return a tensor shaped like the logits, "
                f"{tuple(o.shape)}, for example torch.zeros_like(logits)"
            )
        if feedback.shape != o.shape:
            raise UserError(
                f"{where} returned shape {tuple(feedback.shape)}, not that of the logits, {tuple(o.shape)}: return one number "
                "for each sample and class"
            )
        # Numbers cannot be looked at while a step is being compiled or mapped, which an eager step precedes.
        if (
            self._calls == CHECKED
            or torch.compiler.is_compiling()
            or torch._C._functorch.is_functorch_wrapped_tensor(o)
        ):
            return
        self._calls += 1
        # Of logits that are not finite no feedback is asked for: then the forward pass went wrong, which is reported elsewhere.
        wrong = ~torch.isfinite(feedback) & torch.isfinite(o).all(1, keepdim=True)
        if bool(wrong.any()):
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise UserError(
                f"{where} returned {float(feedback[row, column]):g} for class {column} of sample {row}, whose logit is "
                f"{float(o[row, column]):g}: feedback must be finite, or every weight beneath is lost"
            )


def feedback(name: str) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as the feedback ``name``, for ``rule.feedback=name`` of every LFP rule.

        @credit.rules.feedback("shy")
        def shy(logits, y):
            target = torch.nn.functional.one_hot(y, logits.shape[1])
            return logits.tanh() * (target - logits.sigmoid())

    in ``DIR/rule/shy.py`` with ``--config-dir DIR``; then ``rule=lfp_epsilon rule.feedback=shy``.

    The function takes the logits (B, C) and the labels (B,), int64, and returns the feedback (B, C) of each logit,
    per sample (not divided by B), positive where the rule should strengthen what made the logit as it is, its sign included.
    It must be finite, which is checked in the first ``CHECKED`` calls. The loss that steps report is the cross-entropy of the
    logits, which the function need not lower.

    Args:
        name: the word for ``rule.feedback``.

    Raises:
        UserError: the name is taken, or the function takes other arguments.
    """
    if name == "auto":
        raise UserError("@credit.rules.feedback('auto'): rule.feedback=auto lets the rule choose; take another name")

    def keep(function: Function) -> Function:
        _refuse_unfit(name, function)
        title = getattr(function, "__qualname__", name)
        body = {"name": name, "function": staticmethod(function), "__doc__": function.__doc__}
        cls = type(title, (FunctionFeedback,), body | {"__module__": function.__module__})
        register("feedback", name)(cls)
        return function

    return keep


def _refuse_unfit(name: str, function: Callable[..., Tensor]) -> None:
    """Refuse a function that cannot be called with (logits, y); further arguments need defaults, which they keep."""
    title = getattr(function, "__qualname__", repr(function))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise UserError(
            f"@credit.rules.feedback('{name}') on {title}, which does not say what it takes: write a function of (logits, y) "
            "that calls it"
        ) from None
    try:
        signature.bind(None, None)
    except TypeError:
        raise UserError(
            f"@credit.rules.feedback('{name}') on {title}{signature}: a feedback function takes (logits, y)"
        ) from None
