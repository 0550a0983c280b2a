"""Gradient accumulation: a batch computed in several pieces, one after another, in the memory of one."""

from collections.abc import Iterator

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.draws import Share
from credit.rules.base import OWN, Rule
from credit.rules.outcome import Computed
from credit.rules.traits import refuse_pieces

GROWTH = "inference.growth"


def shares(whole: int, count: int) -> list[Share]:
    """Return so many shares of a batch, the first with one sample more where they cannot be equal."""
    each, more = divmod(whole, count)
    starts = [at * each + min(at, more) for at in range(count + 1)]
    return [Share(start, stop, whole) for start, stop in zip(starts, starts[1:], strict=False)]


class Pieces:
    """The pieces of each batch of a run (``trainer.accumulate``): see `credit.rules.outcome.Shares`.

    Args:
        count: how many.
    """

    across = None

    def __init__(self, count: int) -> None:
        self.count = count

    def maximum(self, value: Tensor) -> Tensor:
        """Refuse: pieces that are computed one after another have no common value (`refuse_pieces` is called before)."""
        raise AssertionError("a rule that needs the largest value of a batch is refused before it is trained in pieces")

    def updates(self, rule: Rule, x: Tensor, y: Tensor) -> Computed:
        """Return what a rule's step computes on a whole batch (B, ...): means over it, and all samples' logits."""
        total: Computed | None = None
        logits, sizes = [], []
        for share, done in self._computed(rule, x, y):
            part = (share.stop - share.start) / share.whole
            logits.append(done.logits)
            sizes += [] if done.sizes is None else [done.sizes]
            squares = {name: value if name == GROWTH else value.square() * part for name, value in done.signals.items()}
            updates = {name: update * part for name, update in done.updates.items()}
            if total is None:
                total = Computed(done.logits, done.loss * part, updates, None, squares)
                continue
            total.loss += done.loss * part
            for name, update in updates.items():
                total.updates[name] += update
            for name, value in squares.items():
                before = total.signals[name]
                total.signals[name] = torch.maximum(before, value) if name == GROWTH else before + value
        assert total is not None
        total.logits, total.sizes = torch.cat(logits), torch.cat(sizes) if sizes else None
        total.signals = {name: value if name == GROWTH else value.sqrt() for name, value in total.signals.items()}
        return total

    def _computed(self, rule: Rule, x: Tensor, y: Tensor) -> Iterator[tuple[Share, Computed]]:
        try:
            for share in shares(len(x), self.count):
                rule.share = share
                yield share, rule.updates(x[share.start : share.stop], y[share.start : share.stop], OWN)
        finally:
            rule.share = None


def accumulate(rules: list[Rule], count: int, smallest: int) -> None:
    """Let the steps of a run's rules be computed in pieces, where there are several.

    Args:
        rules: the run's.
        count: ``trainer.accumulate``.
        smallest: samples of its smallest batch.

    Raises:
        UserError: a batch smaller than the number of pieces, several processes, or a rule that needs the whole batch at once.
    """
    if count == 1:
        return
    if smallest < count:
        raise UserError(
            f"trainer.accumulate={count} computes each batch in so many pieces, and the smallest batch of an epoch has {smallest} "
            "examples; write a smaller number, a larger data.batch_size, or data.drop_last=true"
        )
    for rule in rules:
        if rule.sharing is not None:
            raise UserError(f"trainer.accumulate={count} with torchrun: its processes share each batch; leave one out")
        refuse_pieces(rule)
        rule.sharing = Pieces(count)
