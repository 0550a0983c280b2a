"""Multi-layer perceptron, plain or with residual sums between its hidden layers."""

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Literal

from torch import Tensor, nn

from credit.core.errors import UserError
from credit.models.activations import activation as make_activation
from credit.models.initialization import begin
from credit.models.options import MlpOptions

Norm = Literal["none", "batch"]


class ResidualMLP(nn.Module):
    """The layers of a plain perceptron under the same names, where some hidden layers also take an earlier one's output.

    Hidden layer l computes h_l = W_l z_{l-1} + b_l (normalised, where it has a norm), adds z_{l-gap} where l is among ``sums``,
    and passes on z_l = act(h_l), after its dropout (rec-LRA, section 3.3 and Algorithm 2, whose line 7
    has z_{l-1} where the text has z_{l-g}). z_0 is the flattened input. Maps (B, ...) to (B, classes).

    Args:
        layers: flatten, fc1, [norm1], act1, [drop1], fc2, ..., head, in this order.
        gap: how many layers a sum goes back.
        sums: numbers of the hidden layers that have one, counted from 1.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], gap: int, sums: Collection[int]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.gap, self.sums = gap, frozenset(sums)

    def forward(self, x: Tensor) -> Tensor:
        z = self.get_submodule("flatten")(x)
        outputs: list[Tensor] = []  # z_0 to z_{l-1}
        for name, layer in self.named_children():
            if name.startswith("fc"):
                outputs.append(z)
            if name.startswith("act") and len(outputs) in self.sums:
                z = z + outputs[-self.gap]
            if name != "flatten":
                z = layer(z)
        return z


def mlp(shape: tuple[int, ...], classes: int, options: MlpOptions) -> nn.Module:
    """Build flatten - (linear - [batch norm] - activation - [dropout]) per width - linear.

    Parameters: 85 002 with the defaults on Digits (64 inputs, 10 classes), 269 322 on MNIST. The rec-LRA paper's networks on
    MNIST: 2 913 290 with three layers of 1024, 466 698 with five and 664 074 with eight of 256.

    Args:
        shape: any; one example is flattened.
        classes: number of logits.
        options: see `credit.models.options.MlpOptions`.

    Raises:
        UserError: a gap that connects no two layers.
    """
    sums = _sums([math.prod(shape), *options.widths], options.residual_gap)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    fan_in = math.prod(shape)
    for index, width in enumerate(options.widths, start=1):
        layers[f"fc{index}"] = nn.Linear(fan_in, width, bias=options.norm == "none")
        if options.norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm1d(width)
        layers[f"act{index}"] = make_activation(options.activation)
        if options.dropout:
            layers[f"drop{index}"] = nn.Dropout(options.dropout)
        fan_in = width
    layers["head"] = nn.Linear(fan_in, classes)
    model = ResidualMLP(layers, options.residual_gap, sums) if sums else nn.Sequential(layers)
    if options.init != "torch":
        begin(model, options.init, options.init_std)
    return model


def _sums(sizes: Sequence[int], gap: int) -> list[int]:
    """Return the numbers of the hidden layers that take the output of the layer ``gap`` below them.

    Args:
        sizes: values of the flattened input, then of each hidden layer.
        gap: ``arch.residual_gap``; 0: none.

    Raises:
        UserError: a gap larger than the network is deep, or between layers of different widths everywhere.
    """
    depth = len(sizes) - 1
    if gap > depth:
        raise UserError(
            f"arch.residual_gap={gap}: arch mlp has {depth} hidden layers here, so no layer lies {gap} below another one; write "
            + (f"a gap of at most {depth}, or " if depth else "")
            + "arch.residual_gap=0 for no sums"
        )
    targets = range(gap, depth + 1, gap) if gap else ()
    sums = [layer for layer in targets if sizes[layer] == sizes[layer - gap]]
    if gap and not sums:
        pairs = [
            f"layer {layer} has {sizes[layer]} units, {f'layer {layer - gap}' if layer > gap else 'the input'} {sizes[layer - gap]}"
            for layer in targets
        ]
        raise UserError(
            f"arch.residual_gap={gap}: nothing can be added where the widths differ: {'; '.join(pairs)}. Write equal "
            f"arch.widths, {2 * gap} of them or more, or arch.residual_gap=0 for no sums"
        )
    return sums
