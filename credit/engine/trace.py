"""From an unchanged ``nn.Module`` to a flat list of ops, through ``torch.fx``.

What the table knows stands in ``credit.engine.table``; this file walks the graph and names what it cannot take.
"""

import linecache
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from credit.engine import table
from credit.engine.builder import Builder, Val, local_call, vals
from credit.engine.ops.base import Op
from credit.engine.ops.shapes import Value
from credit.errors import UserError


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
    if node.op == "call_module":
        module = builder.model.get_submodule(str(node.target))
        row = table.module_row(module)
        args = (module, *args)
    elif node.op == "call_method":
        row = table.METHODS.get(str(node.target))
    else:
        row = table.FUNCTIONS.get(node.target)
        if row is None and not any(v.tensor for v in vals((args, kwargs))):
            return builder.shape(node.target, *args, **kwargs)  # type: ignore[arg-type]
    if row is not None:
        return row(builder, *args, **kwargs)
    return _local_node(builder, node, args, kwargs)


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
