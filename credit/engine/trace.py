"""From an unchanged ``nn.Module`` to a flat list of ops, through ``torch.fx``.

What the table knows stands in ``credit.engine.table``; this file walks the graph and names what it cannot take.
"""

import linecache
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from credit.engine.ops.base import Op, Ref
from credit.engine.ops.local import Arg, Local
from credit.engine.ops.shapes import Shape, Value
from credit.errors import UserError


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


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...], functions: tuple[Callable[..., Any], ...]) -> None:
        super().__init__(autowrap_functions=functions)
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            isinstance(m, self.leaves)
            or hasattr(m, "activation_kind")
            or super().is_leaf_module(m, module_qualified_name)
        )


def trace(model: nn.Module, *, local: bool = False) -> tuple[list[Op], int, int, int, list[str]]:
    """Return (ops, number of slots, input slot, output slot, names of the ops left to local autograd).

    Args:
        model: takes one tensor, returns one tensor of logits; control flow must not depend on values.
        local: let ops without a row be differentiated by autograd one at a time.

    Raises:
        UserError: fx cannot trace the model (naming the line), or an op has no row (naming it).
    """
    from credit.engine import table

    was_training = {name: module.training for name, module in model.named_modules()}
    model.train()
    try:
        graph = _Tracer(table.leaves(), table.functions()).trace(model)
    except UserError:
        raise
    except Exception as error:  # fx raises whatever the model's own code raises on a proxy
        raise UserError(_untraceable(model, error)) from error
    finally:
        for name, module in model.named_modules():
            module.training = was_training[name]
    return _walk(model, graph, local)


def _untraceable(model: nn.Module, error: Exception) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename.replace("\\", "/")]
    where = frames[-1] if frames else None
    line = (
        f"{where.filename}, line {where.lineno}: {linecache.getline(where.filename, where.lineno or 0).strip()}"
        if where
        else "?"
    )
    return (
        f"{type(model).__name__} cannot be traced, at {line}\n"
        f"torch.fx says: {str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
        "A traced model must not branch or loop on the values or shapes of its tensors: compute such choices in "
        "__init__, or move that part into a function marked with torch.fx.wrap and give it a row in credit/engine/table.py."
    )


def _walk(model: nn.Module, graph: fx.Graph, local: bool) -> tuple[list[Op], int, int, int, list[str]]:
    builder = Builder(model, local)
    env: dict[fx.Node, Any] = {}
    entry = result = -1
    for node in graph.nodes:
        args = fx.map_arg(node.args, env.__getitem__)
        kwargs = fx.map_arg(node.kwargs, env.__getitem__)
        builder.name = node.target if node.op in ("call_module", "get_attr") else node.name
        if node.op == "placeholder":
            env[node], entry = _placeholder(model, builder, node, entry)
        elif node.op == "output":
            result = _output(model, args[0])
        elif node.op == "get_attr":
            env[node] = builder.emit(Value, tensor=node.target)
        else:
            _refuse_mutation(model, node)
            env[node] = _call(builder, node, args, kwargs)
    return builder.ops, builder.slots, entry, result, builder.localised


def _placeholder(model: nn.Module, builder: Builder, node: fx.Node, entry: int) -> tuple[Any, int]:
    if entry < 0:
        slot = builder.slot()
        return Val(slot, True), slot
    if node.args:
        return node.args[0], entry
    raise UserError(
        f"{type(model).__name__}.forward takes a second argument '{node.name}' without a default; "
        "a traced model takes one input tensor. Wrap it in a module whose forward(x) fills in the rest."
    )


def _output(model: nn.Module, value: Any) -> int:
    if isinstance(value, Val) and value.tensor:
        return value.slot
    raise UserError(
        f"{type(model).__name__}.forward returns {type(value).__name__}; rules need one tensor of logits (B, classes). "
        "Wrap the model in a module that returns the logits alone."
    )


def _refuse_mutation(model: nn.Module, node: fx.Node) -> None:
    """An in-place op whose input is read again later would see other values here than in the module itself."""
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    in_place = bool(getattr(module, "inplace", False)) or (node.op == "call_method" and str(node.target).endswith("_"))
    source = node.args[0] if node.args else None
    if not in_place or not isinstance(source, fx.Node):
        return
    order = {n: at for at, n in enumerate(node.graph.nodes)}
    later = [user.name for user in source.users if order[user] > order[node]]
    if later:
        raise UserError(
            f"{type(model).__name__}: '{node.target}' overwrites '{source.name}' in place, but {', '.join(later)} reads it "
            "afterwards; write inplace=False there."
        )


def _call(builder: Builder, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from credit.engine import table

    if node.op == "call_module":
        module = builder.model.get_submodule(str(node.target))
        row = table.module_row(module)
        args = (module, *args)
    elif node.op == "call_method":
        row = table.METHODS.get(str(node.target))
    else:
        row = table.FUNCTIONS.get(node.target)
        if row is None and not any(v.tensor for v in _vals((args, kwargs))):
            return builder.shape(node.target, *args, **kwargs)  # type: ignore[arg-type]
    if row is not None:
        return row(builder, *args, **kwargs)
    return _local_node(builder, node, args, kwargs)


def _vals(value: Any) -> list[Val]:
    if isinstance(value, Val):
        return [value]
    if isinstance(value, tuple | list):
        return [v for item in value for v in _vals(item)]
    if isinstance(value, dict):
        return [v for item in value.values() for v in _vals(item)]
    return []


def _function_name(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"


def local_call(builder: Builder, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
               params: dict[str, str] | None = None) -> Val:  # fmt: skip
    """Append one op differentiated by autograd, ``call(*args, **kwargs)``, if the rule opted in.

    Where ``params`` names parameters by role, the call takes them as a dict before the other arguments.
    """
    what = _function_name(call) if params is None else type(builder.model.get_submodule(builder.name)).__name__
    if not builder.local:
        raise UserError(
            f"'{builder.name}' ({what}) in {type(builder.model).__name__} is an op that no rule has a row for "
            "(credit/engine/table.py). Every sweep rule takes it by autograd of that single op with local_autograd=true "
            "(rule.local_autograd=true on the command line); the run then says so."
        )
    tensors = [v for v in _vals((args, kwargs)) if v.tensor]
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


def _local_node(builder: Builder, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Val:
    target: Any = node.target
    if node.op == "call_module":
        module = args[0]
        params = {role: f"{target}.{role}" for role, _ in module.named_parameters()}
        return local_call(
            builder, lambda p, *a, **k: torch.func.functional_call(module, p, a, k), args[1:], kwargs, params
        )
    if node.op == "call_method":
        return local_call(builder, getattr(torch.Tensor, target), args, kwargs)
    return local_call(builder, target, args, kwargs)
