"""An autoencoder: an encoder to a code of few numbers, and its mirror image back to the example."""

import math
from collections import OrderedDict

from torch import nn

from credit.core.errors import UserError
from credit.models.activations import activation as make_activation
from credit.models.checks import image
from credit.models.options import AutoencoderOptions


def autoencoder(shape: tuple[int, ...], classes: int, options: AutoencoderOptions) -> nn.Module:
    """Build encoder and decoder; maps (B, *shape) to as many numbers, (B, *shape) with convolutions, else rows (B, F).

    ``channels`` are those of convolutions of stride 2 before the dense layers, mirrored by transposed convolutions. ``widths`` are
    those of the dense layers, of which the last is the code, linear as the output is.

    Args:
        shape: of one example.
        classes: number of values of an example.
        options: see `credit.models.options.AutoencoderOptions`.

    Raises:
        UserError: a task other than reconstruction, or images too small for the convolutions.
    """
    if classes != math.prod(shape):
        raise UserError(
            f"arch=autoencoder returns its input, {math.prod(shape)} numbers, and the data ask for {classes} outputs; write "
            "data.task=reconstruction, or use another network"
        )
    convolutions = _sizes(shape, options.channels) if options.channels else [tuple(shape)]
    dense = [math.prod(convolutions[-1]), *options.widths]
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(name: str, layer: nn.Module, *, linear: bool = False) -> None:
        layers[name] = layer
        if not linear:
            layers[f"act_{name}"] = make_activation(options.activation)

    for at, (one, other) in enumerate(zip(convolutions, convolutions[1:], strict=False), 1):
        add(f"conv{at}", nn.Conv2d(one[0], other[0], 3, stride=2, padding=1))
    layers["flatten"] = nn.Flatten()
    for at, (width, other_width) in enumerate(zip(dense, dense[1:], strict=False), 1):
        add(f"encode{at}", nn.Linear(width, other_width), linear=at == len(dense) - 1)
    mirrored = dense[::-1]
    for at, (width, other_width) in enumerate(zip(mirrored, mirrored[1:], strict=False), 1):
        add(f"decode{at}", nn.Linear(width, other_width), linear=at == len(dense) - 1 and len(convolutions) == 1)
    if len(convolutions) > 1:
        layers["unflatten"] = nn.Unflatten(1, convolutions[-1])
    back = convolutions[::-1]
    for at, (one, other) in enumerate(zip(back, back[1:], strict=False), 1):
        odd = other[1] - 2 * one[1] + 1, other[2] - 2 * one[2] + 1
        layer = nn.ConvTranspose2d(one[0], other[0], 3, stride=2, padding=1, output_padding=odd)
        add(f"deconv{at}", layer, linear=at == len(back) - 1)
    return nn.Sequential(layers)


def _sizes(shape: tuple[int, ...], channels: list[int]) -> list[tuple[int, int, int]]:
    """Return the shapes of the input and of each convolution's output, (C, H, W)."""
    found = [image("autoencoder", shape, 2 ** len(channels), "each of its convolutions halves them")]
    for count in channels:
        height, width = ((size + 1) // 2 for size in found[-1][1:])
        found.append((count, height, width))
    return found
