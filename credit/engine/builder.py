"""What rows build with: values, the builder that collects ops, and the road of local autograd."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from credit.engine.ops.base import Op, Ref
from credit.engine.ops.local import Arg, Local
from credit.engine.ops.shapes import Shape
from credit.errors import UserError

Row = Callable[..., Any]


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
        name: name for the next op.
    """

    model: nn.Module
    local: bool
    name: str = "input"
    ops: list[Op] = field(default_factory=list)
    slots: int = 0
    names: Counter[str] = field(default_factory=Counter)
    localised: list[str] = field(default_factory=list)

    def inside(self, row: "Row | None", module: nn.Module, x: Val, role: str) -> Val:
        """Expand a module that stands inside a leaf module, as ``role`` of it."""
        outer, self.name = self.name, f"{self.name}.{role}"
        if row is None:
            raise UserError(f"{type(module).__name__} at '{self.name}' has no row in credit/engine/table.py")
        out: Val = row(self, module, x)
        self.name = outer
        return out

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def emit(self, kind: type[Op], *inputs: Val, extra: tuple[Any, ...] = (), suffix: str = "", **args: Any) -> Val:
        """Append one op and return its result. ``extra`` may hold ``Val``s of shape values."""
        params = args.pop("params", {})
        name = self.name + suffix
        self.names[name] += 1
        if self.names[name] > 1:
            name = f"{name}#{self.names[name]}"
        op = kind(name, tuple(v.slot for v in inputs), args, _refs(extra), params)
        op.out, op.index = self.slot(), len(self.ops)
        self.ops.append(op)
        return Val(op.out, kind is not Shape)

    def shape(self, call: Callable[..., Any], *inputs: Any, **kwargs: Any) -> Val:
        """Append a value computed from shapes, types or constants."""
        return self.emit(Shape, extra=inputs, call=lambda *values: call(*values, **kwargs))


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
               params: dict[str, str] | None = None) -> Val:  # fmt: skip
    """Append one op differentiated by autograd, ``call(*args, **kwargs)``, if the rule opted in.

    Where ``params`` names parameters by role, the call takes them as a dict before the other arguments.
    """
    what = function_name(call) if params is None else type(builder.model.get_submodule(builder.name)).__name__
    if not builder.local:
        raise UserError(
            f"'{builder.name}' ({what}) in {type(builder.model).__name__} is an op that no rule has a row for "
            "(credit/engine/table.py). Every sweep rule takes it by autograd of that single op with local_autograd=true "
            "(rule.local_autograd=true on the command line); the run then says so."
        )
    tensors = [v for v in vals((args, kwargs)) if v.tensor]
    places = {v.slot: Arg(at) for at, v in enumerate(tensors)}

    def mark(value: Any) -> Any:
        if isinstance(value, Val):
            return places[value.slot] if value.tensor else value
        if isinstance(value, tuple | list):
            return type(value)(mark(item) for item in value)
        return {key: mark(item) for key, item in value.items()} if isinstance(value, dict) else value

    builder.localised.append(f"{builder.name} ({what})")
    run = call if params is not None else lambda _, *a, **k: call(*a, **k)
    return builder.emit(Local, *tensors, extra=(mark(args), mark(kwargs)), params=params or {}, call=run)
