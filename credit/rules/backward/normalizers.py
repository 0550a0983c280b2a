"""Normalizers of error signals on arrival at a weighted op. Error signals carry 1 / batch before and after.

Where ``traits`` declare ``per_sample``, a backward pass may leave satisfied samples out, and ``run.present`` counts those it has.
"""

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Run
from credit.engine.ops.weighted import Weighted
from credit.rules.traits import NORMALIZER, Traits


class Unchanged:
    """The signal as it is."""

    traits = Traits(per_sample=True)

    def __call__(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        return signal

    def step(self, run: Run, signal: Tensor, own: bool = False) -> Tensor:
        """Return one time step's signal (B, ...) as it is."""
        return signal


class RootMeanSquare:
    """``d_i / rms(d_i)`` per sample (LISP D1): the mean square over all of a sample's elements becomes 1; zero stays zero."""

    traits = Traits(
        per_sample=True,
        refuses={
            **NORMALIZER,
            "probability": "brings every sample's error signal to one size, which leaves nothing of one number but its sign, the "
            "label's whatever the answer",
        },
    )

    def __call__(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        if signal.shape[0] != run.present:
            raise UserError(
                f"rule.normalizer=rms needs each sample's signal, but at {op.describe()} the first dimension is "
                f"{signal.shape[0]}, not the batch of {run.present}: the model mixes samples with positions there. "
                "Use rule.normalizer=none or max_abs."
            )
        flat = signal.flatten(1)
        size = torch.linalg.vector_norm(flat, dim=1)
        # rms = size / sqrt(n); the 1 / batch that signals carry cancels in d / rms(d) and is put back.
        factor = torch.where(size > 0, flat.shape[1] ** 0.5 / run.batch / size, 0.0)
        factor = factor.view(-1, *[1] * (signal.dim() - 1))
        return signal.mul_(factor) if op.exclusive else signal * factor


class MaxAbs:
    """The whole batch's signal divided by its largest absolute value (LFP's ``norm_backward``); zero stays zero.

    Over time, (steps * batch, ...), each time step has a largest value of its own. A spiking unit's feedback is divided inside
    its recursion, where a step's future has been added: see `credit.rules.lfp.passage.fired`.
    """

    traits = Traits(per_sample=True, refuses=NORMALIZER, largest=True)

    def __call__(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        if op.steps > 1:
            return torch.cat([self.step(run, one) for one in signal.chunk(op.steps)])
        return self.step(run, signal, op.exclusive)

    def step(self, run: Run, signal: Tensor, own: bool = False) -> Tensor:
        """Return one time step's signal (B, ...) divided; ``own``: it may be overwritten."""
        top = signal.abs().amax()
        if (sharing := getattr(run, "sharing", None)) is not None:  # signals carry 1 / batch, of a share here
            top = sharing.maximum(top * run.batch) / run.batch
        factor = torch.where(top > 0, 1.0 / run.batch / top, 0.0)
        return signal.mul_(factor) if own else signal * factor
