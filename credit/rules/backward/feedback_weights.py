"""Feedback weights: how error signals cross layers. W: the op's weight; B: a feedback matrix; e: the output error (B, classes).

Feedback matrices are buffers of the rule, named ``feedback.<parameter>`` (shaped like W) or, for direct feedback,
``feedback.<op>`` (classes, *input shape), of tokens (tokens, *input shape of one position). Uniform unless the user sets them.
Those that learn are the rule's parameters.

``rule.feedback_scale`` is the size of feedback weights:

* ``matched``: error signals begin at the size of those that they replace. What stands for W has the Frobenius norm that W has at
  construction. Direct feedback sends the root mean square that the backward pass through the
  transposed weights has at the same place (`credit.rules.backward.gains`). Where W, or that signal, is 0: ``xavier``.
* ``xavier``: root mean square sqrt(2 / (fan_in + fan_out)) whatever the size of W, as in biotorch. Against PyTorch's first weights,
  U(+-1 / sqrt(fan_in)), the error signal is up to 2.4 times as large after one layer and 4 to 30 times after several.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from credit.core.randomness import generator
from credit.engine.backward import refuse_renamed
from credit.engine.ops.weighted import Conv, Weighted
from credit.rules.backward.options import DirectOptions, ReplacingOptions
from credit.rules.state import RuleRun
from credit.rules.traits import Traits


def xavier(shape: torch.Size | tuple[int, ...], like: Tensor, seed: int, name: str) -> Tensor:
    """Return a Xavier-uniform tensor: U(-b, b), b = sqrt(6 / (fan_in + fan_out)), drawn from the stream ``name``."""
    return xavier_bound(shape) * (2 * torch.rand(shape, generator=generator(seed, name), dtype=torch.float64) - 1).to(
        like
    )


def sized(drawn: Tensor, size: Tensor) -> Tensor:
    """Return a tensor scaled to a root mean square (0-d); as it is where that is 0 or not finite, so that feedback is never off."""
    scale = size.to(torch.float64) / root_mean_square(drawn)
    return drawn * torch.where(torch.isfinite(scale) & (scale > 0), scale, 1.0).to(drawn.dtype)


def root_mean_square(value: Tensor) -> Tensor:
    """Return the root mean square of a tensor's elements, 0-d, float64."""
    return value.to(torch.float64).square().mean().sqrt()


def xavier_bound(shape: torch.Size | tuple[int, ...]) -> float:
    """Return the bound b of Xavier's uniform draws U(-b, b) for a weight of this shape (out, in, *kernel)."""
    field = math.prod(shape[2:])
    return math.sqrt(6.0 / ((shape[0] + shape[1]) * field))


class FeedbackWeights:
    """Base of all feedback weights; ``feedback`` returns the matrices of an op to be crossed, made once per rule."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_renamed(cls)
        if "backproject" in vars(cls) and "replaces" not in vars(cls):
            cls.replaces = True

    # Whether other weights take the place of the op's own, so that ops that they do not reach are refused
    # (`credit.rules.backward.reach`). A subclass with its own ``backproject`` replaces them unless it declares that it does not.
    replaces = True
    unreached: Literal["refuse", "backprop"] = "refuse"
    # Whether the output signal is sent straight to the op's input, whose shape `feedback` then needs to know.
    direct = False
    # Whether ``feedback``'s matrices are the rule's own parameters (see `credit.rules.backward.learned_feedback`), not its buffers.
    learns = False

    def refusal(self, ops: Sequence[Weighted], word: str) -> str | None:
        """Return why these weights, chosen as ``word``, would change nothing in crossing these ops; None where they act."""
        if ops or not self.replaces:
            return None
        return (
            f"rule.feedback_weights={word} would change nothing: it replaces the weights that an error signal crosses on its way "
            "to a layer below, and no signal crosses any: the network has one layer of weights, or nothing below its last one is "
            "trained, so that this is backprop. Use a network with a hidden layer (arch.widths=[256]), or write rule=bp "
            "(rule.feedback_weights=transpose)"
        )

    def rescaled(self, matrix: Tensor, gain: Tensor, classes: int) -> Tensor:
        """Return a matrix of direct feedback at the size that it begins with.

        Args:
            matrix: as ``feedback`` gave it, (classes, ...).
            gain: root mean square of the signal that the backward pass through the transposed weights sends to the op's input,
                over that of the output signal (0-d).
            classes: how many outputs there are.
        """
        return matrix

    def feedback(
        self, op: Weighted, weight: Tensor, shape: torch.Size | None, classes: int, seed: int
    ) -> dict[str, Tensor]:
        return {}

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        raise AssertionError


class Replacing(ReplacingOptions, FeedbackWeights):
    """Base of those that put other weights in the place of the op's own."""

    def _magnitude(self, op: Weighted, weight: Tensor) -> dict[str, Tensor]:
        """Return the root mean square of what stands for a weight, 0-d, as the one buffer of those that take W's signs."""
        usual = weight.new_tensor(xavier_bound(weight.shape) / math.sqrt(3.0))
        return {_name(op): usual if self.feedback_scale == "xavier" else sized(usual, root_mean_square(weight))}


def _name(op: Weighted) -> str:
    return f"feedback.{op.params.get('weight', op.name)}"


class Transpose(FeedbackWeights):
    """``W^T s``: the weights themselves, as in backprop."""

    replaces = False
    traits = Traits(per_sample=True)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        return op.back(run, signal, op.weight(run))


class FixedRandom(Replacing):
    """``B^T s`` with B fixed, random and shaped like W: feedback alignment (Lillicrap et al. 2016)."""

    traits = Traits(per_sample=True)

    def feedback(
        self, op: Weighted, weight: Tensor, shape: torch.Size | None, classes: int, seed: int
    ) -> dict[str, Tensor]:
        drawn = xavier(weight.shape, weight, seed, _name(op))
        return {_name(op): drawn if self.feedback_scale == "xavier" else sized(drawn, root_mean_square(weight))}

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        return op.back(run, signal, run.buffers[_name(op)].to(signal.dtype if run.dtype is None else run.dtype))


class KolenPollack(FixedRandom):
    """``B^T s`` with B of its own, begun at random, that learns by W's updates (Kolen and Pollack 1994; Akrout et al. 2019).

    With weight decay on both, B - W decays; without it stays, and this is feedback alignment with moving matrices.
    """

    traits = Traits(per_sample=True)
    learns = True

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        return op.back(run, signal, run.params[_name(op)].to(signal.dtype if run.dtype is None else run.dtype))


class UniformSign(Replacing):
    """``sign(W)^T s`` times a constant: uniform sign-concordant feedback, uSF (Liao et al. 2016)."""

    traits = Traits(per_sample=True)

    def feedback(
        self, op: Weighted, weight: Tensor, shape: torch.Size | None, classes: int, seed: int
    ) -> dict[str, Tensor]:
        return self._magnitude(op, weight)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        weight = op.weight(run)
        return op.back(run, signal, weight.sign() * run.buffers[_name(op)].to(weight.dtype))


class FixedSign(FixedRandom):
    """``(sign(W) |B|)^T s`` with B fixed: frSF (Moskovitz et al. 2018)."""

    traits = Traits(per_sample=True)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        weight = op.weight(run)
        return op.back(run, signal, weight.sign() * run.buffers[_name(op)].abs().to(weight.dtype))


class FreshSign(UniformSign):
    """``(sign(W) |B|)^T s`` with B drawn afresh each step: brSF (Moskovitz et al. 2018). ``matched`` is in expectation."""

    traits = Traits(per_sample=True)

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        weight = op.weight(run)
        drawn = run.draws.get(_name(op), "uniform", tuple(weight.shape), weight.dtype)
        # |B| for B uniform on (-b, b) is uniform on [0, b), of the root mean square b / sqrt(3).
        bound = run.buffers[_name(op)].to(weight.dtype) * math.sqrt(3.0)
        return op.back(run, signal, weight.sign() * drawn.mul(bound))


class Direct(DirectOptions, Replacing):
    """``B^T e`` in place of what would arrive through the weights: direct feedback alignment (Nokland 2016).

    Every crossing of a weighted op is replaced, so pools, norms and residual sums between are crossed by their adjoints.
    ``dfa_map``: ``dense`` maps e to every element of the op's input, B is (classes, *input shape); ``channels`` gives all
    positions of a convolution's channel the same value, B is (classes, channels).
    """

    direct = True
    traits = Traits(
        per_sample=True,
        refuses={"time_steps": "sends the output error, one row an image, straight to every layer"},
    )

    def refusal(self, ops: Sequence[Weighted], word: str) -> str | None:
        """Return also the words for ``channels`` in a network without convolutions."""
        if ops and self.dfa_map == "channels" and not any(isinstance(op, Conv) for op in ops):
            return (
                "rule.dfa_map=channels would change nothing: it gives all positions of a convolution's channel one value, and the "
                "signal crosses no convolution: write rule.dfa_map=dense"
            )
        return super().refusal(ops, word)

    def rescaled(self, matrix: Tensor, gain: Tensor, classes: int) -> Tensor:
        if self.feedback_scale == "xavier":
            return matrix
        return sized(matrix, gain / math.sqrt(classes))  # an element of B^T e sums so many products

    def feedback(
        self, op: Weighted, weight: Tensor, shape: torch.Size | None, classes: int, seed: int
    ) -> dict[str, Tensor]:
        assert shape is not None
        name = f"feedback.{op.name}"
        size = (classes, *(shape[1:2] if self.dfa_map == "channels" and isinstance(op, Conv) else shape[1:]))
        flat = xavier((classes, math.prod(size[1:])), weight, seed, name)
        return {name: flat.view(size)}

    def backproject(self, op: Weighted, run: RuleRun, signal: Tensor) -> Tensor:
        matrix = run.buffers[f"feedback.{op.name}"]
        shape = op.input_shape(run)
        assert run.error is not None
        error = run.error if run.error.shape[-1] == matrix.shape[0] else run.error.flatten(1)
        sent = error.to(matrix.dtype) @ matrix.flatten(1)
        if matrix.dim() == 2 and sent.dim() == 2 and len(shape) > 2:
            # A tensor of its own: what follows may overwrite it.
            return sent.view(*sent.shape, *[1] * (len(shape) - 2)).expand(shape).contiguous()
        return sent.view(shape)
