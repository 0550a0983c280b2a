"""One layer of weights: its feedback shared, its parameters updated, its inputs credited (see `credit.rules.lfp.relevance`).

    q, t = share(r)      updates = |W| (q a^T) + W (t |a|^T)      feedback of a = a (W^T q) + |a| (|W|^T t)

What needs |W| of a dense layer, or is as large as a convolution's output, is made in blocks, so that it never stands in memory
as a whole: a dense layer's by outputs, a convolution's by samples. Steps that are mapped or compiled, or run on a GPU, take
one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.engine.ops.base import Run
from credit.engine.ops.weighted import Linear, Weighted
from credit.rules.lfp.pieces import in_pieces
from credit.rules.lfp.relevance import Relevance

LEAST, MOST = 1 << 15, 1 << 17
"""Elements of a block: an eighth of a convolution's output, a fifth of a dense layer's weights, within these bounds."""
FEW, HALF = 5, 2
"""Blocks of a dense layer; of its size, which is made while its update does not stand in memory yet."""


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

    def shared(self, rule: Relevance, r: Tensor, z: Tensor, own: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return (updates by name, feedback of the input) of feedback r at the outputs z; ``own``: r may be overwritten."""
        if rule.needs_size and not isinstance(self.op, Linear):
            return self._by_samples(rule, r, z)
        size = self.size() if rule.needs_size else None
        q, t = rule.share(r, z, size, rectified=self.rectified, own=own)
        del z, size  # free while the updates are made
        return self.divided(q, t)

    def divided(self, q: Tensor, t: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the same of (q, t), the quotients that a rule made of the feedback already."""
        op, run, x = self.op, self.run, self.op.load(self.run)
        made = {name: self._grown(name, update) for name, update in op.updates(run, q)}
        if t is not None:
            self._add_second(made, t, x)
        return made, self._sent(q, t, x)

    def size(self, bias: bool = True) -> Tensor:
        """Return ``|W| |x| + |b|``, shaped like the op's output: the sum of its absolute contributions."""
        op, run, x = self.op, self.run, self.op.load(self.run)
        weight, held = op.weight(run), op.bias(run) if bias else None
        parts = []
        for at, w in self._outputs(weight, 0, HALF):
            own = None if held is None else self._of(held, at).abs()
            rows = [op.map(run, self._absolute(part), w.abs(), own) for part in self._parts(x)]
            parts.append(_joined(rows, 0))
        return _joined(parts, -1)

    # ------------------------------------------------------------ blocks

    def _rows(self, elements: int, least: int, length: int, count: int = 8) -> int:
        """Return how many of ``length`` rows make a block, of about ``count`` in all."""
        weight = self.run.params[self.op.params["weight"]]
        if not self.run.overwrite or weight.device.type != "cpu":
            return length
        return max(1, max(least, min(MOST, elements // count)) * length // elements)

    def _outputs(self, value: Tensor, dim: int = -1, count: int = FEW) -> Iterator[tuple[slice | None, Tensor]]:
        """Yield a dense layer's outputs by blocks: (which, ``value`` of these); a convolution's in one, None."""
        length = value.shape[dim]
        weight = self.run.params[self.op.params["weight"]]
        rows = self._rows(weight.numel(), LEAST, length, count) if isinstance(self.op, Linear) else length
        if rows >= length:
            yield None, value
            return
        for start, part in zip(range(0, length, rows), value.split(rows, dim), strict=True):
            yield slice(start, start + rows), part

    @staticmethod
    def _of(value: Tensor, at: slice | None) -> Tensor:
        return value if at is None else value[at]

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split a dense layer's samples where its input's absolute values would take as much memory as the input."""
        split = isinstance(self.op, Linear) and self.run.overwrite and not self.nonnegative
        return x.chunk(HALF) if split else (x,)

    def _by_samples(self, rule: Relevance, r: Tensor, z: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """A convolution under a rule that needs the size."""
        op, run, x = self.op, self.run, self.op.load(self.run)
        weight, bias = op.weight(run), op.bias(run)
        made: dict[str, Tensor] = {}
        sent: list[Tensor] = []
        # A block's weight update is a pass over the weights, so it has no fewer outputs than there are weights.
        rows = self._rows(z.numel(), max(LEAST, weight.numel()), len(x))
        for part, rs, zs in zip(x.split(rows), r.split(rows), z.split(rows), strict=True):
            size = op.map(run, self._absolute(part), weight.abs(), None if bias is None else bias.abs())
            q, t = rule.share(rs, zs, size, rectified=self.rectified, own=False)
            del size
            for name, update in op.updates(run, q, part):
                update = self._grown(name, update)
                made[name] = made[name].add_(update) if name in made else update
            if t is not None:
                self._add_second(made, t, part)
            here = self._sent(q, t, part)
            if here is not None:
                sent.append(here)
        return made, _joined(sent, 0) if sent else None

    # ------------------------------------------------------------ parts

    def _absolute(self, x: Tensor) -> Tensor:
        return x if self.nonnegative else x.abs()

    def _add_second(self, made: dict[str, Tensor], t: Tensor, x: Tensor) -> None:
        """Add ``W (t |x|^T)`` to the updates."""
        for part, own in zip(self._parts(x), self._parts(t), strict=True):
            size = self._absolute(part)
            for at, block in self._outputs(own):
                for name, update in self.op.updates(self.run, block, size):
                    self._add(self._of(made[name], at), update, self._of(self.run.params[name], at))

    def _sent(self, q: Tensor, t: Tensor | None, x: Tensor) -> Tensor | None:
        """Return ``x (W^T q) + |x| (|W|^T t)`` where it is wanted."""
        op, run = self.op, self.run
        if not op.wants[0]:
            return None
        weight = op.weight(run)
        sent = op.back(run, q, weight, x)
        if t is None:
            return sent.mul_(x)
        across: Tensor | None = None
        for at, part in self._outputs(t):
            here = op.back(run, part, self._of(weight, at).abs(), x)
            across = here if across is None else across.add_(here)
        assert across is not None
        return sent.add_(across if self.nonnegative else across.mul_(x.sign())).mul_(x)

    def _add(self, made: Tensor, update: Tensor, weight: Tensor) -> None:
        weight = weight.to(update.dtype)
        # torch cannot map addcmul_ over replicas.
        made.addcmul_(update, weight) if self.run.overwrite else made.add_(update * weight)

    def _grown(self, name: str, update: Tensor) -> Tensor:
        """Multiply an update by |w|, in place."""
        value = self.run.params[name]
        if not self.run.overwrite:
            return update.mul_(value.abs())
        for piece, part in in_pieces(update, value):
            piece.mul_(part.abs())
        return update


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
