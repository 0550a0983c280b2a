"""How large parameters are: the shape of their distribution (paper 2, Fig. 5 IV) and their mean by layer (Fig. A.5)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Diagnostic, Watched
from credit.diagnostics.networks import layers
from credit.rules.base import Step


class Magnitudes(Diagnostic):
    """``trainer.measure=[magnitudes]``: of the trainable parameters, weights and biases together, after the step.

    ``median`` and ``p75``, the 75th percentile, of their absolute values; ``ratio`` = median / p75, which no common factor
    changes: small where most parameters are small beside a few; ``start``, that ratio before the run's first step;
    ``layers``: by layer the mean absolute value of each of its parameters, such as ``{"fc1": {"weight": ..., "bias": ...}}``.
    """

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._start = _ratio(self._parameters().values())

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
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
        return {"start": torch.tensor(self._start, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._start = float(state["start"])

    def _parameters(self) -> dict[str, Tensor]:
        held = dict(self.run.rule.model.named_parameters())
        return {name: held[name].detach() for name in self.run.rule.plan.trainable}


def quantile(values: Tensor, share: float) -> float:
    """Return the quantile of a tensor's numbers, linear between neighbours (as `torch.quantile`, which takes 2^24 at most).

    Args:
        values: any shape, at least one number.
        share: in [0, 1].
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
