"""The six-convolution network of the LISP paper's main tables, as we read it."""

from collections import OrderedDict

from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation
from credit.models.options import PlainConvOptions


def plain_conv_bn(shape: tuple[int, ...], classes: int, options: PlainConvOptions) -> nn.Module:
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
        options: see `credit.models.options.PlainConvOptions`.

    Raises:
        UserError: images too small.
    """
    why = "three 2x2 poolings leave nothing of a smaller one"
    channels, height, width = checks.image("plain_conv_bn", shape, 8, why)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, size in enumerate(options.widths, start=1):
        layers[f"conv{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=False)
        layers[f"norm{index}"] = nn.BatchNorm2d(size)
        layers[f"act{index}"] = make_activation(options.activation)
        if index % 2 == 0:
            layers[f"pool{index}"] = nn.MaxPool2d(2)
            if options.dropout:
                layers[f"drop{index}"] = nn.Dropout(options.dropout)
        channels = size
    layers["flatten"] = nn.Flatten()
    layers["fc7"] = nn.Linear(
        channels * (height // 8) * (width // 8), options.hidden, bias=options.dense_norm == "none"
    )
    if options.dense_norm == "batch":
        layers["norm7"] = nn.BatchNorm1d(options.hidden)
    layers["act7"] = make_activation(options.activation)
    if options.dropout:
        layers["drop7"] = nn.Dropout(options.dropout)
    layers["head"] = nn.Linear(options.hidden, classes)
    return nn.Sequential(layers)
