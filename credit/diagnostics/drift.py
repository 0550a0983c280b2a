"""Drift: the mean squared change of parameters over a period (paper 2, Fig. A.6: MSE between parameters at consecutive epochs)."""

from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Since
from credit.diagnostics.networks import layers


class Drift(Since):
    """The diagnostic ``drift``: see `mean_squared_change` for the numbers, `Since` for the period."""

    def compare(self, then: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Any]:
        """Return `mean_squared_change` of the period, by layer of the network too."""
        return mean_squared_change(then, now, layers(self.run.rule.plan))


def mean_squared_change(
    then: dict[str, Tensor], now: dict[str, Tensor], by_layer: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Return ``mse``, the mean of (now - then)^2 over all parameters, and ``layers``, the mean by layer.

    Sums are taken in float64.

    Args:
        then, now: parameters by name, at the start and the end of the period.
        by_layer: names of parameters by layer; None for no means by layer.
    """
    squares = torch.stack([(p.double() - then[name].double()).square().sum() for name, p in now.items()]).tolist()
    found = dict(zip(now, squares, strict=True))
    return {
        "mse": _mean(found, now, list(now)),
        "layers": {layer: _mean(found, now, names) for layer, names in (by_layer or {}).items()},
    }


def _mean(squares: dict[str, float], now: dict[str, Tensor], names: list[str]) -> float:
    return sum(squares[name] for name in names) / max(1, sum(now[name].numel() for name in names))
