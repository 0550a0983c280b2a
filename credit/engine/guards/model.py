"""Refuse modules with hooks, wrappers or lazy parameters, which a plan would leave out without a warning."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from credit.core.errors import UserError

HOOKS = {
    "_forward_hooks": "forward hook",
    "_forward_pre_hooks": "forward pre-hook",
    "_backward_hooks": "backward hook",
    "_backward_pre_hooks": "backward pre-hook",
}
"""Attributes of a module that contain hooks, and what each kind is called."""
_GLOBAL_HOOKS = {
    "_global_forward_hooks": "forward hook",
    "_global_forward_pre_hooks": "forward pre-hook",
    "_global_backward_hooks": "backward hook",
    "_global_backward_pre_hooks": "backward pre-hook",
}
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
"""Attributes of a tensor that contain hooks on its gradient."""

# Wrappers by the name of their class, which spares the import of the packages that some of them come from.
_WRAPPERS = {
    "OptimizedModule": "is compiled by torch.compile; give the module itself (model._orig_mod) and compile the rule's step "
    "instead, credit.rule(..., compile=True)",
    "DataParallel": "is nn.DataParallel; give the module inside (model.module)",
    "DistributedDataParallel": "is DistributedDataParallel, which averages gradients by hooks that a rule's step does not call; "
    "give the module inside (model.module)",
    "FullyShardedDataParallel": "is FullyShardedDataParallel, which shards parameters by hooks; give the module that was wrapped",
    "AveragedModel": "is AveragedModel, a running average that is not trained itself; give the module that is averaged",
    "ScriptModule": "is TorchScript, which cannot be traced; give the nn.Module that it was made from",
}


def refuse_untraceable(model: nn.Module) -> None:
    """Refuse a module with something that a plan would leave out.

    Raises:
        UserError: a wrapper, a lazy parameter, or a hook on a module, on a parameter or on all modules; the message names it.
    """
    root = type(model).__name__
    for name, module in model.named_modules():
        what = f"'{name}' ({type(module).__name__}) in {root}" if name else root
        for cls in type(module).__mro__:
            if cls.__name__ in _WRAPPERS and cls.__module__.partition(".")[0] == "torch":
                raise UserError(f"{what} {_WRAPPERS[cls.__name__]}")
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise UserError(
                f"{what} was compiled in place by module.compile(); give a module that is not compiled, and compile the "
                "rule's step instead, credit.rule(..., compile=True)"
            )
        values = [*module._parameters.items(), *module._buffers.items()]
        lazy = [key for key, value in values if isinstance(value, UninitializedParameter | UninitializedBuffer)]
        if lazy:
            raise UserError(
                f"{what} is lazy: '{lazy[0]}' has no shape yet. Run one batch through the model first, model(x[:2])"
            )
    if "forward" in vars(model):
        raise UserError(
            f"{root}.forward was replaced on this object, and tracing follows the class: define forward() in a subclass instead"
        )
    for what, hook in _hooks(model):
        raise UserError(
            f"{what} has a {hook}, which a rule's step would not call: the step runs a traced plan instead of the modules. "
            "Remove the hook (handle.remove()) or write what it computes into forward()"
        )


def _hooks(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield what has a hook, and the hook's kind and name."""
    root = type(model).__name__
    for attribute, kind in _GLOBAL_HOOKS.items():
        for hook in getattr(torch_module, attribute).values():
            yield "every module of this process", f"global {kind} ({_called(hook)})"
    for name, module in model.named_modules():
        for attribute, kind in HOOKS.items():
            for hook in getattr(module, attribute).values():
                yield f"'{name}' ({type(module).__name__}) in {root}" if name else root, f"{kind} ({_called(hook)})"
    for name, parameter in model.named_parameters():
        for attribute in TENSOR_HOOKS:
            for hook in (getattr(parameter, attribute, None) or {}).values():
                yield f"parameter '{name}' of {root}", f"gradient hook ({_called(hook)})"


def _called(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))
