"""The residual network for small images of He et al. 2016 (arXiv 1512.03385, section 4.2)."""

from collections import OrderedDict

import torch
from torch import nn

from credit.models import checks
from credit.models.activations import activation as make_activation
from credit.models.initialization import begin
from credit.models.norms import Norm, norm_2d
from credit.models.options import CifarResNetOptions


class Block(nn.Module):
    """Two 3x3 convolutions with norms, added to the input (or to its projection), then the activation.

    Maps (B, channels, H, W) to (B, width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, channels: int, width: int, stride: int, activation: str, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=bias)
        self.norm1 = norm_2d(norm, width)
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = norm_2d(norm, width)
        self.act2 = make_activation(activation)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(channels, width, 1, stride, bias=bias), norm=norm_2d(norm, width))
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.act2(y + self.shortcut(x))


def cifar_resnet(shape: tuple[int, ...], classes: int, options: CifarResNetOptions) -> nn.Module:
    """Build the 6n+2-layer ResNet: 3x3 stem, three stages of n blocks of width, 2 and 4 times width, mean, linear.

    Our reading of the paper's option B: where a stage halves the image, the shortcut is a 1x1 convolution of stride 2
    with batch norm (its CIFAR runs used option A, zero-padded identity, which has no parameters). Parameters on
    CIFAR-10 at width 16: 272 474 at depth 20 (2 752 of them in the shortcuts), 855 770 at depth 56; without norm 271 690
    and 853 642.

    Args:
        shape: (channels, height, width), at least 4x4 pixels.
        classes: number of logits.
        options: see `credit.models.options.CifarResNetOptions`.

    Raises:
        UserError: images too small.
    """
    channels, _, _ = checks.image("cifar_resnet", shape, 4, "two of its stages halve the image")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, options.width, 3, padding=1, bias=options.norm == "none"),
        norm=norm_2d(options.norm, options.width),
        act=make_activation(options.activation),
    )
    fan_in = options.width
    for stage in range(3):
        for block in range((options.depth - 2) // 6):
            size, stride = options.width * 2**stage, 2 if stage and not block else 1
            layers[f"stage{stage + 1}_block{block + 1}"] = Block(fan_in, size, stride, options.activation, options.norm)
            fan_in = size
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(fan_in, classes))
    model = nn.Sequential(layers)
    if options.init == "gaussian":
        begin(model, options.init, options.init_std)
        return model
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if options.norm != "batch":
        _start_without_statistics(model)
    return model


def _start_without_statistics(model: nn.Module) -> None:
    """Give convolutions the weights with which a deep network starts although no batch statistics hold its numbers.

    He-normal by fan-in with zero biases, and both convolutions of each of the L blocks divided by sqrt(L): a branch of m = 2
    layers so scaled moves the output by about one learning rate a step however deep the network is (Fixup, Zhang et al. 2019,
    arXiv 1901.09321, section 3). Fixup itself puts zeros in a branch's last layer and in the head, and single numbers before
    convolutions: we leave both out, because with zeros there most rules' signals die, and a number on its own is no layer.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for block in blocks:
            block.conv1.weight /= len(blocks) ** 0.5
            block.conv2.weight /= len(blocks) ** 0.5
