"""What the engine's tests share: one op in a tiny network, run by plan and by autograd in float64."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from credit.engine.backward import BackwardPass
from credit.engine.draws import Draws
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.engine.ops.chance import Dropout
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Capabilities, Plan


def assert_close(actual: Tensor, expected: Tensor, name: str) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11, msg=lambda m: f"{name}: {m}")


WAYS = ("alone", "read", "added", "overwritten")


class Around(nn.Module):
    """``op(before(x))``; ``op`` may take a second signal ``other(x)``. ``ways`` says what else happens:

    alone: nothing. read: the op's input and output are read elsewhere too, so that their signals are sums. added: the signal
    at the result also belongs to ``z``, which is visited last, and what lies below may overwrite. overwritten: the op lies
    between activations that may overwrite their inputs.
    """

    def __init__(self, op: Any, shape: tuple[int, ...], *, linear: bool, two: bool, way: str) -> None:
        super().__init__()
        conv: list[Any] = [nn.Conv1d, nn.Conv2d, nn.Conv3d]

        def layer() -> nn.Module:
            if linear or len(shape) == 2:
                return nn.Linear(shape[-1], shape[-1])
            made: nn.Module = conv[len(shape) - 3](shape[1], shape[1], 1)
            return made

        self.before, self.other = layer(), layer() if two else None
        self.op, self.way = op, way
        if way == "added":
            self.z = nn.Parameter(torch.zeros(copy.deepcopy(self).double()._op(torch.zeros(shape).double()).numel()))

    def _op(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.before(x)) if self.way in ("added", "overwritten") else self.before(x)
        out: Tensor = self.op(h) if self.other is None else self.op(h, self.other(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "alone":
            return self._op(x)
        if self.way == "added":
            z = torch.tanh(self.z)
            return self._op(x).flatten() + z
        if self.way == "overwritten":
            return torch.relu(self._op(x))
        h = self.before(x)
        out = self.op(h) if self.other is None else self.op(h, self.other(x))
        ends = [torch.relu(h).flatten(), out.flatten(), torch.tanh(h).flatten(), h.flatten()]
        return torch.cat([*ends, torch.relu(out).flatten()])


def case(op: Any, *shape: int, linear: bool = False, two: bool = False) -> Callable[[str], tuple[nn.Module, Tensor]]:
    """Return a function (way) -> (network, input); a module given as ``op`` is copied for each network."""

    def make(way: str) -> tuple[nn.Module, Tensor]:
        torch.default_generator.manual_seed(3)
        own = copy.deepcopy(op) if isinstance(op, nn.Module) else op
        model = Around(own, shape, linear=linear, two=two, way=way).double().train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model, torch.randn(*shape, dtype=torch.float64)

    return make


class Scribble(BackwardPass):
    """Backprop that ruins every signal it may overwrite: whoever still needs one of them then sees NaN."""

    def gate(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        passed = super().gate(op, run, signal).clone()
        if op.exclusive:
            signal.fill_(torch.nan)
        return passed

    def arrive(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        if not op.exclusive:
            return signal
        arrived = torch.empty_strided(signal.shape, signal.stride(), dtype=signal.dtype).copy_(signal)
        signal.fill_(torch.nan)
        return arrived


def draws(x: Tensor) -> Draws:
    return Draws(seed=5, position=2, device=x.device)


class Masks(TorchFunctionMode):
    """Gives autograd's dropouts the masks that the plan drew, op by op in order."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.model, self.draws = model, draws(x)

    @functools.cached_property
    def names(self) -> list[str]:
        plan = Plan(self.model, Capabilities(local_autograd=True))
        return [op.name for op in plan.ops if isinstance(op, Dropout)]

    def mask(self, x: Tensor, p: float, kept: int) -> Tensor:
        shape = (*x.shape[:kept], *[1] * (x.dim() - kept))
        return self.draws.get(f"dropout.{self.names.pop(0)}", "uniform", shape, x.dtype) >= p

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if call is Tensor.bernoulli_:  # drop path
            return args[0].copy_(self.mask(args[0], 1 - args[1], args[0].dim()))
        if call is F.scaled_dot_product_attention and kwargs.get("dropout_p"):
            q, k, v = args
            weights, p = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), kwargs["dropout_p"]
            return weights * self.mask(weights, p, weights.dim()) / (1 - p) @ v
        if call is torch.heaviside:  # has no derivative in torch; the plan's is zero
            return args[0].sign().clamp(min=0)
        if call in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d):
            x, p = args[0], kwargs["p"]
            if kwargs["training"] and p > 0:
                scale = 1 / (1 - p) if p < 1 else 1
                return x * self.mask(x, p, x.dim() if call is F.dropout else 2) * scale
            return x
        return call(*args, **kwargs)


def by_plan(model: nn.Module, x: Tensor, g: Tensor | None = None, backward: BackwardPass[Any] | None = None, *,
            plan: Plan | None = None) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], Tensor]:  # fmt: skip
    """Return (output, updates, buffers afterwards, the signal g sent back); ``g`` is drawn where it is not given."""
    backward = backward or BackwardPass()
    plan = Plan(model, backward=backward) if plan is None else plan.adapted(backward)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    run = plan.run(dict(model.named_parameters()), buffers, draws(x))
    with torch.no_grad():
        out = plan.forward(run, x)
        if g is None:
            g = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(11))
        updates = plan.backward(run, g.clone(), backward)
    kept = [op.describe() for op, saved in zip(plan.ops, run.saved, strict=True) if saved is not None]
    assert not kept, f"still saved after the backward pass: {kept}"
    return out, updates, buffers, g


def by_autograd(model: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, dict[str, Tensor | None], dict[str, Tensor]]:
    """Return (output, gradients, buffers afterwards), leaving ``model`` alone."""
    twin = copy.deepcopy(model).train()
    with Masks(model, x):
        out = twin(x)
    if out.requires_grad:
        (out * g).sum().backward()
    return out.detach(), {name: p.grad for name, p in twin.named_parameters()}, dict(twin.named_buffers())


def assert_equal(model: nn.Module, x: Tensor, *, local: bool = False) -> None:
    """The plan's output, updates and running statistics are autograd's, whether or not signals are overwritten."""
    plan = Plan(model, Capabilities(local_autograd=local))
    out, updates, buffers, g = by_plan(model, x, plan=plan)
    expected, grads, moved = by_autograd(model, x, g)
    assert_close(out, expected, "output")
    for name, grad in grads.items():
        parameter = model.get_parameter(name)
        if parameter.requires_grad:
            wanted = torch.zeros_like(parameter) if grad is None else grad
            assert_close(updates[name], wanted, name)
        else:
            assert name not in updates
    for name, value in moved.items():
        assert_close(buffers[name], value, name)
    _, again, _, _ = by_plan(model, x, g, Scribble(), plan=plan)
    for name, update in updates.items():
        assert torch.equal(again[name], update), f"{name}: an overwritten signal was still needed"
