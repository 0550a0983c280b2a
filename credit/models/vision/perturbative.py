"""Residual networks whose 3x3 convolutions are fixed noise maps (Juefei-Xu et al. 2018, arXiv 1806.01817; rec-LRA, section 3.3)."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from credit.models import checks
from credit.models.activations import activation as make_activation
from credit.models.initialization import begin
from credit.models.options import DEPTHS, PerturbativeOptions

Distribution = Literal["uniform", "gaussian"]
Stem = Literal["auto", "cifar", "imagenet"]
_IMAGENET_FROM = 64  # pixels of the shorter side from which ``auto`` takes the stem that divides the image by four


class Perturbation(nn.Module):
    """A layer without a kernel: act(x + noise), batch norm, and a learned 1x1 combination with bias of the channels.

    Maps (B, channels, H, W) to (B, width, H, W): z^c = sum_m w_m^c relu(x^m + n^m) (rec-LRA, section 3.3), with the batch norm
    that stands before the combination in the code of the authors of perturbative networks. ``noise``, one map of one image's
    shape (channels, H, W), is a buffer: drawn here, once and for all, saved with the weights, not trained.

    Args:
        channels: maps of the input, each with a noise map of its own.
        width: maps of the output.
        size: (H, W) in pixels.
        distribution: ``uniform`` in [-level, level] (those authors' code) or ``gaussian`` with standard deviation ``level`` (the
            text of the rec-LRA paper); from torch's global generator, which `credit.models.build` seeds.
        level: 0 or above.
        activation: a name of :mod:`credit.models.activations`; the papers' is ``relu``.
    """

    noise: Tensor

    def __init__(
        self,
        channels: int,
        width: int,
        size: tuple[int, int],
        *,
        distribution: Distribution = "uniform",
        level: float = 0.1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        noise = torch.empty(channels, *size)
        self.register_buffer(
            "noise", noise.uniform_(-level, level) if distribution == "uniform" else noise.normal_().mul_(level)
        )
        self.act = make_activation(activation)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        combined: Tensor = self.conv(self.norm(self.act(x + self.noise)))
        return combined


class PerturbativeBlock(nn.Module):
    """layer1 - max pool (stride) - norm - act - layer2 - norm, added to the input (or to its projection), then the activation.

    Maps (B, channels, H, W) to (B, width, ceil(H / stride), ceil(W / stride)).

    Args:
        layer1: a `Perturbation` of the input's channels and size, or a convolution, without stride.
        layer2: the same of ``width`` channels and the output's size.
        channels: of the input.
        width: of the output.
        stride: of the max pool, whose windows have this size, and of the projection.
        activation: a name of :mod:`credit.models.activations`.
    """

    def __init__(
        self, layer1: nn.Module, layer2: nn.Module, channels: int, width: int, stride: int, activation: str
    ) -> None:
        super().__init__()
        self.layer1 = layer1
        self.pool = nn.Identity() if stride == 1 else nn.MaxPool2d(stride, ceil_mode=True)  # as the projection rounds
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = make_activation(activation)
        self.layer2 = layer2
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(channels, width, 1, stride, bias=False), norm=nn.BatchNorm2d(width))
            )
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.norm1(self.pool(self.layer1(x))))
        y = self.norm2(self.layer2(y))
        out: Tensor = self.act(y + self.shortcut(x))
        return out


def perturbative_resnet(shape: tuple[int, ...], classes: int, options: PerturbativeOptions) -> nn.Module:
    """Build a ResNet-18 of perturbative layers: stem, four stages of blocks, mean, linear.

    The stages have ``masks``, 2, 4 and 8 times ``masks`` channels; the last three halve the image in their first block. The stem
    is a real convolution, everything above it (`PerturbativeBlock`) has 1x1 ones alone. ``layers=conv`` is the convolutional
    twin: a 3x3 convolution without bias in place of each perturbative layer, all else the same, max pools too (ResNet-18's
    strided convolutions would save a quarter of its multiplications).

    Parameters: 8 771 690 on CIFAR-10 (and 1 372 160 fixed values of noise), its twin's 69 775 530; on ImageNet with 256 masks
    24 449 768 (and 6 723 584), its twin's 180 645 096.

    The code of perturbative networks' authors has ImageNet's stem for CIFAR-10 too, which leaves 8x8 pixels to the first stage.

    Args:
        shape: (channels, height, width), at least 8x8 pixels, 32x32 with the stem of ImageNet.
        classes: number of logits.
        options: see `credit.models.options.PerturbativeOptions`.

    Raises:
        UserError: images too small.
    """
    channels, size, large = _image(shape, options.stem)
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem(channels, options.masks, large, options.activation))
    for _ in range(2 if large else 0):
        size = _halved(size)
    fan_in = options.masks
    for stage, blocks in enumerate(DEPTHS[options.depth]):
        width = options.masks * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            out = _halved(size) if stride == 2 else size
            first, second = (
                nn.Conv2d(take, width, 3, padding=1, bias=False)
                if options.layers == "conv"
                else Perturbation(
                    take,
                    width,
                    at,
                    distribution=options.distribution,
                    level=options.noise_level,
                    activation=options.activation,
                )
                for take, at in ((fan_in, size), (width, out))
            )
            parts[f"stage{stage + 1}_block{block + 1}"] = PerturbativeBlock(
                first, second, fan_in, width, stride, options.activation
            )
            fan_in, size = width, out
    parts.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(fan_in, classes))
    model = nn.Sequential(parts)
    begin(model, options.init, options.init_std)
    return model


def _image(shape: tuple[int, ...], stem: Stem) -> tuple[int, tuple[int, int], bool]:
    """Return an example's channels and (height, width), and whether its stem is ImageNet's."""
    large = stem == "imagenet" or (stem == "auto" and len(shape) == 3 and min(shape[1:]) >= _IMAGENET_FROM)
    smallest, why = (
        (32, "its stem divides the image by four and three stages halve it")
        if large
        else (8, "three of its stages halve the image")
    )
    channels, height, width = checks.image("perturbative_resnet", shape, smallest, why)
    return channels, (height, width), large


def _stem(channels: int, width: int, large: bool, activation: str) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
        if large
        else nn.Conv2d(channels, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        act=make_activation(activation),
    )
    if large:
        parts["pool"] = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(parts)


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)
