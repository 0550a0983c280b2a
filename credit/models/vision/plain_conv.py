"""The six-convolution network of the LISP paper's main tables, as we read it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from credit.core.errors import UserError
from credit.models import checks
from credit.models.activations import activation as make_activation


def plain_conv_bn(
    shape: tuple[int, ...],
    classes: int,
    *,
    widths: Sequence[int] = (64, 64, 128, 128, 256, 256),
    hidden: int = 256,
    activation: str = "relu",
    dropout: float = 0.0,
    dense_norm: Literal["batch", "none"] = "batch",
) -> nn.Module:
    """Build six blocks of conv 3x3 - batch norm - activation, a 2x2 max pool after every second, then two dense layers.

    Our reading: the paper (PlainConvBN) says "6-layer ConvNet" but plots eight layers, L0 to L7, and gives no widths,
    no pooling and no place for its dropout. We take six convolutions and two dense layers, double the width with every
    halving, and drop after each pool and after the hidden dense layer. Convolutions have no bias (the norm would remove
    it); torch's default init. The hidden dense layer is normalised too: without it LISP-margin's error, which pushes the
    class on top of most samples down, moves all hidden units of that layer one way until they are dead (measured: logits
    collapse to zero on CIFAR-10). Parameters: 2 197 962 with the defaults on CIFAR-10, 1 213 770 on Digits.

    Args:
        shape: (channels, height, width), at least 8x8 pixels.
        classes: number of logits.
        widths: the six convolutions' channels.
        hidden: size of the hidden dense layer.
        activation: a name of :mod:`credit.models.activations`.
        dropout: probability in [0, 1).
        dense_norm: batch norm after the hidden dense layer, or none.

    Raises:
        UserError: images too small, not six widths, a size below 1, an unknown activation, a rate outside [0, 1).
    """
    if len(widths) != 6:
        raise UserError(
            f"arch.widths={checks.written(widths)} has {len(widths)} entries, but arch plain_conv_bn has six "
            f"convolutions; write six, for example arch.widths=[64,64,128,128,256,256] "
            f"(the dense layer's size is arch.hidden)"
        )
    checks.positive("plain_conv_bn", widths=widths, hidden=hidden)
    checks.rate("plain_conv_bn", "dropout", dropout)
    why = "three 2x2 poolings leave nothing of a smaller one"
    channels, height, width = checks.image("plain_conv_bn", shape, 8, why)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, size in enumerate(widths, start=1):
        layers[f"conv{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=False)
        layers[f"norm{index}"] = nn.BatchNorm2d(size)
        layers[f"act{index}"] = make_activation(activation)
        if index % 2 == 0:
            layers[f"pool{index}"] = nn.MaxPool2d(2)
            if dropout:
                layers[f"drop{index}"] = nn.Dropout(dropout)
        channels = size
    layers["flatten"] = nn.Flatten()
    layers["fc7"] = nn.Linear(channels * (height // 8) * (width // 8), hidden, bias=dense_norm == "none")
    if dense_norm == "batch":
        layers["norm7"] = nn.BatchNorm1d(hidden)
    layers["act7"] = make_activation(activation)
    if dropout:
        layers["drop7"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)
