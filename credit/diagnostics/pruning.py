"""Magnitude pruning: how much accuracy is left when the smallest weights are set to zero (paper 2, Fig. 5 III).

Pruned are the weights of linear and convolution layers, all layers together (those smallest anywhere go first) or each layer by
itself; biases and normalisations stay. It is done to a copy, so the network keeps its bits.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data
from credit.diagnostics.base import Diagnostic, Evaluated
from credit.diagnostics.networks import accuracy, refuse_settled
from credit.rules.base import Rule, Step

SHARES = (*(step / 20 for step in range(20)), 0.99)
"""Shares of the weights that are pruned: 0, 0.05, ..., 0.95, and 0.99."""

KEPT = 0.9
"""``prunable``: least accuracy, as a share of the unpruned network's."""

LOST = 0.01
"""``prunable_within_1``: largest loss of accuracy, one point."""


class Pruning(Diagnostic):
    """``trainer.measure=[pruning]``: the curve at the run's end, of the network that evaluations see; see `pruning`."""

    at_end = True
    by_layer: ClassVar[bool] = False
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        name = "pruning_by_layer" if cls.by_layer else "pruning"
        refuse_settled(name, rule, "the pruned network would be asked another question than the run's evaluations ask")

    def __init__(self, run: Evaluated) -> None:
        super().__init__(run)
        prunable(run.rule.model)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        return pruning(self.run.evaluated(), self.run.data, self.run.cfg.data.eval_batch_size, by_layer=self.by_layer)


class PruningByLayer(Pruning):
    """``trainer.measure=[pruning_by_layer]``: as `Pruning`, but every layer loses the same share of its weights."""

    by_layer = True


def pruning(
    model: nn.Module,
    data: Data,
    batch_size: int = 1000,
    *,
    shares: Sequence[float] = SHARES,
    by_layer: bool = False,
    split: str = "test",
) -> dict[str, Any]:
    """Return the accuracy of a network with its smallest weights set to zero, by the share of weights that are.

    Args:
        model: any network; it is left as it is.
        data: the data set, on the network's device.
        batch_size: examples at a time.
        shares: of the weights, in [0, 1], ascending; the first is taken as the unpruned network, so begin with 0.
        by_layer: prune this share of every layer; False: of all layers' weights together.
        split: which part is answered: ``test``, or ``val`` to leave the test part alone.

    Returns:
        ``accuracy``: in [0, 1] by per cent pruned (``{"p0": ..., "p5": ..., "p99": ...}``); ``weights``: how many can be pruned;
        ``prunable``: the largest share up to which accuracy never falls below `KEPT` of the unpruned; ``prunable_within_1``:
        up to which it never loses more than a point.

    Raises:
        UserError: a network without linear or convolution layers, shares out of order, or a part without examples.
    """
    if not shares or list(shares) != sorted(shares) or shares[0] < 0 or shares[-1] > 1:
        raise UserError(
            f"shares={list(shares)}: must be shares of the weights in [0, 1], ascending, such as [0, 0.5, 0.9]"
        )
    if not len(data.split(split).y):
        raise UserError(f"split={split}: this part has no examples to prune by; give another")
    pruned = copy.deepcopy(model)
    weights = prunable(pruned)
    groups = [[weight] for weight in weights] if by_layer else [weights]
    orders = [torch.cat([w.detach().abs().flatten() for w in group]).argsort(stable=True) for group in groups]
    found = []
    for share in shares:
        for group, order in zip(groups, orders, strict=True):
            _zero(group, order[: round(share * len(order))])
        found.append(accuracy(pruned, data, split, batch_size))
    return {
        "accuracy": {f"p{100 * share:g}": value for share, value in zip(shares, found, strict=True)},
        "weights": sum(weight.numel() for weight in weights),
        "prunable": _until(shares, found, KEPT * found[0]),
        "prunable_within_1": _until(shares, found, found[0] - LOST),
    }


def prunable(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a network's linear and convolution layers, each once, in the model's order.

    Raises:
        UserError: there are none.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    own = {id(layer.weight) for layer in layers}
    weights = [p for p in model.parameters() if id(p) in own]
    if not weights:
        raise UserError("pruning needs weights: this network has no linear or convolution layer")
    return weights


def _zero(weights: list[nn.Parameter], places: Tensor) -> None:
    """Set the weights to zero that stand at these places of all of them in a row."""
    mask = torch.zeros(sum(w.numel() for w in weights), dtype=torch.bool, device=weights[0].device)
    mask[places] = True
    with torch.no_grad():
        for weight, part in zip(weights, mask.split([w.numel() for w in weights]), strict=True):
            weight.masked_fill_(part.view_as(weight), 0.0)


def _until(shares: Sequence[float], found: Sequence[float], least: float) -> float:
    """Return the last share before the first whose accuracy is below `least`."""
    kept = 0.0
    for share, value in zip(shares, found, strict=True):
        if value < least - 1e-9:  # 0.9 x 0.8 is above 0.72 in floating point
            break
        kept = share
    return kept
