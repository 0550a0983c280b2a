"""Steps compiled by ``torch.compile``: each one as a single graph, with a cache of its own, and with errors in words."""

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch

from credit.core.errors import UserError, nearest

Function = Callable[..., Any]


MODES = ("reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Modes of inductor, of which the first two replay steps as CUDA graphs."""


def settings_of(compile: bool | str) -> dict[str, Any]:
    """Return the arguments of ``torch.compile`` that ``compile`` stands for: a backend, a mode of inductor, or True for inductor.

    Raises:
        UserError: torch has no backend or mode of this name.
    """
    if not isinstance(compile, str):
        return {"backend": "inductor"}
    if compile in MODES:
        return {"mode": compile}
    if compile not in torch._dynamo.list_backends(None):  # with those for debugging, such as aot_eager
        known = nearest(compile, [*torch._dynamo.list_backends(), *MODES])
        raise UserError(f"compile={compile}: torch.compile has no such backend or mode; {known}")
    return {"backend": compile}


def compile_step(function: Function, settings: Mapping[str, Any], label: str) -> Function:
    """Return a function compiled as one graph for each shape of its arguments.

    torch keeps compiled graphs by code object and limits their number (``torch._dynamo.config.recompile_limit``). The result
    has a code object of its own, so that the graphs of one rule do not count against those of another. With CUDA graphs the
    next call overwrites the results of the last one, which torch then refuses to read.

    Args:
        function: pure function of tensors, or of dictionaries of parameters and buffers and tensors.
        settings: of `settings_of`.
        label: the subject of error messages, such as ``the step of rule 'bp'``.

    Raises:
        UserError: raised by the returned function, where it cannot be compiled as one graph, or has been compiled for as many
            shapes as torch keeps.
    """
    graphs = settings.get("mode") in MODES[:2]

    def step(*given: Any) -> Any:
        return function(*given)

    own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__, closure=step.__closure__)
    run = torch.compile(own, fullgraph=True, dynamic=False, **settings)

    def call(*given: Any) -> Any:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
            _mark_static(given[:2])
        try:
            return run(*given)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise UserError(
                f"{label} is compiled once for each shape of its batches, and this is one more than the "
                f"{torch._dynamo.config.recompile_limit} that torch.compile keeps: give batches of fewer sizes, raise "
                "torch._dynamo.config.recompile_limit, or leave out trainer.compile (compile=True)"
            ) from error
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UserError(
                f"{label} cannot be compiled as one graph by torch.compile ({', '.join(map(' '.join, settings.items()))}): "
                f"{_reason(error)}. Leave out trainer.compile (compile=True)"
            ) from error

    return call


def _mark_static(arguments: Sequence[Any]) -> None:
    """Mark parameters and buffers, given in dictionaries: CUDA graphs read and move them where they are, instead of copies."""
    for tensor in (tensor for part in arguments if isinstance(part, dict) for tensor in part.values()):
        torch._dynamo.mark_static_address(tensor, guard=False)


def _reason(error: Exception) -> str:
    """Return what torch could not compile, and its line of code: the first paragraph of an error, without the hints."""
    paragraph = str(error).strip().partition("\n\n")[0] or type(error).__name__
    lines = [line.strip().removeprefix("Explanation: ").rstrip(".:") for line in paragraph.splitlines()]
    stack = getattr(error, "real_stack", None)
    place = f", at {stack[-1].filename}:{stack[-1].lineno}, {stack[-1].line}" if stack else ""
    return ": ".join(line for line in lines if not line.startswith("Hint: ")) + place
