"""VGG-16 (Simonyan and Zisserman 2015, configuration D) for images of 32 pixels."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(
    shape: tuple[int, ...],
    classes: int,
    *,
    norm: Literal["batch", "none"] = "batch",
    dense: Sequence[int] = (512,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Build thirteen 3x3 convolutions in five stages, each ended by a 2x2 max pool, then dense layers.

    No average pool between: on 32 px one pixel of 512 channels is left, on larger images the rest is flattened.
    He-normal weights by fan-in and zero biases, without which thirteen layers without norm do not start.
    Parameters on CIFAR-10: 14 986 698 with the defaults, 33 638 218 with ``norm=none dense=[4096,4096]`` (the network
    of the dual-propagation paper).

    Args:
        shape: (channels, height, width), at least 32x32 pixels.
        classes: number of logits.
        norm: ``batch`` (convolutions then have no bias) or ``none``.
        dense: hidden dense layers' sizes; [4096,4096] is the original, an empty list gives none.
        activation: a name of :mod:`credit.models.activations`.
        dropout: probability in [0, 1) after each hidden dense layer.

    Raises:
        UserError: images too small, a size below 1, an unknown activation, a rate outside [0, 1).
    """
    checks.positive("vgg16", dense=dense)
    checks.rate("vgg16", "dropout", dropout)
    channels, height, width = checks.image("vgg16", shape, 32, "five 2x2 poolings leave nothing of a smaller one")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (size, convolutions) in enumerate(_STAGES, start=1):
        for index in range(1, convolutions + 1):
            layers[f"conv{stage}_{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=norm == "none")
            if norm == "batch":
                layers[f"norm{stage}_{index}"] = nn.BatchNorm2d(size)
            layers[f"act{stage}_{index}"] = make_activation(activation)
            channels = size
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    fan_in = channels * (height // 32) * (width // 32)
    for index, size in enumerate(dense, start=1):
        layers[f"fc{index}"] = nn.Linear(fan_in, size)
        layers[f"act_fc{index}"] = make_activation(activation)
        if dropout:
            layers[f"drop{index}"] = nn.Dropout(dropout)
        fan_in = size
    layers["head"] = nn.Linear(fan_in, classes)
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
