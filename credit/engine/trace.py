"""From an unchanged ``nn.Module`` to a flat list of ops, through ``torch.fx``.

What the table knows stands in ``credit.engine.rows.table``; this file walks the graph and names what it cannot take.
"""

import inspect
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from credit.core.errors import UserError
from credit.engine.builder import Builder, Val, function_name, local_call, refuse_random, vals
from credit.engine.guards.model import refuse_untraceable
from credit.engine.guards.sizes import Sample
from credit.engine.guards.tracer import AUGMENTED, STOPPED, Tracer
from credit.engine.guards.tracing import OURS, guarded
from credit.engine.ops.base import Op, slots_in
from credit.engine.ops.shapes import Value
from credit.engine.rows import table
from credit.engine.rows.spiking import check_time
from credit.engine.weights import Weights, plain


@dataclass(frozen=True)
class Graph:
    """A traced network, from which plans are built; its ops are copied, never changed.

    Attributes:
        ops: what the output depends on, in order of execution.
        slots: how many values there are.
        entry, exit: slots of the input and of the output.
        localised: names of the ops left to local autograd.
        parameters: of the plain network by name, in which each computed weight is a parameter (`credit.engine.weights`).
        alias: from the names of shared parameters, and of all others, to those among ``parameters``.
        weights: the computed weights that ops use.
        sample: what was known of the input.
        sized: forward decides by the size of a sample, so that the plan is right for that size alone.
    """

    ops: tuple[Op, ...]
    slots: int
    entry: int
    exit: int
    localised: list[str]
    parameters: dict[str, nn.Parameter]
    alias: dict[str, str]
    weights: Weights
    sample: Sample | None = None
    sized: bool = False


def trace(model: nn.Module, *, local: bool = False, sample: Sample | None = None) -> Graph:
    """Return the ops that a module's forward pass consists of.

    Args:
        model: takes one tensor, returns one tensor of logits; control flow must not depend on values.
        local: let ops without a row be differentiated by autograd one at a time.
        sample: of the input, for a forward pass that branches on its size and for torch's recurrent modules.

    Raises:
        UserError: fx cannot trace the model (naming the line), or an op has no row (naming it).
    """
    with plain(model) as weights:
        refuse_untraceable(model)
        attributes = set(vars(model))
        opened = _opened(model)
        try:
            with guarded(model):
                graph, sized = _traced(model, Tracer(opened, sample))
            return replace(_walk(model, graph, local, weights), sample=sample, sized=sized)
        finally:
            for name in set(vars(model)) - attributes:  # fx leaves the tensors that the code writes out on the model
                delattr(model, name)


def _traced(model: nn.Module, tracer: Tracer) -> tuple[fx.Graph, bool]:
    try:
        return tracer.trace(model, concrete_args=_defaults(model)), tracer.sizes.decided
    except UserError:
        raise
    except Exception as error:  # fx raises whatever the model's own code raises on a proxy
        raise UserError(_untraceable(model, error)) from error


_OPENED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _opened(model: nn.Module) -> set[nn.Module]:
    """Return the layers of weights and norms with a forward of their own (standardised weights) that fx can trace.

    Others stay whole and take the road of local autograd: what cannot be traced (sizes read as numbers), what the user put in
    eval mode, which its forward may ask for, and a module whose forward was replaced.
    """
    found: set[nn.Module] = set()
    for module in model.modules():
        own = isinstance(module, _OPENED) and table.module_row(module) is None
        frozen = model.training and not module.training
        if module is model or not own or frozen or "forward" in vars(module):
            continue
        try:
            with guarded(module):
                Tracer().trace(module, concrete_args=_defaults(module))
        except Exception:  # fx raises whatever the module's own code raises on a proxy
            continue
        found.add(module)
    return found


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Settle forward's optional arguments, so that what it does with them is not taken for a tensor's business."""
    optional = list(inspect.signature(model.forward).parameters.values())[1:]
    plain = (bool, int, float, str, type(None))
    return {p.name: p.default for p in optional if isinstance(p.default, plain)}


def _untraceable(model: nn.Module, error: Exception) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(OURS)]
    where = frames[-1] if frames else None
    line = (
        f"{where.filename}, line {where.lineno}: {linecache.getline(where.filename, where.lineno or 0).strip()}"
        if where
        else "?"
    )
    return (
        f"{type(model).__name__} cannot be traced, at {line}\n"
        f"torch.fx says: {str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
        "A traced model must not branch or loop on the values of its tensors or the number of samples: compute such choices in "
        "__init__, or move that part into a function marked with torch.fx.wrap and give it a row in credit/engine/rows/table.py."
    )


def _walk(model: nn.Module, graph: fx.Graph, local: bool, weights: Weights) -> Graph:
    builder = Builder(model, local, frozenset(weights))
    env: dict[fx.Node, Any] = {}
    entry = result = -1
    for node in graph.nodes:
        args = fx.map_arg(node.args, env.__getitem__)
        kwargs = fx.map_arg(node.kwargs, env.__getitem__)
        builder.name = node.target if node.op in ("call_module", "get_attr") else node.name
        builder.stopped = node.meta.get(STOPPED, False)
        if node.op == "placeholder":
            env[node], entry = _placeholder(model, builder, node, entry)
        elif node.op == "output":
            result = _output(model, args[0])
        elif node.op == "get_attr":
            env[node] = _tensor(builder, str(node.target))
        else:
            _refuse_mutation(model, node, env)
            env[node] = _call(builder, node, args, kwargs)
    check_time(model, builder.ops, entry, result)
    ops, parameters = _live(builder.ops, result), dict(model.named_parameters())
    names = {id(p): name for name, p in parameters.items()}
    alias = {name: names[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    read = {alias.get(str(name)) for op in ops for name in (*op.params.values(), op.args.get("tensor"))}
    used = Weights({name: one for name, one in weights.items() if name in read})
    return Graph(ops, builder.slots, entry, result, builder.localised, parameters, alias, used)


def _live(ops: list[Op], result: int) -> tuple[Op, ...]:
    """Return the ops that the output depends on."""
    needed, live = {result}, list[Op]()
    for op in reversed(ops):
        if op.out in needed:
            live.append(op)
            needed |= set(op.inputs) | slots_in(op.extra)
    return tuple(live[::-1])


def _tensor(builder: Builder, target: str) -> Val:
    value: Any = reduce(getattr, target.split("."), builder.model)
    constant = None if isinstance(value, nn.Parameter) else value
    return builder.emit(Value, tensor=target, constant=constant)


def _placeholder(model: nn.Module, builder: Builder, node: fx.Node, entry: int) -> tuple[Any, int]:
    if entry < 0 and not str(node.target).startswith("*"):
        slot = builder.slot()
        return Val(slot, True), slot
    if node.args:
        return node.args[0], entry
    if entry >= 0 and str(node.target).startswith("*"):
        return ({} if str(node.target).startswith("**") else ()), entry
    if entry < 0:
        raise UserError(
            f"{type(model).__name__}.forward takes '{node.target}'; a traced model takes one named input tensor: "
            "write forward(self, x)"
        )
    raise UserError(
        f"{type(model).__name__}.forward takes a second argument '{node.name}' without a default; "
        "a traced model takes one input tensor. Wrap it in a module whose forward(x) fills in the rest."
    )


def _output(model: nn.Module, value: Any) -> int:
    if isinstance(value, Val) and value.tensor:
        return value.slot
    what = type(value).__name__.removeprefix("immutable_")  # fx's dicts and lists
    raise UserError(
        f"{type(model).__name__}.forward returns {what}; rules need one tensor of logits (B, classes). "
        "Wrap the model in a module that returns the logits alone."
    )


# Whose result shares its input's memory.
_VIEWS = {"view", "reshape", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "chunk", "split",
          "unbind", "expand", "contiguous", "getitem", "getattr", "t", "swapaxes", "movedim", "select", "narrow"}  # fmt: skip


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_method" else str(getattr(node.target, "__name__", node.target))


def _in_place(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = _name(node)
    return node.target in AUGMENTED or bool(node.kwargs.get("inplace")) or (name[-1:] == "_" and name[-2:] != "__")


def _refuse_mutation(model: nn.Module, node: fx.Node, env: dict[fx.Node, Any]) -> None:
    """An in-place op whose input is read again later would see other values here than in the module itself."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not _in_place(model, node):
        return
    if not isinstance(env[source], Val) or not env[source].tensor:
        return
    base = source
    while base.op != "call_module" and _name(base) in _VIEWS and isinstance(base.args[0], fx.Node):
        base = base.args[0]
    if base.op == "get_attr":
        raise UserError(
            f"{type(model).__name__}.forward changes '{base.target}' in place ('{node.name}'), which a traced forward would "
            "not repeat at each step. Change parameters and running statistics outside forward(), or use a module that keeps "
            "statistics of its own, such as nn.BatchNorm2d"
        )
    order = {n: at for at, n in enumerate(node.graph.nodes)}
    same, later = [base], []
    for held in same:  # grows while it is walked
        same += [user for user in held.users if user.op != "call_module" and _name(user) in _VIEWS and user is not node]
        later += [user.name for user in held.users if order[user] > order[node]]
    if later:
        raise UserError(
            f"{type(model).__name__}: '{node.target if node.op == 'call_module' else node.name}' overwrites '{source.name}' in "
            f"place, but {', '.join(dict.fromkeys(later))} reads it afterwards; write inplace=False there (or x = x + y for "
            "x += y)."
        )


def _functional(node: fx.Node) -> Any:
    """The op that does without overwriting what this one does in place; nothing reads the overwritten tensor again."""
    target: Any = node.target
    if target in AUGMENTED and target not in table.FUNCTIONS:
        return AUGMENTED[target]
    name = _name(node)
    if name[-1:] != "_" or name[-2:] == "__":
        return target
    if node.op == "call_method":
        return target if target in table.METHODS or not hasattr(torch.Tensor, name[:-1]) else name[:-1]
    return getattr(F, name[:-1], getattr(torch, name[:-1], target))


def _call(builder: Builder, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target: Any = str(node.target) if node.op == "call_module" else _functional(node)
    kwargs = {key: value for key, value in kwargs.items() if key != "out" or value is not None}
    if node.op == "call_module":
        module = builder.model.get_submodule(target)
        row, what = table.module_row(module), type(module).__name__
        args = (module, *args)
    elif node.op == "call_method":
        row, what = table.METHODS.get(target), f"Tensor.{target}"
    else:
        row, what = table.function_row(target), function_name(target)
    if row is None and node.op != "call_module" and not any(v.tensor for v in vals((args, kwargs))):
        refuse_random(builder, what)
        return builder.shape(_method(target) if node.op == "call_method" else target, *args, **kwargs)
    if row is None:
        return _local_node(builder, node, target, args, kwargs)
    try:
        inspect.signature(row).bind(builder, *args, **kwargs)
    except TypeError as error:
        raise UserError(
            f"'{builder.name}' ({what}) in {type(builder.model).__name__}: its row in credit/engine/rows/table.py does not take "
            f"these arguments ({error})"
        ) from error
    made = row(builder, *args, **kwargs)
    return _local_node(builder, node, target, args, kwargs) if made is NotImplemented else made


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _local_node(builder: Builder, node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Val:
    if not node.users:
        raise UserError(
            f"{type(builder.model).__name__}.forward does not use the result of '{builder.name}' ({target}), and what else the "
            "call does is not known, so that a plan would leave it out. Remove the call, or use its result"
        )
    if node.op != "call_module":
        function = getattr(torch.Tensor, target) if node.op == "call_method" else target
        return local_call(builder, function, args, {key: value for key, value in kwargs.items() if key != "inplace"})
    module = args[0]
    if isinstance(module, torch.nn.SyncBatchNorm):
        raise UserError(
            f"'{target}' (SyncBatchNorm) in {type(builder.model).__name__} takes its statistics over the processes of its group, "
            "of which rules know nothing. Write nn.BatchNorm1d, nn.BatchNorm2d or nn.BatchNorm3d: under torchrun, credit-train "
            "takes their statistics over the whole batch of all processes (trainer.sync_batchnorm=true)"
        )
    if _in_place(builder.model, node):
        raise UserError(
            f"'{target}' ({type(module).__name__}) in {type(builder.model).__name__} works in place, which an op without a row "
            "cannot: write inplace=False there"
        )
    params = {role: f"{target}.{role}" for role, _ in module.named_parameters()}
    if computed := [name for name in params.values() if name in builder.weights]:
        raise UserError(
            f"'{target}' ({type(module).__name__}) in {type(builder.model).__name__} computes {computed[0]} from other parameters, "
            "and local autograd takes modules with parameters of their own alone: remove the parametrization there"
        )
    buffers = {role: f"{target}.{role}" for role, _ in module.named_buffers()}

    def call(named: dict[str, Any], *rest: Any, **options: Any) -> Any:
        return torch.func.functional_call(module, named, rest, options)

    return local_call(builder, call, args[1:], kwargs, params, buffers)
