"""The residual network for small images of He et al. 2016 (arXiv 1512.03385, section 4.2)."""

from collections import OrderedDict

import torch
from torch import nn

from credit.errors import UserError
from credit.models import checks
from credit.models.activations import activation as make_activation


class Block(nn.Module):
    """Two 3x3 convolutions with batch norms, added to the input (or to its projection), then the activation.

    Maps (B, channels, H, W) to (B, width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, channels: int, width: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act2 = make_activation(activation)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(channels, width, 1, stride, bias=False), norm=nn.BatchNorm2d(width))
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.act2(y + self.shortcut(x))


def cifar_resnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 20,
    width: int = 16,
    activation: str = "relu",
) -> nn.Module:
    """Build the 6n+2-layer ResNet: 3x3 stem, three stages of n blocks of width, 2 and 4 times width, mean, linear.

    Our reading of the paper's option B: where a stage halves the image, the shortcut is a 1x1 convolution of stride 2
    with batch norm (its CIFAR runs used option A, zero-padded identity, which has no parameters). He-normal
    convolutions by fan-out. Parameters on CIFAR-10 at width 16: 272 474 at depth 20 (2 752 of them in the
    shortcuts), 855 770 at depth 56.

    Args:
        shape: (channels, height, width), at least 4x4 pixels.
        classes: number of logits.
        depth: 6n+2 with n >= 1: 8, 14, 20, 32, 44, 56, 110.
        width: channels of the first stage.
        activation: a name of :mod:`credit.models.activations`.

    Raises:
        UserError: a depth that is not 6n+2, a width below 1, images too small, an unknown activation.
    """
    if depth < 8 or depth % 6 != 2:
        closest = max(8, round((depth - 2) / 6) * 6 + 2)
        raise UserError(
            f"arch.depth={depth}: arch cifar_resnet has three stages of n two-layer blocks, a stem and a head, so "
            f"depth must be 6n+2; the nearest is arch.depth={closest}"
        )
    checks.positive("cifar_resnet", width=width)
    channels, _, _ = checks.image("cifar_resnet", shape, 4, "two of its stages halve the image")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        act=make_activation(activation),
    )
    fan_in = width
    for stage in range(3):
        for block in range((depth - 2) // 6):
            size, stride = width * 2**stage, 2 if stage and not block else 1
            layers[f"stage{stage + 1}_block{block + 1}"] = Block(fan_in, size, stride, activation)
            fan_in = size
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(fan_in, classes))
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
