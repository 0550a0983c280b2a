"""Benchmark of one step on a spiking network, against snnTorch's backpropagation through time with surrogate gradients."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from credit.benchmarks.speed import Ratio, against
from credit.core.errors import UserError
from credit.models.spiking.networks import LIF, SpikeCount
from credit.rules import api


class InSnnTorch(nn.Module):
    """A spiking network as written in snnTorch: a loop over time around all layers, with `LIF` as ``snntorch.Leaky``.

    All layers are computed at every time step, also the first convolution, which this package computes once an image because its
    input is constant.

    Args:
        model: a sequence of layers that ends with `SpikeCount`; its weights are copied.
    """

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        import snntorch

        self.steps = next(layer.steps for layer in model if isinstance(layer, SpikeCount))
        self.layers = nn.ModuleList()
        for layer in model:
            if isinstance(layer, LIF):
                word = "straight_through_estimator" if layer.surrogate == "straight_through" else layer.surrogate
                slope = [] if layer.surrogate_slope is None else [layer.surrogate_slope]
                surrogate = getattr(snntorch.surrogate, word)(*slope)
                options: dict[str, Any] = {"reset_mechanism": layer.reset, "reset_delay": layer.reset_delay}
                self.layers.append(snntorch.Leaky(layer.beta, layer.threshold, spike_grad=surrogate, **options))
            elif not isinstance(layer, SpikeCount):
                self.layers.append(copy.deepcopy(layer))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's spikes (T, B, C) for images (B, ...)."""
        layers: list[Any] = list(self.layers)
        held: dict[int, Tensor] = {
            at: layer.reset_mem() for at, layer in enumerate(layers) if hasattr(layer, "reset_mem")
        }
        spikes = []
        for _ in range(self.steps):
            h = x
            for at, layer in enumerate(layers):
                if at in held:
                    h, held[at] = layer(h, held[at])
                else:
                    h = layer(h)
            spikes.append(h)
        return torch.stack(spikes)


def installed() -> bool:
    """Return whether snnTorch is installed (it is in the extra 'dev')."""
    try:
        import snntorch  # noqa: F401  # only to see whether it is installed
    except ImportError:
        return False
    return True


def compare_spiking(
    name: str, model: nn.Sequential, x: Tensor, y: Tensor, *, seconds: float = 6.0, **options: Any
) -> Ratio:
    """Compare a step of a rule on a spiking network with snnTorch's, for the cross-entropy of spike counts.

    Args:
        name: name of the rule.
        model: a sequence of layers that ends with `SpikeCount`, in train mode, on the device of x.
        x, y: a batch of images (B, ...) and labels (B,).
        seconds: approximate duration of the measurement; at least 5 pairs are timed.
        options: options of the rule.

    Raises:
        UserError: snnTorch is not installed.
    """
    if not installed():
        raise UserError(
            "snntorch is not installed, beside which a spiking network's step is timed: pip install snntorch"
        )
    from snntorch.functional import ce_count_loss

    rule, theirs, loss = api.rule(name, model, **options), InSnnTorch(model).to(x.device), ce_count_loss()

    def step(x: Tensor, y: Tensor) -> None:
        rule.step(x, y)

    def plain(x: Tensor, y: Tensor) -> None:
        theirs.zero_grad(set_to_none=True)
        loss(theirs(x), y).backward()

    return against((model, step), (theirs, plain), x, y, seconds=seconds)
