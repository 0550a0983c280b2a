"""Synapses: learned linear maps of a rule's own, from one node's units to another's, against the direction of the forward pass.

Legend: E weight, e values at the source (B, ...), d values at the target (B, ...), z activations of the target (B, ...).
``carry`` is linear in E and in e; ``product`` is the derivative of <z, carry(E, e)> by E, which for a dense map is ``z e^T``
summed over the batch; ``back`` is carry's adjoint in e.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.products import linear
from credit.rules.targets.options import Synapses

LARGEST = 2**24
"""Weights of a dense map beyond which ``auto`` shares them among positions, and a dense map between feature maps is refused."""


@dataclass(frozen=True)
class Synapse:
    """A map from values (B, *source) to values (B, *target).

    Attributes:
        target, source: shapes without the batch.
    """

    target: tuple[int, ...]
    source: tuple[int, ...]

    word: ClassVar[str] = "synapse"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        raise AssertionError

    @property
    def inputs(self) -> int:
        """How many of source units that a target unit receives errors from."""
        raise AssertionError

    def carry(self, weight: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        """Return d (B, *target) of e (B, *source); ``eager``: neither compiled nor mapped."""
        raise AssertionError

    def product(self, z: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        """Return the derivative of ``<z, carry(E, e)>`` by E, shaped like it."""
        raise AssertionError

    def back(self, weight: Tensor, z: Tensor) -> Tensor:
        """Return carry's adjoint of z (B, *target): values (B, *source)."""
        raise AssertionError


@dataclass(frozen=True)
class Dense(Synapse):
    """Every target unit receives every source unit's error, of feature maps too: E (target units, source units), ``d = E e``."""

    word: ClassVar[str] = "dense"

    @property
    def shape(self) -> tuple[int, ...]:
        return math.prod(self.target), math.prod(self.source)

    @property
    def inputs(self) -> int:
        return math.prod(self.source)

    def carry(self, weight: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        return linear(e.flatten(1), weight, None, eager).reshape(e.shape[0], *self.target)

    def product(self, z: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        return linear(z.flatten(1).t(), e.flatten(1).t(), None, eager)

    def back(self, weight: Tensor, z: Tensor) -> Tensor:
        return (z.flatten(1) @ weight).reshape(z.shape[0], *self.source)


@dataclass(frozen=True)
class Shared(Synapse):
    """From a vector to feature maps, the same at every position: E (channels, source units)."""

    word: ClassVar[str] = "conv"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.target[0], math.prod(self.source)

    @property
    def inputs(self) -> int:
        return math.prod(self.source)

    def carry(self, weight: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        sent = F.linear(e.flatten(1), weight)
        return sent.view(*sent.shape, *[1] * (len(self.target) - 1)).expand(e.shape[0], *self.target)

    def product(self, z: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        return z.flatten(2).sum(2).t() @ e.flatten(1)

    def back(self, weight: Tensor, z: Tensor) -> Tensor:
        return (z.flatten(2).sum(2) @ weight).reshape(z.shape[0], *self.source)


@dataclass(frozen=True)
class Transposed(Synapse):
    """Between feature maps: the adjoint of a convolution from the target to the source, E (source, target channels, k, k).

    The stride is what leads from the target's size to the source's, the kernel the least odd one, from 3 on, that
    reaches every position of the target.
    """

    word: ClassVar[str] = "conv"

    @property
    def stride(self) -> list[int]:
        """Steps of the convolution from the target's positions to the source's."""
        found = [_stride(t, s) for t, s in zip(self.target[1:], self.source[1:], strict=True)]
        assert None not in found
        return [step for step in found if step is not None]

    @property
    def kernel(self) -> list[int]:
        """Its sizes."""
        return [max(3, 2 * step - 1) for step in self.stride]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source[0], self.target[0], *self.kernel

    @property
    def inputs(self) -> int:
        # Of a kernel's taps one position meets those that the stride leaves, and no more than the source has positions.
        taps = [min(k / step, s) for k, s, step in zip(self.kernel, self.source[1:], self.stride, strict=True)]
        return round(self.source[0] * math.prod(taps))

    def _geometry(self) -> tuple[list[int], list[int]]:
        return self.stride, [size // 2 for size in self.kernel]

    def carry(self, weight: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        stride, padding = self._geometry()
        missing = [
            t - ((s - 1) * step + 1) for t, s, step in zip(self.target[1:], self.source[1:], stride, strict=True)
        ]
        return F.conv_transpose2d(e, weight, None, stride, padding, missing)

    def product(self, z: Tensor, e: Tensor, eager: bool = False) -> Tensor:
        stride, padding = self._geometry()
        shaped = z.new_empty(1).expand(self.shape)  # read for its shape alone
        found: Tensor = torch.ops.aten.convolution_backward(
            e, z, shaped, None, stride, padding, [1, 1], False, [0, 0], 1, [False, True, False]
        )[1]
        return found

    def back(self, weight: Tensor, z: Tensor) -> Tensor:
        return F.conv2d(z, weight, None, *self._geometry())


def make(kind: Synapses, target: tuple[int, ...], source: tuple[int, ...], where: str, rule: str) -> Synapse:
    """Return the map between two nodes.

    Args:
        kind: ``dense``; ``conv``: weights shared among positions; ``auto``: conv between feature maps, and from a vector to
            feature maps where a dense one would have more than `LARGEST` weights; else dense.
        target, source: shapes of the nodes' values, without the batch.
        where: the map's name, and
        rule: the rule's, for errors.

    Raises:
        UserError: the shapes do not fit the kind.
    """
    maps = len(target) == 3, len(source) == 3
    weights = math.prod(target) * math.prod(source)
    if kind == "auto":
        kind = "conv" if all(maps) or (maps[0] and weights > LARGEST) else "dense"
    if kind == "dense":
        if weights > LARGEST:
            raise UserError(
                f"rule.synapses=dense: '{where}' of rule '{rule}' would map {_told(source)} to {_told(target)} by "
                f"{weights:,} weights ({weights * 4 / 2**30:.1f} GiB): write rule.synapses=conv, which shares them among positions"
            )
        return Dense(target, source)
    if all(maps):
        if any(_stride(t, s) is None for t, s in zip(target[1:], source[1:], strict=True)):
            raise UserError(
                f"'{where}' of rule '{rule}' leads from feature maps of {_told(source)} to {_told(target)}, and no "
                "convolution of any stride leads from one size to the other: take another source for this node "
                "(rule.error_connectivity), or rule.synapses=dense"
            )
        return Transposed(target, source)
    if maps[0]:
        return Shared(target, source)
    if len(target) == 1:
        return Dense(target, source)  # a vector has no positions to share weights among
    raise UserError(
        f"rule.synapses=conv: '{where}' of rule '{rule}' leads from {_told(source)} to {_told(target)}, which are not feature maps "
        "(channels, height, width); write rule.synapses=dense"
    )


def _stride(target: int, source: int) -> int | None:
    """Return the stride of a convolution, padded by half its kernel, that leads from one size to the other."""
    return next((step for step in range(1, target + 1) if -(-target // step) == source), None)


def _told(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
