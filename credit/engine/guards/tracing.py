"""Record, refuse and undo the side effects of a module's forward while it is traced.

Tracing calls ``forward`` once, on proxies. Whatever that call does beside computing its result would happen once and never
again: assigned attributes, draws of random numbers, regions of ``no_grad`` or ``autocast``, custom autograd functions.
"""

import contextlib
import copy
import linecache
import pickle
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn

from credit.core.errors import UserError
from credit.engine.guards.contents import PLAIN, containers

_BACKWARD = "_backward_cls"  # what torch.autograd.Function.apply asks its class for before anything else
OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))  # torch's and the engine's files
# Names under which fx itself leaves tensors on the model.
_MADE_BY_FX = re.compile(r"_tensor_constant\d+|_torchbind_obj\d+")


@contextlib.contextmanager
def guarded(model: nn.Module) -> Iterator[None]:
    """Run the tracing of ``model`` so that what a plan cannot express is refused and the model stays as it was.

    Raises:
        UserError: forward assigns attributes, draws random numbers, or calls a custom autograd function.
    """
    before = _Snapshot(model)
    draws = Generators(model)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _custom_functions_refused():
            yield
    finally:
        drawn, changed = draws.restore(), before.restore()
    name = type(model).__name__
    if drawn:
        raise UserError(
            f"{name}.forward draws random numbers from {drawn}; tracing would fix them for ever. Use nn.Dropout or timm's "
            "DropPath, or draw them in __init__"
        )
    if changed:
        raise UserError(
            f"{name}.forward assigns or changes {', '.join(changed[:4])}; a traced forward runs once, so that the assignment "
            "would not be repeated at each step. Return what is needed instead, or keep counters and running statistics outside "
            "forward()"
        )


# ---------------------------------------------------------------- contexts


def gradient_stopped(model: nn.Module) -> bool:
    """Return whether gradients are disabled at this point of forward, as in ``torch.no_grad()``.

    Raises:
        UserError: forward is in a region of autocast or inference mode, or in a custom autograd function.
    """
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            raise UserError(
                f"{type(model).__name__} is traced under torch.autocast('{device}') ({where()}), which the plan would not "
                "repeat. Remove the region and write precision='bf16' (trainer.precision=bf16), which computes the weighted ops "
                "in bfloat16"
            )
    if torch.is_inference_mode_enabled():
        raise UserError(
            f"{type(model).__name__}.forward uses torch.inference_mode() ({where()}), whose results no gradient can pass; write "
            "torch.no_grad()"
        )
    return not torch.is_grad_enabled()


@contextlib.contextmanager
def _custom_functions_refused() -> Iterator[None]:
    """Refuse calls of ``torch.autograd.Function.apply``, under whatever name the method is kept.

    The method is torch's own C code, whose first step reads the class's ``_backward_cls``. A property of the metaclass comes
    before it; classes that are defined meanwhile are given theirs afterwards.
    """
    meta, made = type(torch.autograd.Function), []
    outer = vars(meta).get(_BACKWARD)
    setattr(meta, _BACKWARD, property(_checked, lambda function, backward: made.append((function, backward))))
    try:
        yield
    finally:
        if outer is None:
            delattr(meta, _BACKWARD)
        else:
            setattr(meta, _BACKWARD, outer)
        for function, backward in made:
            setattr(function, _BACKWARD, backward)


def _checked(function: Any) -> Any:
    """Return the class of a custom function's backward, which the caller is about to apply; refuse what cannot be traced."""
    caller = sys._getframe(1)
    if function.__module__ != torch.utils.checkpoint.__name__:
        raise UserError(
            f"forward calls {function.__qualname__}.apply, a custom autograd function ({where(caller)}), whose backward the plan "
            "would not use. Mark the function that calls it with torch.fx.wrap and write local_autograd=true "
            "(rule.local_autograd=true), which differentiates it by autograd, or write it with ordinary ops"
        )
    if function is torch.utils.checkpoint.CheckpointFunction:
        raise UserError(
            f"torch.utils.checkpoint with use_reentrant=True ({where(caller)}) cannot be traced; write use_reentrant=False"
        )
    return vars(function)[_BACKWARD]  # the other form of checkpoint calls the model's function as it is


def where(frame: FrameType | None = None) -> str:
    """Return the file and line of the user's code that runs now, or that called ``frame``."""
    at = frame or sys._getframe(1)
    while at.f_back is not None and at.f_code.co_filename.startswith(OURS):
        at = at.f_back
    line = linecache.getline(at.f_code.co_filename, at.f_lineno).strip()
    return f"{at.f_code.co_filename}, line {at.f_lineno}: {line}"


# ---------------------------------------------------------------- the model's own state


class _Snapshot:
    """The attributes of every module, the containers among them included, and the versions of their tensors."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.named_modules())
        self._attributes = [dict(vars(module)) for _, module in self._modules]
        self._containers: list[tuple[Any, Any, str]] = []
        self._tensors: list[tuple[str, torch.Tensor, int]] = []
        seen: set[int] = set()
        for (name, module), attributes in zip(self._modules, self._attributes, strict=True):
            prefix = f"{name}." if name else ""
            for key, value in attributes.items():
                if isinstance(value, torch.Tensor):
                    self._tensors.append((prefix + key, value, value._version))
                found = containers(value, prefix + key, seen)
                self._containers += [(one, copy.copy(one), where) for where, one in found]
            for key, value in (*module._parameters.items(), *module._buffers.items()):
                if value is not None:
                    self._tensors.append((prefix + key, value, value._version))

    def restore(self) -> list[str]:
        """Put everything back and return the quoted names of what had changed."""
        changed = [name for name, value, version in self._tensors if value._version != version]
        for (name, module), then in zip(self._modules, self._attributes, strict=True):
            now = vars(module)
            for key in {*now, *then}:
                same = key in now and key in then and _same(now[key], then[key])
                if not same and not (key not in then and _MADE_BY_FX.fullmatch(key)):
                    changed.append(f"{name}.{key}" if name else key)
                    now.pop(key, None)
                    if key in then:
                        now[key] = then[key]
        for value, then, name in self._containers:
            if not _same_contents(value, then):
                changed.append(_entry(value, then, name))
                value.clear()
                value.extend(then) if isinstance(value, list) else value.update(then)
        return [f"'{name}'" for name in dict.fromkeys(changed)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (isinstance(one, PLAIN) and type(one) is type(other) and one == other)


def _same_contents(one: Any, other: Any) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, dict):
        return all(key in other and _same(value, other[key]) for key, value in one.items())
    if isinstance(one, set):
        return all(item in other for item in one)
    return all(_same(a, b) for a, b in zip(one, other, strict=True))


def _entry(value: Any, then: Any, name: str) -> str:
    """Name what changed in a container: an entry of a module's parameters or buffers, else the container."""
    path, _, last = name.rpartition(".")
    if last in ("_parameters", "_buffers", "_modules"):
        key = next(k for k in {**then, **value} if k not in value or k not in then or not _same(value[k], then[k]))
        return f"{path}.{key}" if path else str(key)
    return name


class Generators:
    """The states of the random number generators that a forward may draw from."""

    def __init__(self, model: nn.Module) -> None:
        self._torch, self._python, self._numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self._own: list[tuple[Any, Any]] = []
        for module in model.modules():
            for value in vars(module).values():
                if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
                    self._own.append((value, _state(value)))

    def restore(self) -> str | None:
        """Put every generator back and return the name of the first that was drawn from; None where none was."""
        found = None
        if not torch.equal(torch.get_rng_state(), self._torch):
            found = "the global generator"
            torch.set_rng_state(self._torch)
        for device, state in enumerate(self._cuda):
            if not torch.equal(torch.cuda.get_rng_state(device), state):
                found = found or "the GPU's global generator"
                torch.cuda.set_rng_state(state, device)
        if random.getstate() != self._python:
            found = found or "Python's random module"
            random.setstate(self._python)
        if not _equal(np.random.get_state(), self._numpy):
            found = found or "numpy.random"
            np.random.set_state(self._numpy)
        for generator, state in self._own:
            if not _equal(_state(generator), state):
                found = found or f"a generator of its own ({type(generator).__name__})"
                _set_state(generator, state)
        return found


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else pickle.dumps(one) == pickle.dumps(other)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
