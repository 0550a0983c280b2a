"""Gates: how an error signal passes an activation. z: pre-activation; h = f(z); s: the error signal at h.

Each has ``keeps`` (what of the activation it reads), ``refusal`` (why it cannot take one, or None), ``traits`` (see
`credit.rules.traits`) and is called with (op, run, signal).
"""

import math

import torch
from torch import Tensor

from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.rules.backward.options import InverseOptions, ResponsiveOptions, StraightThroughOptions
from credit.rules.traits import ACTS, GATE, Traits


def _backprop(op: Activate, run: Run, signal: Tensor) -> Tensor:
    if op.args["name"] == "relu" and op.exclusive and run.overwrite:
        return torch.ops.aten.threshold_backward.grad_input(signal, op.post(run), 0, grad_input=signal)
    passed = op.adjoint(run, signal)[0]
    assert passed is not None
    return passed


def _unsound(op: Activate) -> str | None:
    if op.function.sound(*op.options):
        return None
    return f"its constant {op.options[0]:g} makes it flat or falling below zero: give it one above 0, or use relu"


class Derivative:
    """``s f'(z)``: the chain rule."""

    traits = Traits(per_sample=True)

    def keeps(self, op: Activate) -> set[str]:
        return {op.function.keeps}

    def refusal(self, op: Activate) -> str | None:
        if op.function.vjp is None:
            return "its derivative is zero everywhere, so nothing below would learn: use rule.gate=straight_through (rule=ste)"
        return None

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        return _backprop(op, run, signal)


class Responsive(ResponsiveOptions):
    """``s Pi(z)``, Pi = 1 where f is locally strictly increasing, else 0 (LISP section 2, Appendix A).

    ReLU: z > 0. Leaky ReLU, ELU, softplus, sigmoid, tanh, identity: 1 everywhere. ReLU6, hardtanh, hard-sigmoid: inside the
    ramp. Step, sign: nowhere; with ``override`` 1 (the straight-through special case). GELU, SiLU, Mish, hard-swish fall
    somewhere, which leaves Pi undefined: refused.
    """

    traits = Traits(per_sample=True, refuses=GATE)

    def keeps(self, op: Activate) -> set[str]:
        return {op.function.keeps} if callable(op.function.rises) else set()

    def refusal(self, op: Activate) -> str | None:
        if op.function.rises is None:
            return (
                "it is not monotone, and LISP's responsiveness Pi is defined for non-decreasing activations only: "
                "use a monotone one (arch.activation=relu, elu, softplus, ...) or rule.gate=derivative"
            )
        return _unsound(op)

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        rises = op.function.rises
        if op.args["name"] == "relu":
            return _backprop(op, run, signal)
        if callable(rises):
            mask = rises(op.kept(run), *op.options)
            return signal.mul_(mask) if op.exclusive else signal * mask
        if rises == "nowhere" and not self.override:
            return torch.zeros_like(signal)
        return signal


class Inverse(InverseOptions):
    """Inverse propagation (LISP Appendix G): ``dz = f^-1(h + dh) - f^-1(h)``, with dh the desired change of h.

    Equal to ``responsive`` for ReLU. ``inverse_scale`` s uses (f^-1(h + s dh) - f^-1(h)) / s, s = 1 being the paper's form.
    ``inverse_clamp`` keeps both h and h + s dh that share of the range away from the range's ends, which the paper leaves
    open. Were h not kept there too, a unit beyond the clamp would be sent back to it whatever its signal asks for.
    """

    traits = Traits(per_sample=True, refuses=GATE)

    def keeps(self, op: Activate) -> set[str]:
        return {"output", op.function.keeps} if callable(op.function.rises) else {"output"}

    def refusal(self, op: Activate) -> str | None:
        return _unsound(op) if op.function.inverse else "it has no inverse: use rule.gate=responsive"

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        if op.args["name"] == "relu":
            return _backprop(op, run, signal)
        function, h = op.function, op.post(run)
        assert function.inverse is not None
        # Signals descend and carry 1 / batch: the desired change of h climbs, per sample.
        scale = run.batch * self.inverse_scale
        low, high = function.span(*op.options)
        edge = self.inverse_clamp * (high - low if math.isfinite(high - low) else 1.0)
        now, wanted = (function.inverse(v.clamp(low + edge, high - edge), *op.options) for v in (h, h - signal * scale))
        change = (now - wanted) / scale
        return change * function.rises(op.kept(run), *op.options) if callable(function.rises) else change


class StraightThrough(StraightThroughOptions):
    """The identity through step and sign (Bengio et al. 2013), the derivative elsewhere.

    ``ste_window``: ``none``, or ``clipped`` to pass only where ``|z| <= 1`` (Hubara et al. 2016).
    """

    traits = Traits(per_sample=True, refuses=GATE, needs=ACTS)

    def keeps(self, op: Activate) -> set[str]:
        if op.function.vjp is None:
            return {"input"} if self.ste_window == "clipped" else set()
        return {op.function.keeps}

    def refusal(self, op: Activate) -> str | None:
        return None

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        if op.function.vjp is not None:
            return _backprop(op, run, signal)
        return signal if self.ste_window == "none" else signal * (op.pre(run).abs() <= 1)
