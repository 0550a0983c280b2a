"""VGG-16 (Simonyan and Zisserman 2015, configuration D) for images of 32 pixels and up, with torchvision's weights on request."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from credit.core.errors import UserError
from credit.models import checks, weights
from credit.models.activations import activation as make_activation
from credit.models.initialization import begin
from credit.models.options import VggOptions

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(shape: tuple[int, ...], classes: int, options: VggOptions) -> nn.Module:
    """Build thirteen 3x3 convolutions in five stages, each ended by a 2x2 max pool, then dense layers.

    No average pool between: on 32 px one pixel of 512 channels is left, on larger images the rest is flattened.
    He-normal weights by fan-in and zero biases: smaller ones start slowly in thirteen layers without norm.
    Parameters on CIFAR-10: 14 986 698 with the defaults, 33 638 218 with ``norm=none dense=[4096,4096]`` (the network
    of the dual-propagation paper).

    Args:
        shape: (channels, height, width), at least 32x32 pixels.
        classes: number of logits.
        options: see `credit.models.options.VggOptions`.

    Raises:
        UserError: images too small, missing or unfit weights.
    """
    channels, height, width = checks.image("vgg16", shape, 32, "five 2x2 poolings leave nothing of a smaller one")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (size, convolutions) in enumerate(_STAGES, start=1):
        for index in range(1, convolutions + 1):
            layers[f"conv{stage}_{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=options.norm == "none")
            if options.norm == "batch":
                layers[f"norm{stage}_{index}"] = nn.BatchNorm2d(size)
            layers[f"act{stage}_{index}"] = make_activation(options.activation)
            channels = size
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    fan_in = channels * (height // 32) * (width // 32)
    for index, size in enumerate(options.dense, start=1):
        layers[f"fc{index}"] = nn.Linear(fan_in, size)
        layers[f"act_fc{index}"] = make_activation(options.activation)
        if options.dropout:
            layers[f"drop{index}"] = nn.Dropout(options.dropout)
        fan_in = size
    layers["head"] = nn.Linear(fan_in, classes)
    model = nn.Sequential(layers)
    begin(model, options.init)
    if options.pretrained is not False:
        told = f"arch.pretrained={'true' if options.pretrained is True else repr(options.pretrained)}"
        state, renamed = (
            (_torchvisions(), "") if options.pretrained is True else weights.read_weights(str(options.pretrained))
        )
        state = _by_own_names(model, state, told)
        _check_image(state, (channels * (height // 32) * (width // 32), height, width), options.dense, told)
        vars(model)["weights_note"] = weights.fit(model, state, ("head.weight", "head.bias"), told) + renamed
    return model


def _torchvisions() -> dict[str, Tensor]:
    """Return torchvision's weights for ImageNet's 1,000 classes, from torch's cache or downloaded into it (528 MB)."""
    from torchvision.models import VGG16_Weights

    try:
        state: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk; another digest
        reason, url = " ".join(str(error).split())[:300], VGG16_Weights.IMAGENET1K_V1.url
        raise UserError(
            f"arch.pretrained=true: torchvision's weights could not be fetched: {reason}. Fetch {url} where there is a network and "
            f"give its path, arch.pretrained=<folder>/{url.rpartition('/')[2]}, or write arch.pretrained=false"
        ) from error
    return state


def _by_own_names(model: nn.Sequential, state: Mapping[str, Tensor], told: str) -> dict[str, Tensor]:
    """Return weights by the network's own names where they have torchvision's or timm's: its layers in the same order."""
    if not any(name.startswith("features.") for name in state):
        return dict(state)
    own = [name for name, module in model.named_children() if isinstance(module, nn.Conv2d | nn.Linear)]
    if any(isinstance(module, nn.BatchNorm2d) for module in model):
        raise UserError(f"{told}: torchvision's VGG-16 has no batch norm; write arch.norm=none arch.dense=[4096,4096]")
    there = sorted(
        {name.rpartition(".")[0] for name in state}, key=_place
    )  # a file's own order is that of the alphabet
    if len(there) != len(own):
        raise UserError(
            f"{told}: the weights are of {len(there)} layers, this network has {len(own)}; torchvision's VGG-16 is "
            f"arch=vgg16 arch.norm=none arch.dense=[4096,4096] arch.dropout=0.5"
        )
    names = dict(zip(there, own, strict=True))
    renamed = {f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in state.items()}
    # timm's first dense layers are convolutions over what the last pooling leaves.
    return {
        name: value.flatten(1) if value.dim() == 4 and name[:4] != "conv" else value for name, value in renamed.items()
    }


def _place(layer: str) -> tuple[int, list[int]]:
    """Return where a layer comes in VGG, by its name in torchvision (features, classifier) or timm (features, pre_logits, head)."""
    parts = ("features", "pre_logits", "classifier", "head")
    first = layer.partition(".")[0]
    return parts.index(first) if first in parts else len(parts), [int(number) for number in re.findall(r"\d+", layer)]


def _check_image(state: Mapping[str, Tensor], here: tuple[int, int, int], dense: Sequence[int], told: str) -> None:
    """Refuse weights whose first dense layer was trained on images of another size, saying which."""
    first = state.get("fc1.weight" if dense else "head.weight")
    features, height, width = here
    if first is None or first.dim() != 2 or first.shape[1] == features or first.shape[1] % 512:
        return
    side = round((first.shape[1] // 512) ** 0.5)
    if side * side * 512 == first.shape[1]:
        raise UserError(
            f"{told}: the weights are for images of {32 * side} to {32 * side + 31} pixels, these have {height}x{width}; for the "
            f"image folders write data.image_size={32 * side}"
        )
