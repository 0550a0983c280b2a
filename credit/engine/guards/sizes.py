"""Sizes that a forward pass decides by: concrete numbers for its control flow while it is traced.

Sizes are values of the plan like others (``x.shape[1]`` is read at each step). Where forward() branches or loops on one, or makes
it a Python number, the traced graph is right for samples of one size alone. `Sizes` computes such numbers from an example, on fake
tensors of several batch sizes, so that what depends on the number of samples is refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

BATCHES = (2, 3, 64)
"""Numbers of samples of the fake batches: a number that is the same for all three is taken not to depend on them."""


class Sample(NamedTuple):
    """What is known of a network's inputs: the shape of one sample, the type and the device."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, batch: Tensor) -> "Sample":
        """Return the description of the samples of a batch (B, ...)."""
        return cls(batch.shape[1:], batch.dtype, batch.device)

    def batch(self, count: int = 2) -> Tensor:
        """Return a batch of zeros."""
        return torch.zeros((count, *self.shape), dtype=self.dtype, device=self.device)


class _Unknown:
    """Stands for the value of a node that could not be computed."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Sizes:
    """Concrete values of a graph's nodes, for samples of one size.

    Args:
        sample: of the network's input; None: nothing is known.
        call: (node, args, kwargs) -> the value of a call on fake tensors.

    Attributes:
        decided: whether a value has been asked for, so that the graph is right for samples of this size alone.
    """

    def __init__(self, sample: Sample | None, call: Callable[[fx.Node, Any, Any], Any]) -> None:
        self._sample, self._call = sample, call
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._known: list[dict[fx.Node, Any]] = [{} for _ in BATCHES]
        self.decided = False

    def same(self, node: fx.Node, read: Callable[[Any], Any]) -> Any:
        """Return what is read of a node's value, such as its truth.

        Raises:
            fx.proxy.TraceError: it depends on the values of tensors or on the number of samples, or there is no example.
        """
        if self._sample is None:
            raise fx.proxy.TraceError(
                f"'{node}' decides what forward() does; where it depends on the size of a sample alone, an example settles it: "
                "give one batch, example=x[:2]"
            )
        found = []
        for place in range(len(BATCHES)):
            value = self._value(place, node)
            if isinstance(value, _Unknown):
                raise fx.proxy.TraceError(f"'{node}' has no value on an example ({value.error})") from value.error
            try:
                with self._mode:
                    found.append(read(value))
            except Exception as error:  # fake tensors have no values, and raise errors of their own
                raise fx.proxy.TraceError(f"'{node}' depends on the values of tensors") from error
        if any(value != found[0] for value in found):
            raise fx.proxy.TraceError(f"'{node}' depends on the number of samples")
        self.decided = True
        return found[0]

    def _value(self, place: int, node: fx.Node) -> Any:
        known = self._known[place]
        if node not in known:
            with self._mode, torch.no_grad():
                for one in node.graph.nodes:
                    if one not in known:
                        known[one] = self._computed(place, one)
        return known[node]

    def _computed(self, place: int, node: fx.Node) -> Any:
        known = self._known[place]
        if node.op == "placeholder":
            assert self._sample is not None
            first = next(iter(node.graph.nodes))
            return self._sample.batch(BATCHES[place]) if node is first else node.args[0] if node.args else None
        given = [known[one] for one in node.all_input_nodes]
        if unknown := next((value for value in given if isinstance(value, _Unknown)), None):
            return unknown
        try:
            return self._call(
                node, fx.map_arg(node.args, known.__getitem__), fx.map_arg(node.kwargs, known.__getitem__)
            )
        except Exception as error:  # whatever the model's own ops raise
            return _Unknown(error)
