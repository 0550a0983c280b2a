"""One layer of weights: its feedback shared, its parameters updated, its inputs credited (see `credit.rules.relevance`).

    q, t = share(r)      updates = |W| (q a^T) + W (t |a|^T)      feedback of a = a (W^T q) + |a| (|W|^T t)

Rules that need the layer's size go by blocks, so that what they make on the way stands in memory for one block alone: a dense
layer by its outputs, a convolution by samples. Steps that are mapped or compiled take one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.engine.ops.base import Run
from credit.engine.ops.weighted import Linear, Weighted
from credit.rules.pieces import in_pieces
from credit.rules.relevance import Relevance, Shares

LEAST, MOST = 1 << 14, 1 << 17
"""Elements of a block, of a dense layer's weights or a convolution's output: an eighth of them all, within these bounds."""


@dataclass(frozen=True)
class Block:
    """A part of a layer: its inputs x, weights, outputs z and their feedback r.

    Attributes:
        outputs, samples: which of the layer's outputs and of the batch's samples these are; None: all.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    z: Tensor
    r: Tensor
    outputs: slice | None = None
    samples: slice | None = None


@dataclass(frozen=True)
class Layer:
    """A layer of weights in one step.

    Attributes:
        op, run: the layer and the step; the op's input is still saved.
        nonnegative: its input is not below 0.
        rectified: see `Relevance.share`.
    """

    op: Weighted
    run: Run
    nonnegative: bool = False
    rectified: bool = False

    def whole(self, rule: Relevance, r: Tensor, z: Tensor, own: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return (updates by name, feedback of the input) under a rule that needs no size."""
        q, t = rule.share(r, z, None, rectified=self.rectified, own=own)
        del z  # free while the updates are made
        return self.divided(q, t)

    def divided(self, q: Tensor, t: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the same of (q, t), the quotients that a rule made of the feedback already."""
        op, run, x = self.op, self.run, self.op.load(self.run)
        made = {name: self._grown(name, update) for name, update in op.updates(run, q)}
        if t is not None:
            for name, update in op.updates(run, t, self._absolute(x)):
                made[name].addcmul_(update, run.params[name].to(update.dtype))
        if not op.wants[0]:
            return made, None
        across = None if t is None else op.back(run, t, op.weight(run).abs())
        return made, self._credited(op.back(run, q, op.weight(run)), x, across)

    def by_blocks(self, rule: Relevance, r: Tensor, z: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return (updates by name, feedback of the input) under any rule."""
        made: dict[str, Tensor] = {}
        sent: Tensor | None = None
        for block in self._blocks(r, z):
            shares = self._shares(rule, block)
            for name, update in self._updates(block, shares):
                made[name] = _into(made.get(name), update, block.outputs, self.run.params[name].shape)
            if self.op.wants[0]:
                here = self._back(block, *shares)
                sent = _into(sent, here, block.samples, self.op.load(self.run).shape)
        return made, sent

    # ------------------------------------------------------------ blocks

    def _blocks(self, r: Tensor, z: Tensor) -> Iterator[Block]:
        op, run, x = self.op, self.run, self.op.load(self.run)
        weight, bias, dense = op.weight(run), op.bias(run), isinstance(op, Linear)
        elements, length = (weight.numel(), len(weight)) if dense else (z.numel(), len(x))
        rows = max(1, max(LEAST, min(MOST, elements // 8)) * length // elements) if run.overwrite else length
        for start in range(0, length, rows):
            at = slice(start, start + rows)
            part = None if rows >= length else at
            if dense:
                own = None if bias is None else bias[at]
                yield Block(x, weight[at], own, z[..., at], r[..., at], outputs=part)
            else:
                yield Block(x[at], weight, bias, z[at], r[at], samples=part)

    def _shares(self, rule: Relevance, block: Block) -> Shares:
        weight, bias = block.weight.abs(), None if block.bias is None else block.bias.abs()
        parts = [self.op.map(self.run, self._absolute(x), weight, bias) for x in self._parts(block.x)]
        size = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rule.share(block.r, block.z, size, rectified=self.rectified, own=False)

    def _updates(self, block: Block, shares: Shares) -> Iterator[tuple[str, Tensor]]:
        q, t = shares
        own = {self.op.params["weight"]: block.weight, self.op.params.get("bias"): block.bias}
        second: dict[str, Tensor] = {}
        if t is not None:
            for x, part in zip(self._parts(block.x), self._parts(t), strict=True):
                for name, update in self.op.updates(self.run, part, self._absolute(x)):
                    second[name] = second[name].add_(update) if name in second else update
        for name, update in self.op.updates(self.run, q, block.x):
            value = own[name]
            assert value is not None
            update = update.mul_(value.abs())
            yield name, update if t is None else update.addcmul_(second.pop(name), value)

    def _back(self, block: Block, q: Tensor, t: Tensor | None) -> Tensor:
        sent = self.op.back(self.run, q, block.weight, block.x)
        across = None if t is None else self.op.back(self.run, t, block.weight.abs(), block.x)
        return self._credited(sent, block.x, across)

    # ------------------------------------------------------------ shared

    def _absolute(self, x: Tensor) -> Tensor:
        return x if self.nonnegative else x.abs()

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split a dense layer's samples where its input's absolute values would take as much memory as the input."""
        split = isinstance(self.op, Linear) and self.run.overwrite and not self.nonnegative
        return x.chunk(2) if split else (x,)

    def _credited(self, sent: Tensor, x: Tensor, across: Tensor | None) -> Tensor:
        if across is None:
            return sent.mul_(x)
        if self.nonnegative:
            return sent.add_(across).mul_(x)
        return sent.addcmul_(across, x.sign()).mul_(x)

    def _grown(self, name: str, update: Tensor) -> Tensor:
        """Multiply an update by |w|, in place."""
        value = self.run.params[name]
        if not self.run.overwrite:
            return update.mul_(value.abs())
        for piece, part in in_pieces(update, value):
            piece.mul_(part.abs())
        return update


def _into(held: Tensor | None, part: Tensor, at: slice | None, shape: torch.Size) -> Tensor:
    """Put a block's part in its place; what every block has the whole of is added up."""
    if at is None:
        return part if held is None else held.add_(part)
    if held is None:
        held = part.new_empty(shape)
    held[at] = part
    return held
