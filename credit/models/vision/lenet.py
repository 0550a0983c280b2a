"""LeNet-5 as two of the papers train it; they differ from each other and from the original."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation
from credit.models.initialization import begin
from credit.models.options import LeNetOptions
from credit.models.pools import QuadraticPool2d

Pool = Literal["average", "quadratic", "max"]
_POOLS: dict[Pool, Callable[[int], nn.Module]] = {
    "average": nn.AvgPool2d,
    "quadratic": QuadraticPool2d,
    "max": nn.MaxPool2d,
}


def lenet5(shape: tuple[int, ...], classes: int, options: LeNetOptions) -> nn.Module:
    """Build conv 5x5 - act - pool 2 - conv 5x5 - act - pool 2 - 120 - act - 84 - act - classes.

    ``lfp`` (layer-wise feedback propagation; the authors' code, the text leaves out the pools): 16 and 16 channels, no
    padding, max pools; 400 features on 32 px, 256 on 28 px. Parameters: 66 766 on CIFAR-10, 48 686 on MNIST.

    ``untied`` (untied activation gradients; the authors' example, the text says quadratic-mean pooling): 6 and 16
    channels, the first convolution padded by 2, average pools; 400 features on 28 px. Parameters: 61 706 on MNIST.

    Args:
        shape: (channels, height, width), at least 16x16 pixels (lfp) or 12x12 (untied).
        classes: number of logits.
        options: see `credit.models.options.LeNetOptions`.

    Raises:
        UserError: images too small.
    """
    padding = 2 if options.variant == "untied" else 0
    channels, height, width = checks.image(
        f"lenet5 (variant {options.variant})",
        shape,
        smallest=16 - 2 * padding,
        why="two 5x5 convolutions, each followed by a pooling that halves the image, leave nothing of a smaller one",
    )
    first = 6 if options.variant == "untied" else 16
    pooling = _POOLS[options.pool or ("average" if options.variant == "untied" else "max")]
    bias = options.norm == "none"
    rows, columns = ((((side + 2 * padding - 4) // 2) - 4) // 2 for side in (height, width))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (fan_in, size, pad) in enumerate(((channels, first, padding), (first, 16, 0)), start=1):
        layers[f"conv{index}"] = nn.Conv2d(fan_in, size, 5, padding=pad, bias=bias)
        if options.norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm2d(size)
        layers[f"act{index}"] = make_activation(options.activation)
        layers[f"pool{index}"] = pooling(2)
    layers["flatten"] = nn.Flatten()
    fan_in = 16 * rows * columns
    for index, size in ((3, 120), (4, 84)):
        layers[f"fc{index}"] = nn.Linear(fan_in, size, bias=bias)
        if options.norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm1d(size)
        layers[f"act{index}"] = make_activation(options.activation)
        if options.dropout:
            layers[f"drop{index}"] = nn.Dropout(options.dropout)
        fan_in = size
    layers["head"] = nn.Linear(fan_in, classes)
    model = nn.Sequential(layers)
    if options.init == "gaussian":
        begin(model, options.init, options.init_std)
    return model
