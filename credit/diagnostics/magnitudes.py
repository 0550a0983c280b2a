"""Magnitudes of parameters: the shape of their distribution (paper 2, Fig. 5 IV) and their mean by layer (Fig. A.5)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Diagnostic, Watched
from credit.diagnostics.networks import layers
from credit.rules.base import Step


class Magnitudes(Diagnostic):
    """The diagnostic ``magnitudes``: statistics of the absolute values of all trainable parameters after the step.

    ``median`` and ``p75``, the 75th percentile; ``ratio`` = median / p75, which is invariant to scale and small if few parameters
    are much larger than most; ``start``, the ratio before the run's first step; ``layers``: by layer the mean of each of its
    parameters, such as ``{"fc1": {"weight": ..., "bias": ...}}``.
    """

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._start = _ratio(self._parameters().values())

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return the statistics of the parameters after the step."""
        held = self._parameters()
        sizes = torch.stack([p.abs().mean(dtype=torch.float64) for p in held.values()]).tolist()
        means = dict(zip(held, sizes, strict=True))
        by_layer = {
            layer: {name.rpartition(".")[2]: means[name] for name in names}
            for layer, names in layers(self.run.rule.plan).items()
        }
        median, upper = _percentiles(held.values())
        return {
            "median": median,
            "p75": upper,
            "ratio": median / upper if upper else 0.0,
            "start": self._start,
            "layers": by_layer,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return ``start``, the ratio before the run's first step."""
        return {"start": torch.tensor(self._start, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore ``start``."""
        self._start = float(state["start"])

    def _parameters(self) -> dict[str, Tensor]:
        held = dict(self.run.rule.model.named_parameters())
        return {name: held[name].detach() for name in self.run.rule.plan.trainable}


def quantile(values: Tensor, share: float) -> float:
    """Return a quantile of a tensor's elements, with linear interpolation, as `torch.quantile`, but for more than 2^24 elements.

    Args:
        values: a tensor of any shape with at least one element.
        share: the quantile, in [0, 1].
    """
    flat = values.flatten()
    place = share * (flat.numel() - 1)
    below = int(place)
    low = float(flat.kthvalue(below + 1).values)
    rest = place - below
    return low if not rest else low + rest * (float(flat.kthvalue(below + 2).values) - low)


def _percentiles(parameters: Iterable[Tensor]) -> tuple[float, float]:
    sizes = torch.cat([p.flatten().abs() for p in parameters])
    return quantile(sizes, 0.5), quantile(sizes, 0.75)


def _ratio(parameters: Iterable[Tensor]) -> float:
    median, upper = _percentiles(parameters)
    return median / upper if upper else 0.0
