"""Sign changes: the number of parameters that change sign over a period (paper 2, Figs. 3 and 5: sign changes per epoch)."""

from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Since
from credit.diagnostics.networks import layers


class Signs(Since):
    """The diagnostic ``signs``: see `sign_changes` for the numbers, `Since` for the period."""

    def compare(self, then: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Any]:
        """Return `sign_changes` of the period, by layer of the network too."""
        return sign_changes(then, now, layers(self.run.rule.plan))


def sign_changes(
    then: dict[str, Tensor], now: dict[str, Tensor], by_layer: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Return the number of parameters that changed from positive to negative or from negative to positive.

    A change from or to exactly 0 is no change of sign. Changes between the two moments are not counted.

    Args:
        then, now: parameters by name, at the start and the end of the period.
        by_layer: names of parameters by layer; None for no shares by layer.

    Returns:
        ``count``, ``of`` (the number of all parameters), ``share`` = count / of, and ``layers``, the share by layer.
    """
    counts = torch.stack([_changed(then[name], p) for name, p in now.items()]).tolist() if now else []
    found = dict(zip(now, counts, strict=True))
    sizes = {name: p.numel() for name, p in now.items()}
    count, of = sum(counts), sum(sizes.values())
    shares = {
        layer: sum(found[name] for name in names) / max(1, sum(sizes[name] for name in names))
        for layer, names in (by_layer or {}).items()
    }
    return {"count": count, "of": of, "share": count / max(1, of), "layers": shares}


def _changed(then: Tensor, now: Tensor) -> Tensor:
    return (((then < 0) & (now > 0)) | ((then > 0) & (now < 0))).sum()
