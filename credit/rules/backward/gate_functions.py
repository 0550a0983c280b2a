"""A gate of one's own as a plain function, registered by name.

    @credit.rules.gate("soft")
    def soft(pre, post):                     # or (pre, post, generator)
        return 1 / (1 + pre.abs())

in ``DIR/rule/soft.py`` with ``--config-dir DIR``; then ``rule=bp rule.gate=soft``, or a rule's YAML that says ``gate: soft``.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.core.registry import register
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.rules.backward.untied import UNTIED, Untied
from credit.rules.traits import Traits

F = TypeVar("F", bound=Callable[..., Tensor])

CHECKED = 3
"""First steps of a run whose factors are checked, on the step's own z and on z stretched to reach 100."""


EAGER = (
    "draws from a generator, which a step that is compiled or mapped over seeds cannot: write the gate as (pre, post) without a "
    "generator, or leave out trainer.compile and use trainer.replicate=processes"
)


class FunctionGate(Untied):
    """The signal times a user's function of the activation's input and output."""

    name: ClassVar[str]
    function: ClassVar[Callable[..., Tensor]]
    random: ClassVar[bool]

    def keeps(self, op: Activate) -> set[str]:
        return {"input", "output"}

    @property
    def traits(self) -> Traits:
        return replace(UNTIED, not_compiled=EAGER if self.random else "")

    def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        pre, post = op.pre(run), op.post(run)
        if self.random and type(run.draws) is not Draws:
            raise UserError(f"rule.gate={self.name} {EAGER} (at {op.describe()})")
        factor = self._factor(op, run, pre, post, "")
        if isinstance(run.draws, Draws) and run.draws.position < CHECKED:
            self._check(op, pre, factor)
            size = pre.abs().amax() if pre.numel() else pre.new_zeros(())
            if 0 < size < torch.inf:
                far = pre * (100 / size)
                self._check(op, far, self._factor(op, run, far, op.function.value(far, *op.options), ".check"))
        return (signal * factor).to(signal.dtype)

    def _factor(self, op: Activate, run: Run, pre: Tensor, post: Tensor, purpose: str) -> Tensor:
        function = type(self).function
        if not self.random:
            return function(pre, post)
        return function(pre, post, run.draws.generator(f"{self.name}.{op.name}{purpose}"))

    def _check(self, op: Activate, pre: Tensor, factor: Any) -> None:
        where = f"rule.gate={self.name} at {op.describe()} ({op.args['name']})"
        if not isinstance(factor, Tensor):
            raise UserError(
                f"{where} returned {factor!r}, a {type(factor).__name__}; return a tensor shaped like pre, {tuple(pre.shape)}, "
                "for example torch.full_like(pre, 0.5)"
            )
        sizes = zip(reversed(factor.shape), reversed(pre.shape), strict=False)
        if factor.dim() > pre.dim() or any(size not in (1, whole) for size, whole in sizes):
            raise UserError(
                f"{where} returned shape {tuple(factor.shape)}, which does not broadcast to pre's {tuple(pre.shape)}: return one "
                "factor for each element of pre"
            )
        # Of a z that is not finite no factor is asked for: then the forward pass went wrong, which is reported elsewhere.
        wrong = (~torch.isfinite(factor) | (factor < 0)) & torch.isfinite(pre)
        if bool(wrong.any()):
            at = int(wrong.flatten().nonzero()[0])
            z, value = (float(t.expand(pre.shape).flatten()[at]) for t in (pre, factor))
            raise UserError(
                f"{where} returned {value:g} for z = {z:g}: a gate multiplies signals, so it must be finite and not below 0, or "
                "updates beneath would climb. Clamp it, for example with .clamp(min=0)"
            )


def gate(name: str) -> Callable[[F], F]:
    """Return a decorator that registers a function as the gate ``name``, for ``rule.gate=name`` of rules with one backward pass.

    The function takes ``(pre, post)`` or ``(pre, post, generator)``: an activation's input and output, (B, ...), and a
    ``torch.Generator`` that is a function of the run's seed, the op and the step. It returns what multiplies the signal
    there: a tensor that broadcasts to ``pre``, finite and not negative, which is checked in the first ``CHECKED`` steps. It
    depends on these arguments alone: a compiled or mapped step records it once, so a counter or noise of its own would stand
    still there. With a generator, steps can be neither compiled nor mapped over seeds.

    Args:
        name: the word for ``rule.gate``.

    Raises:
        UserError: the name is taken, or the function takes other arguments.
    """

    def keep(function: F) -> F:
        random = _takes_generator(name, function)
        title = getattr(function, "__qualname__", name)
        body = {"name": name, "function": staticmethod(function), "random": random, "__doc__": function.__doc__}
        cls = type(title, (FunctionGate,), body | {"__module__": function.__module__})
        register("gate", name)(cls)
        return function

    return keep


def _takes_generator(name: str, function: Callable[..., Tensor]) -> bool:
    """Return whether a gate's function is one of (pre, post, generator); further arguments need defaults, which they keep."""
    title = getattr(function, "__qualname__", repr(function))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise UserError(
            f"@credit.rules.gate('{name}') on {title}, which does not say what it takes: write a function of (pre, post) that "
            "calls it"
        ) from None
    given = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    random = len(given) > 2 and (given[2].default is inspect.Parameter.empty or given[2].name == "generator")
    try:
        signature.bind(*(None,) * (3 if random else 2))
    except TypeError:
        fits = False
    else:
        fits = len(given) > 1
    if not fits:
        raise UserError(
            f"@credit.rules.gate('{name}') on {title}{signature}: a gate takes (pre, post) or (pre, post, generator)"
        )
    return random
