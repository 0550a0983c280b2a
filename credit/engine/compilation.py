"""Steps compiled by ``torch.compile``: each one as a single graph, with a cache of its own, and with errors in words."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from credit.core.errors import UserError, nearest

Function = Callable[..., Any]


def backend_of(compile: bool | str) -> str:
    """Return the backend of ``torch.compile`` that an argument ``compile`` names; that of True is inductor.

    Raises:
        UserError: torch has no backend of this name.
    """
    if not isinstance(compile, str):
        return "inductor"
    if compile not in torch._dynamo.list_backends(None):  # with those for debugging, such as aot_eager
        usual = torch._dynamo.list_backends()
        raise UserError(f"compile={compile}: torch.compile has no such backend; {nearest(compile, usual)}")
    return compile


def compile_step(function: Function, backend: str, label: str) -> Function:
    """Return a function compiled as one graph for each shape of its arguments.

    torch keeps compiled graphs by code object and limits their number (``torch._dynamo.config.recompile_limit``). The result
    has a code object of its own, so that the graphs of one rule do not count against those of another.

    Args:
        function: pure function of tensors, in dictionaries or not.
        backend: a name of `backend_of`.
        label: the subject of error messages, such as ``rule 'bp'``.

    Raises:
        UserError: raised by the returned function, where it cannot be compiled as one graph, or has been compiled for as many
            shapes as torch keeps.
    """

    def step(*given: Any) -> Any:
        return function(*given)

    own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__, closure=step.__closure__)
    run = torch.compile(own, fullgraph=True, dynamic=False, backend=backend)

    def call(*given: Any) -> Any:
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
                f"the step of {label} cannot be compiled as one graph by torch.compile (backend {backend}): {_reason(error)}. "
                "Leave out trainer.compile (compile=True)"
            ) from error

    return call


def _reason(error: Exception) -> str:
    """Return what torch could not compile, and its line of code: the first paragraph of an error, without the hints."""
    paragraph = str(error).strip().partition("\n\n")[0] or type(error).__name__
    lines = [line.strip().removeprefix("Explanation: ").rstrip(".:") for line in paragraph.splitlines()]
    stack = getattr(error, "real_stack", None)
    place = f", at {stack[-1].filename}:{stack[-1].lineno}, {stack[-1].line}" if stack else ""
    return ": ".join(line for line in lines if not line.startswith("Hint: ")) + place
