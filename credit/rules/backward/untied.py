"""Untied gates: at an activation the signal is multiplied by a function g of the pre-activation z that need not be f'(z).

Legend: z pre-activation; f activation; g >= 0 the factor; U uniform noise, drawn afresh for every step, sample and unit.
Any activation is taken, also one without a derivative. Source: untied activation gradients (paper 4), section 3 and
Figures 6 and 8; the sizes that its figures do not show are the authors' package's, or inferred (see each gate).
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.rules.backward.options import (
    ConstantOptions,
    JamOptions,
    RectangleJamOptions,
    RectangleOptions,
    TriangleOptions,
)
from credit.rules.traits import ACTS, GATE, Traits

aten = torch.ops.aten
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# The largest number below zero: `z > this` is `z >= 0`.
_BELOW_ZERO = {d: -float(torch.nextafter(torch.zeros((), dtype=d), torch.ones((), dtype=d))) for d in _DTYPES}


UNTIED = Traits(refuses=GATE, needs=ACTS)


class Untied:
    """What these gates share: they take every activation, and a network without any is refused."""

    @property
    def traits(self) -> Traits:
        return UNTIED

    def keeps(self, op: Activate) -> set[str]:
        return {"input"}

    def refusal(self, op: Activate) -> str | None:
        return None


class _Interval:
    """A closed interval of z, [low, high], its ends rounded to z's type."""

    def __init__(self, low: float, high: float) -> None:
        self._ends: dict[torch.dtype, tuple[float, float, float, float]] = {}
        for d in _DTYPES:
            first, last = torch.tensor(low, dtype=d), torch.tensor(high, dtype=d)
            # The open interval between the next numbers outside is the closed one.
            below = torch.nextafter(first, torch.tensor(-torch.inf, dtype=d))
            above = torch.nextafter(last, torch.tensor(torch.inf, dtype=d))
            self._ends[d] = (float(first), float(last), float(below), float(above))

    def only(self, signal: Tensor, z: Tensor, own: bool) -> Tensor:
        """Return ``signal`` where z lies inside, else 0; ``own``: in place, in one pass."""
        low, high, below, above = self._ends[z.dtype]
        if own:
            aten.hardtanh_backward.grad_input(signal, z, below, above, grad_input=signal)
            return signal
        # Compiled code may treat the smallest numbers as zeros, so it compares with the ends themselves.
        return torch.where((z >= low) & (z <= high), signal, 0.0)


def _spare(op: Activate, run: Run) -> bool:
    """Whether z may be overwritten: it was made for this activation alone, and all that reads its result has been swept."""
    return run.overwrite and op.overwrite


def _scaled(signal: Tensor, factor: float, own: bool) -> Tensor:
    if factor == 1:
        return signal
    return signal.mul_(factor) if own else signal * factor


class Constant(ConstantOptions, Untied):
    """``g = height`` (default 1): the activation's derivative is left out altogether (Log/1, ReLU/1, Step/1)."""

    traits = replace(UNTIED, per_sample=True)

    @property
    def _height(self) -> float:
        return 1.0 if self.height is None else self.height

    def keeps(self, op: Activate) -> set[str]:
        return set()

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        return _scaled(signal, self._height, op.exclusive)


class Rectangle(RectangleOptions, Untied):
    """``g = height`` where ``low <= z <= high``, else 0 (Figure 6c; its size there is unreadable).

    ``width`` stands for the ends -width/2 and width/2. ``height`` 1 and ``width`` 1 by default, those of the authors' package.
    """

    traits = replace(UNTIED, per_sample=True)

    _size: tuple[float, _Interval]

    def __post_init__(self) -> None:
        super().__post_init__()
        half = (1.0 if self.width is None else self.width) / 2
        low, high = (end if given is None else given for given, end in ((self.low, -half), (self.high, half)))
        object.__setattr__(self, "_size", (1.0 if self.height is None else self.height, _Interval(low, high)))

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        height, interval = self._size
        passed = interval.only(signal, op.pre(run), op.exclusive and run.overwrite)
        return _scaled(passed, height, True)


class Triangle(TriangleOptions, Untied):
    """``g = height max(0, 1 - |z| / (width/2))`` (Figure 6d; its size there is unreadable).

    ``shape`` gives both where they are left out. ``paper``: height 1/4, width 8, the size of the logistic derivative, which
    the paper's accuracies with this gate follow; ``freegrad``: height 1, width 2, those of the authors' package.
    """

    traits = replace(UNTIED, per_sample=True)

    _size: tuple[float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        preset = {"paper": (0.25, 8.0), "freegrad": (1.0, 2.0)}[self.shape]
        height, width = (
            p if given is None else given for given, p in zip((self.height, self.width), preset, strict=True)
        )
        object.__setattr__(self, "_size", (2 * height / width, width / 2))

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        slope, half = self._size
        # half - |z|, not 1 - |z| / half: exact near the ends, so that g is 0 there and beyond.
        if run.overwrite:
            below = op.pre(run).abs_() if _spare(op, run) else op.pre(run).abs()
            factor = below.sub_(half).clamp_(max=0).mul_(-slope)
        else:  # in forms that can be mapped
            factor = torch.rsub(op.pre(run).abs(), half).relu_().mul_(slope)
        return signal.mul_(factor) if op.exclusive else signal * factor


class Logistic(Untied):
    """``g = s (1 - s)``, s = sigmoid(z), whatever the activation (ReLU/d(Log), Step/d(Log)). On a sigmoid: backprop's."""

    traits = replace(UNTIED, per_sample=True)

    def keeps(self, op: Activate) -> set[str]:
        return {"output" if op.args["name"] == "sigmoid" else "input"}

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        if op.args["name"] == "sigmoid":
            s = op.post(run)
        else:
            s = op.pre(run).sigmoid_() if _spare(op, run) else op.pre(run).sigmoid()
        if op.exclusive and run.overwrite:
            aten.sigmoid_backward.grad_input(signal, s, grad_input=signal)
            return signal
        passed: Tensor = aten.sigmoid_backward(signal, s)
        return passed


class Jam(JamOptions, Untied):
    """``g = U``, noise on (noise_low, noise_high), in part of z's range. A subclass names itself and says where, in ``_mask``.

    The noise has 16 bits on a CPU (``credit.engine.draws.uniform16``). ``match_mean`` scales it, layer by layer, so that the mean
    of g over the batch is that of f'(z), as the paper's text says and the authors' package does not; where f falls more
    than it rises (some non-monotone f) that mean is below 0 and g is 0.
    """

    name: ClassVar[str]

    @property
    def traits(self) -> Traits:
        # With match_mean the whole batch's mean acts on each sample.
        return replace(UNTIED, per_sample=not self.match_mean)

    def keeps(self, op: Activate) -> set[str]:
        return {op.function.keeps} if self.match_mean else set()

    def refusal(self, op: Activate) -> str | None:
        if self.match_mean and op.function.vjp is None:
            return (
                "its derivative is zero everywhere, so rule.match_mean=true would scale the noise to nothing: write "
                "rule.match_mean=false"
            )
        return None

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        noise = self._noise(op, run, signal)
        if self.match_mean:
            tied = op.adjoint(run, torch.ones_like(noise))[0]
            assert tied is not None
            noise = self._mask(op, run, noise, False)
            mean = noise.mean()
            return signal * noise * torch.where(mean > 0, tied.mean().clamp(min=0) / mean, mean)
        passed = signal.mul_(noise) if op.exclusive else signal * noise
        return self._mask(op, run, passed, run.overwrite)

    def _noise(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        # The whole batch's draw, so that leaving samples out changes nothing.
        shape = tuple(signal.shape) if run.rows is None else (run.batch, *signal.shape[1:])
        noise: Tensor = run.draws.get(f"{self.name}.{op.name}", "uniform16", shape, signal.dtype, True)
        if run.rows is not None:
            noise = noise[run.rows.index]
        if (self.noise_low, self.noise_high) == (0, 1):
            return noise
        # A drawn tensor that is an argument of the step is not ours to change.
        scaled = (
            noise.mul_(self.noise_high - self.noise_low)
            if run.overwrite
            else noise * (self.noise_high - self.noise_low)
        )
        return scaled.add_(self.noise_low)

    def _mask(self, op: Activate, run: Run, value: Tensor, own: bool) -> Tensor:
        """``value`` where the gate is open, else 0; in place where it is ours (``own``)."""
        return value


class FullJam(Jam):
    """``g = U`` everywhere (Full-Jamming, Figure 8a)."""

    traits = Jam.traits
    name = "jam_full"


class PositiveJam(Jam):
    """``g = U`` where ``z >= 0``, else 0 (Positive-Jamming, Figure 8b, whose x is z: the authors' package masks on it)."""

    traits = Jam.traits
    name = "jam_positive"

    def keeps(self, op: Activate) -> set[str]:
        return {"input"} | super().keeps(op)

    def _mask(self, op: Activate, run: Run, value: Tensor, own: bool) -> Tensor:
        z = op.pre(run)
        if own:
            aten.threshold_backward.grad_input(value, z, _BELOW_ZERO[z.dtype], grad_input=value)
            return value
        # Compiled code may treat the smallest numbers as zeros, so it compares with zero itself.
        return value * (z >= 0)


class RectangleJam(RectangleJamOptions, Jam):
    """``g = U`` where ``|z| <= width/2``, both ends included, else 0 (Rectangular-Jamming, Figure 8c: width 10)."""

    traits = Jam.traits
    name = "jam_rectangle"

    _interval: _Interval

    def __post_init__(self) -> None:
        super().__post_init__()
        width = 10.0 if self.width is None else self.width
        object.__setattr__(self, "_interval", _Interval(-width / 2, width / 2))

    def keeps(self, op: Activate) -> set[str]:
        return {"input"} | super().keeps(op)

    def _mask(self, op: Activate, run: Run, value: Tensor, own: bool) -> Tensor:
        return self._interval.only(value, op.pre(run), own)
