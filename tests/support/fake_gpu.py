"""A GPU without a GPU: real objects moved to fake CUDA tensors, which compute shapes and devices and have no values.

An op on tensors of two devices raises in `FakeTensorMode`. `Waiting` adds what the mode does not report: copies between the
devices that block, and reads of a value. Two parts of torch need a driver, and are replaced while the context lasts: generators on
CUDA, whose numbers a fake tensor has none of, and ``torch.cuda.synchronize``, which is a wait.
"""

import contextlib
import copy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import credit
from credit.rules.base import Rule

PACKAGE = Path(credit.__file__).parent
aten = torch.ops.aten


class WaitedError(AssertionError):
    """The device was waited for."""


class _Generator(torch.Generator):
    """A generator with the device that was asked for; its numbers are those of the CPU, of which fake tensors take none."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # torch's stub has a plain attribute, which cannot be set
        return self.place


class Waiting(TorchDispatchMode):
    """Records the waits for the device: reads of values of CUDA tensors, and copies between devices that block.

    Args:
        permitted: go on after a wait, every value being 1; else a wait raises `WaitedError`.

    Attributes:
        places: the functions of the package that waited, the innermost of each, in order.
    """

    def __init__(self, *, permitted: bool) -> None:
        super().__init__()
        self.permitted = permitted
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if not any(isinstance(one, FakeTensor) for one in tensors) and not _is_gpu(kwargs.get("device")):
            with unset_fake_temporarily():  # the CPU computes as ever
                return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and func.namespace == "aten" and func._can_decompose():
            with self:  # there ops made of others arrive whole
                if (found := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return found
        if func is aten._fused_sgd_.default:  # has no kernel for fake tensors
            assert len({one.device for one in tensors}) == 1
            return None
        if func in (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.bincount.default):
            self.wait(str(func))
            return self._value(func, args[0], args[2] if len(args) > 2 else 1)
        if func is aten._to_copy.default and self._blocks(args[0].device, kwargs.get("device"), **kwargs):
            self.wait(f"a copy from {args[0].device} to {kwargs['device']}")
            if args[0].is_cuda:
                with unset_fake_temporarily():
                    return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func is aten.copy_.default and self._blocks(args[1].device, args[0].device, *args[2:]):
            self.wait(f"a copy from {args[1].device} to {args[0].device}")
        return func(*args, **kwargs)

    @staticmethod
    def _blocks(source: torch.device, goal: Any, non_blocking: bool = False, **_: Any) -> bool:
        return goal is not None and _is_gpu(goal) != _is_gpu(source) and not non_blocking

    @staticmethod
    def _value(func: Any, tensor: Tensor, least: int) -> Any:
        if func is aten.bincount.default:
            return torch.ones(least, dtype=torch.int64, device=tensor.device)
        if func is aten.nonzero.default:
            return torch.zeros(tensor.numel(), tensor.dim(), dtype=torch.int64, device=tensor.device)
        if func is aten.equal.default or tensor.dtype == torch.bool:
            return True
        return 1.0 if tensor.is_floating_point() else 1

    def wait(self, what: str) -> None:
        """Record a wait."""
        frames = [one for one in traceback.extract_stack() if Path(one.filename).is_relative_to(PACKAGE)]
        self.places.append(frames[-1].name if frames else "")
        if not self.permitted:
            where = " > ".join(f"{Path(one.filename).stem}.{one.name}:{one.lineno}" for one in frames[-4:])
            raise WaitedError(f"{what} at {where}")


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class _Moving(TorchFunctionMode):
    """Makes the copies of tensors fake CUDA tensors."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self._fake = fake

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.clone:  # of a parameter's copy
            return self._moved(args[0])
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self._moved(tensor)
            return memo[id(tensor)]
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def _moved(self, tensor: Tensor) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass(), self._fake:
            return self._fake.from_tensor(tensor).to("cuda")


class FakeGpu:
    """A place for fake CUDA tensors."""

    def __init__(self) -> None:
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    def moved(self, thing: Any, *rules: Rule) -> Any:
        """Return a copy of an object in which every tensor is on the fake GPU.

        Args:
            thing: any object that can be copied, or a rule.
            rules: the rules inside it, which are copied as they are and not made anew, as a copy of a rule is otherwise.
        """
        memo: dict[int, Any] = {}
        rules = (*rules, thing) if isinstance(thing, Rule) else rules
        for rule in rules:
            memo[id(rule)] = object.__new__(type(rule))
        with _Moving(self._fake):
            for rule in rules:
                vars(memo[id(rule)]).update(copy.deepcopy(vars(rule), memo))
            return copy.deepcopy(thing, memo)

    @contextlib.contextmanager
    def computing(self, *, waits: bool = False) -> Iterator[Waiting]:
        """Compute on the fake GPU while the context lasts; ``waits``: whether waits for it are permitted."""
        waiting = Waiting(permitted=waits)
        with (
            mock.patch.object(torch, "Generator", _Generator),
            mock.patch.object(torch.cuda, "synchronize", lambda device=None: waiting.wait("synchronize")),
            self._fake,
            waiting,
        ):
            yield waiting


def on_gpu(*tensors: Tensor | None) -> bool:
    """Return whether all tensors are on a fake GPU."""
    return all(isinstance(one, FakeTensor) and one.is_cuda for one in tensors)
