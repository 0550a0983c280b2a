"""LeNet-5 as two of the papers train it; they differ from each other and from the original."""

from collections import OrderedDict
from typing import Literal

from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation


def lenet5(
    shape: tuple[int, ...],
    classes: int,
    *,
    variant: Literal["lfp", "untied"] = "lfp",
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Build conv 5x5 - act - pool 2 - conv 5x5 - act - pool 2 - 120 - act - 84 - act - classes, torch's default init.

    ``lfp`` (layer-wise feedback propagation; the authors' code, the text leaves out the pools): 16 and 16 channels, no
    padding, max pools; 400 features on 32 px, 256 on 28 px. Parameters: 66 766 on CIFAR-10, 48 686 on MNIST.

    ``untied`` (untied activation gradients; the authors' example, the text says quadratic-mean pooling): 6 and 16
    channels, the first convolution padded by 2, average pools; 400 features on 28 px. Parameters: 61 706 on MNIST.

    Args:
        shape: (channels, height, width), at least 16x16 pixels (lfp) or 12x12 (untied).
        classes: number of logits.
        variant: whose LeNet-5.
        activation: a name of :mod:`credit.models.activations`.
        dropout: probability in [0, 1) after each hidden dense layer.

    Raises:
        UserError: images too small, an unknown activation, a rate outside [0, 1).
    """
    checks.rate("lenet5", "dropout", dropout)
    padding = 2 if variant == "untied" else 0
    channels, height, width = checks.image(
        f"lenet5 (variant {variant})",
        shape,
        smallest=16 - 2 * padding,
        why="two 5x5 convolutions, each followed by a pooling that halves the image, leave nothing of a smaller one",
    )
    first, pool = (6, nn.AvgPool2d) if variant == "untied" else (16, nn.MaxPool2d)
    rows, columns = ((((side + 2 * padding - 4) // 2) - 4) // 2 for side in (height, width))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, first, 5, padding=padding),
        act1=make_activation(activation),
        pool1=pool(2),
        conv2=nn.Conv2d(first, 16, 5),
        act2=make_activation(activation),
        pool2=pool(2),
        flatten=nn.Flatten(),
    )
    fan_in = 16 * rows * columns
    for index, size in ((3, 120), (4, 84)):
        layers[f"fc{index}"] = nn.Linear(fan_in, size)
        layers[f"act{index}"] = make_activation(activation)
        if dropout:
            layers[f"drop{index}"] = nn.Dropout(dropout)
        fan_in = size
    layers["head"] = nn.Linear(fan_in, classes)
    return nn.Sequential(layers)
