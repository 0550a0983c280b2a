"""``trainer.measure=[pruning_by_layer]``: magnitude pruning with the same share of every layer."""

from credit.diagnostics.base import register
from credit.diagnostics.pruning import Pruning


@register("pruning_by_layer")
class PruningByLayer(Pruning):
    """As `Pruning`, but every layer loses the same share of its weights."""

    by_layer = True
