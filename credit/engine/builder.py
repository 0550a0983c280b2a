"""The builder of plans, which rows append ops to; the traced values; and ops differentiated by local autograd."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from credit.core.errors import UserError
from credit.engine.ops.base import Op, Ref
from credit.engine.ops.local import Arg, Local
from credit.engine.ops.shapes import Shape

Row = Callable[..., Any]
"""Appends ops and returns the result's value; ``NotImplemented`` leaves a module in an uncommon form to local autograd."""


@dataclass(frozen=True)
class Val:
    """A traced value: the slot that holds it, and whether it is a tensor or something computed from shapes."""

    slot: int
    tensor: bool


@dataclass
class Builder:
    """Collects ops while the graph is walked; the table's rows call ``emit``.

    Attributes:
        model: the traced module.
        local: whether ops without a row may be differentiated by local autograd.
        weights: names of the parameters that stand for computed weights (`credit.engine.weights`).
        name: name for the next op.
        stopped: whether no gradient passes the next op, as under ``torch.no_grad()``.
    """

    model: nn.Module
    local: bool
    weights: frozenset[str] = frozenset()
    name: str = "input"
    stopped: bool = False
    ops: list[Op] = field(default_factory=list)
    slots: int = 0
    names: Counter[str] = field(default_factory=Counter)
    localised: list[str] = field(default_factory=list)

    def inside(self, row: "Row | None", module: nn.Module, x: Val, role: str) -> Val:
        """Expand a module that stands inside a leaf module, as ``role`` of it."""
        outer, self.name = self.name, f"{self.name}.{role}"
        if row is None:
            raise UserError(f"{type(module).__name__} at '{self.name}' has no row in credit/engine/rows/table.py")
        out: Val = row(self, module, x)
        self.name = outer
        return out

    def frozen(self, module: nn.Module) -> bool:
        """Return whether a module is in eval mode, in which BatchNorm uses its running statistics and dropout is off."""
        return not module.training

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def emit(self, kind: type[Op], *inputs: Val, extra: tuple[Any, ...] = (), suffix: str = "", **args: Any) -> Val:
        """Append one op and return its result. ``extra`` may hold ``Val``s of shape values."""
        params = args.pop("params", {})
        if vals(args):
            raise UserError(
                f"'{self.name}' in {type(self.model).__name__}: an option of {kind.kind} that is computed in forward() has no "
                "row in credit/engine/rows/table.py; make it a number"
            )
        name = self.name + suffix
        self.names[name] += 1
        if self.names[name] > 1:
            name = f"{name}#{self.names[name]}"
        op = kind(name, tuple(v.slot for v in inputs), args, _refs(extra), params, stops=self.stopped)
        op.out, op.index = self.slot(), len(self.ops)
        self.ops.append(op)
        return Val(op.out, kind is not Shape)

    def shape(self, call: Callable[..., Any], *inputs: Any, **kwargs: Any) -> Val:
        """Append a value computed from shapes, types or constants."""
        return self.emit(Shape, extra=(inputs, kwargs), call=lambda args, named: call(*args, **named))


def _refs(value: Any) -> Any:
    if isinstance(value, Val):
        return Ref(value.slot)
    if isinstance(value, tuple | list):
        return type(value)(_refs(item) for item in value)
    if isinstance(value, slice):
        return slice(_refs(value.start), _refs(value.stop), _refs(value.step))
    if isinstance(value, dict):
        return {key: _refs(item) for key, item in value.items()}
    return value


def vals(value: Any) -> list[Val]:
    if isinstance(value, Val):
        return [value]
    if isinstance(value, tuple | list):
        return [v for item in value for v in vals(item)]
    if isinstance(value, dict):
        return [v for item in value.values() for v in vals(item)]
    return []


def function_name(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"


def local_call(builder: Builder, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
               params: dict[str, str] | None = None, buffers: dict[str, str] | None = None) -> Val:  # fmt: skip
    """Append one op differentiated by autograd, ``call(*args, **kwargs)``, if the rule opted in.

    Where ``params`` names parameters by role (and ``buffers`` buffers), the call takes them as a dict before the others.
    """
    module = None if params is None else builder.model.get_submodule(builder.name)
    what = function_name(call) if module is None else type(module).__name__
    refuse_random(builder, what, module)
    if not builder.local:
        recurrent = f" {what} is written out over time where the rule is made with an example, example=x[:2]."
        raise UserError(
            f"'{builder.name}' ({what}) in {type(builder.model).__name__} is an op that no rule has a row for "
            "(credit/engine/rows/table.py). Every rule with one backward pass takes it by autograd of that single op "
            "with local_autograd=true (rule.local_autograd=true on the command line); the run then says so."
            f"{recurrent if isinstance(module, nn.RNNBase) else ''}"
        )
    tensors = list(dict.fromkeys(v for v in vals((args, kwargs)) if v.tensor))
    places = {v.slot: Arg(at) for at, v in enumerate(tensors)}

    def mark(value: Any) -> Any:
        if isinstance(value, Val):
            return places[value.slot] if value.tensor else value
        if isinstance(value, tuple | list):
            return type(value)(mark(item) for item in value)
        return {key: mark(item) for key, item in value.items()} if isinstance(value, dict) else value

    builder.localised.append(f"{builder.name} ({what})")
    run = call if params is not None else lambda _, *a, **k: call(*a, **k)
    extra = (mark(args), mark(kwargs))
    return builder.emit(Local, *tensors, extra=extra, params=params or {}, buffers=buffers or {}, call=run, what=what)


def local_piece(builder: Builder, x: Val, index: Any) -> Val | None:
    """Return ``x[index]`` where x comes from local autograd, whose call may return a tuple; None where it does not.

    The piece is an op of its own; the whole is dropped from the plan where nothing else reads it.
    """
    maker = next((op for op in builder.ops if op.out == x.slot), None)
    if not isinstance(maker, Local) or not isinstance(index, int):
        return None
    call = maker.args["call"]
    tensors = [Val(slot, True) for slot in maker.inputs]
    outer, builder.name = builder.name, f"{maker.name}[{index}]"
    made = builder.emit(Local, *tensors, params=maker.params, buffers=maker.args["buffers"], what=maker.args["what"],
                        call=lambda *args, **kwargs: call(*args, **kwargs)[index])  # fmt: skip
    builder.ops[-1].extra, builder.name = maker.extra, outer
    return made


_RANDOM = ("drop", "rand", "bernoulli", "multinomial", "normal_", "uniform_", "exponential_", "stochastic", "gumbel")


def refuse_random(builder: Builder, what: str, module: nn.Module | None = None) -> None:
    """Refuse an op that draws from the global generator: run again, it would draw another mask."""
    if module is None:
        random = any(word in what.lower() for word in _RANDOM)
    else:
        dropping = (nn.modules.dropout._DropoutNd, nn.RReLU)
        random = any(
            isinstance(part, dropping) and getattr(part, "p", 1) > 0 or float(getattr(part, "dropout", None) or 0) > 0
            for part in module.modules()
            if not isinstance(getattr(part, "dropout", None), nn.Module) or isinstance(part, dropping)
        )
    if random:
        raise UserError(
            f"'{builder.name}' ({what}) in {type(builder.model).__name__} draws random numbers from the global generator, "
            "which a step cannot repeat: use nn.Dropout, nn.Dropout1d, nn.Dropout2d, timm's DropPath or torchvision's "
            "StochasticDepth, or set its probability to 0"
        )
