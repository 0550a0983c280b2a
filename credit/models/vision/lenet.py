"""LeNet-5 as two of the papers train it; they differ from each other and from the original."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation
from credit.models.dense.mlp import Norm
from credit.models.initialization import begin, check_std
from credit.models.pools import QuadraticPool2d

Pool = Literal["average", "quadratic", "max"]
_POOLS: dict[Pool, Callable[[int], nn.Module]] = {
    "average": nn.AvgPool2d,
    "quadratic": QuadraticPool2d,
    "max": nn.MaxPool2d,
}


def lenet5(
    shape: tuple[int, ...],
    classes: int,
    *,
    variant: Literal["lfp", "untied"] = "lfp",
    activation: str = "relu",
    pool: Pool | None = None,
    norm: Norm = "none",
    dropout: float = 0.0,
    init: Literal["torch", "gaussian"] = "torch",
    init_std: float | None = None,
) -> nn.Module:
    """Build conv 5x5 - act - pool 2 - conv 5x5 - act - pool 2 - 120 - act - 84 - act - classes.

    ``lfp`` (layer-wise feedback propagation; the authors' code, the text leaves out the pools): 16 and 16 channels, no
    padding, max pools; 400 features on 32 px, 256 on 28 px. Parameters: 66 766 on CIFAR-10, 48 686 on MNIST.

    ``untied`` (untied activation gradients; the authors' example, the text says quadratic-mean pooling): 6 and 16
    channels, the first convolution padded by 2, average pools; 400 features on 28 px. Parameters: 61 706 on MNIST.

    Args:
        shape: (channels, height, width), at least 16x16 pixels (lfp) or 12x12 (untied).
        classes: number of logits.
        variant: whose LeNet-5.
        activation: a name of :mod:`credit.models.activations`.
        pool: of 2x2 windows: ``average``, ``quadratic`` (root of the mean of squares), ``max``; None: the variant's own.
        norm: ``none``, or ``batch`` between each convolution or hidden dense layer and its activation (their biases, which
            the norm would remove, are left out; untied on MNIST: 61 932 parameters).
        dropout: probability in [0, 1) after each hidden dense layer.
        init: ``torch``: torch's default; ``gaussian``: normal with standard deviation ``init_std``, biases 0.
        init_std: standard deviation of ``gaussian``'s weights.

    Raises:
        UserError: images too small, an unknown activation, a rate outside [0, 1), a standard deviation that is not above 0 or
            that ``init`` does not read.
    """
    checks.rate("lenet5", "dropout", dropout)
    check_std("lenet5", init, init_std)
    padding = 2 if variant == "untied" else 0
    channels, height, width = checks.image(
        f"lenet5 (variant {variant})",
        shape,
        smallest=16 - 2 * padding,
        why="two 5x5 convolutions, each followed by a pooling that halves the image, leave nothing of a smaller one",
    )
    first = 6 if variant == "untied" else 16
    pooling = _POOLS[pool or ("average" if variant == "untied" else "max")]
    bias = norm == "none"
    rows, columns = ((((side + 2 * padding - 4) // 2) - 4) // 2 for side in (height, width))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (fan_in, size, pad) in enumerate(((channels, first, padding), (first, 16, 0)), start=1):
        layers[f"conv{index}"] = nn.Conv2d(fan_in, size, 5, padding=pad, bias=bias)
        if norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm2d(size)
        layers[f"act{index}"] = make_activation(activation)
        layers[f"pool{index}"] = pooling(2)
    layers["flatten"] = nn.Flatten()
    fan_in = 16 * rows * columns
    for index, size in ((3, 120), (4, 84)):
        layers[f"fc{index}"] = nn.Linear(fan_in, size, bias=bias)
        if norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm1d(size)
        layers[f"act{index}"] = make_activation(activation)
        if dropout:
            layers[f"drop{index}"] = nn.Dropout(dropout)
        fan_in = size
    layers["head"] = nn.Linear(fan_in, classes)
    model = nn.Sequential(layers)
    if init == "gaussian":
        begin(model, init, init_std)
    return model
