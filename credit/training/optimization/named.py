"""Optimizers of ``torch.optim`` and ``timm.optim`` by name; their options are checked against the class's arguments."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

import torch
from torch.optim import Optimizer

from credit.core.errors import UserError, nearest
from credit.core.options import Meta, Option, convert, written

_ELSEWHERE = {"lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay"}
_NOT_OPTIONS = ("params", "fused", "foreach", "maximize", "capturable", "differentiable", *_ELSEWHERE)
_SECOND = "it needs second derivatives, and rules give a descent direction alone"
_COMPILED = "its update is compiled by torch.compile and takes random draws that no checkpoint keeps"
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""Classes whose fused kernel is on CPUs and GPUs."""


def of_torch(
    params: Iterable[Any], *, lr: float, weight_decay: float, name: str | None, options: Mapping[str, Any], fused: bool
) -> Optimizer:
    """Return an optimizer of ``torch.optim``.

    Args:
        params: parameters or groups of them.
        lr, weight_decay: as of the optimizer's class.
        name: the class, such as ``RAdam``.
        options: further arguments of the class, ``{"betas": [0.9, 0.99]}``.
        fused: whether the parameters allow a fused kernel.

    Raises:
        UserError: an unknown class or option, a wrongly typed value, or a class that cannot learn from a descent direction.
    """
    found = {
        word: one for word, one in vars(torch.optim).items()
        if isinstance(one, type) and issubclass(one, Optimizer) and one is not Optimizer
    }  # fmt: skip
    cls = found[_known(name, [word for word in found if not _refusal(found[word])], found, "torch.optim", "RAdam")]
    _refuse(f"optimizer.name={name}", _refusal(cls))
    more = {"fused": fused} if issubclass(cls, _FUSED) else {}
    return _made(cls.__name__, cls, params, lr, weight_decay, options, more)


def of_timm(
    params: Iterable[Any], *, lr: float, weight_decay: float, name: str | None, options: Mapping[str, Any]
) -> Optimizer:
    """Return an optimizer of ``timm.optim``, by a name of ``timm.optim.list_optimizers()`` such as ``lamb``; as `of_torch`.

    Where the class takes momentum, it is 0.9 unless given, as in ``timm.optim.create_optimizer_v2``.
    """
    import timm.optim

    found = [str(word) for word in timm.optim.list_optimizers()]
    known = _known(name, found, found, "timm.optim", "lamb")
    info = timm.optim.get_optimizer_info(known)
    _refuse(f"optimizer.name={name}", _SECOND if info.second_order else "")
    try:
        call = timm.optim.get_optimizer_class(known)
    except (ImportError, AttributeError, AssertionError) as error:
        raise UserError(f"optimizer.name={name}: its package cannot be imported ({error}); install it") from error
    cls = getattr(call, "func", call)  # a partial with the name's own defaults
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise UserError(
            f"optimizer.name={name}: it wraps another optimizer; choose one that stands by itself, such as lamb"
        )
    _refuse(f"optimizer.name={name}", _COMPILED if "kron" in known else _refusal(cls))
    more = {"momentum": 0.9} if info.has_momentum and "momentum" not in options else {}
    return _made(known, call, params, lr, weight_decay, options, more)


def _refusal(cls: type[Optimizer]) -> str:
    """Return why a class cannot learn from the descent direction of a rule; empty if it can."""
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return "it evaluates the loss several times a step, through a closure, and a rule's step gives one descent direction"
    return "it is made for sparse gradients, and rules give dense ones" if cls is torch.optim.SparseAdam else ""


def _refuse(key: str, why: str) -> None:
    if why:
        raise UserError(f"{key}: {why}; choose another, such as optimizer=torch optimizer.name=RAdam")


def _known(name: str | None, offered: Iterable[str], known: Iterable[str], module: str, example: str) -> str:
    if name is None:
        raise UserError(f"optimizer.name is missing: which one of {module}? Write for example optimizer.name={example}")
    if name not in known:
        raise UserError(f"optimizer.name={name}: {module} has no optimizer of this name; {nearest(name, offered)}")
    return name


def _made(
    name: str, call: Callable[..., Optimizer], params: Iterable[Any], lr: float, weight_decay: float,
    options: Mapping[str, Any], more: Mapping[str, Any],
) -> Optimizer:  # fmt: skip
    """Return an instance of a class, or of a partial of it, with checked options; `name` is for messages."""
    taken = inspect.signature(call).parameters
    for key in ("lr", "weight_decay"):
        if key not in taken and (key == "lr" or weight_decay):
            raise UserError(f"{_ELSEWHERE[key]} would change nothing: {name} has no such argument")
    values = _checked(name, call, taken, options) | {"lr": lr, **more}
    if "weight_decay" in taken:
        values["weight_decay"] = weight_decay
    try:
        return call(params, **values)
    except (ValueError, TypeError, RuntimeError, AssertionError, ImportError, IndexError) as error:
        given = f" optimizer.options={written(options)}" if options else ""
        raise UserError(
            f"optimizer.name={name}{given}: its class refuses these settings or this network's parameters: "
            f"{str(error) or type(error).__name__}"
        ) from error


def _checked(
    name: str, call: Any, taken: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the given options, typed as the class's arguments.

    Raises:
        UserError: an unknown option, one that is written elsewhere, or a value of another type.
    """
    own = {key: one for key, one in taken.items() if key not in _NOT_OPTIONS and one.kind is not one.VAR_KEYWORD}
    hints: dict[str, Any] = {}
    with contextlib.suppress(NameError, TypeError):
        hints = get_type_hints(getattr(call, "func", call).__init__)
    values = {}
    for key, value in options.items():
        if key in _ELSEWHERE:
            raise UserError(f"optimizer.options={{{key}:{written(value)}}}: write {_ELSEWHERE[key]}={written(value)}")
        if key not in own:
            raise UserError(f"optimizer.options={{{key}:...}}: {name} has no such option; {nearest(key, own)}")
        values[key] = _typed(f"optimizer.options.{key}", value, own[key].default, hints.get(key, Any), name)
    return values


def _typed(key: str, value: Any, default: Any, hint: Any, owner: str) -> Any:
    """Return a value with the type of an argument's default or, where that is None, of its annotation."""
    if isinstance(default, tuple | list) and default:
        given = convert(key, value, Option(key, list[Any], list(default), Meta()), owner)
        if len(given) != len(default):
            raise UserError(
                f"{key}={written(value)}: {owner} takes {len(default)} values, for example {written(default)}"
            )
        kinds = (float | None if entry is None else type(entry) for entry in default)
        return tuple(
            _typed(key, entry, usual, kind, owner) for entry, usual, kind in zip(given, default, kinds, strict=True)
        )
    if isinstance(default, bool | str):
        hint = type(default)
    elif isinstance(default, int | float) and hint is not int:
        hint = float
    elif hint not in (int, float | None, int | None, str | None, bool | None):
        hint = Any
    return convert(key, value, Option(key, hint, default, Meta()), owner)
