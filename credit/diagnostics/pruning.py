"""Magnitude pruning: accuracy with the smallest weights set to zero (paper 2, Fig. 5 III).

The weights of linear and convolution layers are pruned, over all layers together or in each layer separately; biases and
normalization layers are not. A copy is pruned, so that the network is unchanged.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data
from credit.diagnostics.base import LABELS, Diagnostic, Evaluated
from credit.diagnostics.networks import accuracy, refuse_settled
from credit.rules.base import Rule, Step

SHARES = (*(step / 20 for step in range(20)), 0.99)
"""Fractions of the weights to prune: 0, 0.05, ..., 0.95, and 0.99."""

KEPT = 0.9
"""Smallest accuracy for ``prunable``, as a fraction of the unpruned network's."""

LOST = 0.01
"""Largest loss of accuracy for ``prunable_within_1``: one percentage point."""


class Pruning(Diagnostic):
    """The diagnostic ``pruning``: `pruning` of the network that evaluations use, at the run's end."""

    tasks = LABELS
    at_end = True
    by_layer: ClassVar[bool] = False
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        """Refuse rules whose evaluations are no forward pass."""
        name = "pruning_by_layer" if cls.by_layer else "pruning"
        refuse_settled(name, rule, "the pruned network would be asked another question than the run's evaluations ask")

    def __init__(self, run: Evaluated) -> None:
        super().__init__(run)
        prunable(run.rule.model)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return `pruning` of the network after the run's last step."""
        return pruning(self.run.evaluated(), self.run.data, self.run.cfg.data.eval_batch_size, by_layer=self.by_layer)


class PruningByLayer(Pruning):
    """The diagnostic ``pruning_by_layer``: as `Pruning`, with the same fraction of weights pruned in every layer."""

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
    """Return the accuracy of a network with its smallest weights set to zero, by the fraction of weights pruned.

    Args:
        model: any network; it is left unchanged.
        data: the data set, on the network's device.
        batch_size: number of examples in a forward pass.
        shares: fractions of the weights, in [0, 1], ascending. The first is the reference, so begin with 0.
        by_layer: prune the fraction of every layer's weights (True) or of all weights together (False).
        split: the part to evaluate on, ``test`` or ``val``.

    Returns:
        ``accuracy``: in [0, 1], by per cent pruned (``{"p0": ..., "p5": ..., "p99": ...}``); ``weights``: number of weights that
        can be pruned; ``prunable``: largest fraction up to which the accuracy stays at or above `KEPT` times the unpruned one;
        ``prunable_within_1``: largest fraction up to which at most `LOST` is lost.

    Raises:
        UserError: the network has no linear or convolution layer, the fractions are invalid, or the part has no examples.
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
    """Return the weights of a network's linear and convolution layers, each once, in the order of the model's parameters.

    Raises:
        UserError: the network has no such layer, or one that computes its weight from other parameters.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    if computed := [type(layer).__name__ for layer in layers if not isinstance(layer.weight, nn.Parameter)]:
        raise UserError(
            f"pruning sets weights to 0, and the weight of a {computed[0]} of this network is computed from other parameters: fix "
            "it first (torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.prune.remove)"
        )
    own = {id(layer.weight) for layer in layers}
    weights = [p for p in model.parameters() if id(p) in own]
    if not weights:
        raise UserError("pruning needs weights: this network has no linear or convolution layer")
    return weights


def _zero(weights: list[nn.Parameter], places: Tensor) -> None:
    """Set weights to zero, in place, at indices into the concatenation of all flattened weights."""
    mask = torch.zeros(sum(w.numel() for w in weights), dtype=torch.bool, device=weights[0].device)
    mask[places] = True
    with torch.no_grad():
        for weight, part in zip(weights, mask.split([w.numel() for w in weights]), strict=True):
            weight.masked_fill_(part.view_as(weight), 0.0)


def _until(shares: Sequence[float], found: Sequence[float], least: float) -> float:
    """Return the last fraction before the first one whose accuracy is below `least`."""
    kept = 0.0
    for share, value in zip(shares, found, strict=True):
        if value < least - 1e-9:  # 0.9 x 0.8 is above 0.72 in floating point
            break
        kept = share
    return kept
