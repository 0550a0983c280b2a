"""Any image classifier of timm by name, fitted to the data's channels, classes and image size."""

import difflib
from typing import Any

import torch
from torch import nn

from credit.core.errors import UserError
from credit.models import checks
from credit.models.options import TimmOptions
from credit.models.weights import conversions, misfit, read_weights

# Where timm's residual families keep the 7x7 stride-2 convolution and the max pool of their ImageNet stem.
_STEMS = (("conv1", "maxpool"), ("features.conv0", "features.pool0"))


def find_names(name: str, count: int = 5) -> list[str]:
    """Return ``[name]`` where timm has that model, else up to ``count`` names near it. Imports timm."""
    import timm

    if ":" not in name and timm.is_model(name):
        return [name]
    return difflib.get_close_matches(name, timm.list_models(), n=count, cutoff=0.5)


def timm_model(shape: tuple[int, ...], classes: int, options: TimmOptions) -> nn.Module:
    """Build a timm model with ``in_chans``, ``num_classes`` and, where the design fixes it, ``img_size`` from the data.

    Parameters of resnet18 with ``stem=cifar`` on CIFAR-10: 11 173 962 (native stem: 11 181 642).

    Args:
        shape: (channels, height, width); one zero image is run through the model to see that it fits.
        classes: number of logits.
        options: see `credit.models.options.TimmOptions`.

    Raises:
        UserError: unknown name, no such stem, missing or unfit weights, images the model cannot take.
    """
    import timm

    channels, height, width = checks.image(f"timm {options.name}", shape, 1, "an image has at least one pixel")
    near = find_names(options.name)
    if near != [options.name]:
        hint = f"did you mean {', '.join(repr(entry) for entry in near)}? " if near else ""
        raise UserError(
            f"arch.name={options.name!r} is no model of timm {timm.__version__}; {hint}timm.list_models() has them all"
        )
    arguments: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    config = timm.models.get_pretrained_cfg(options.name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = (height, width)
    if options.patch_size is not None:
        arguments["patch_size"] = _patch(options.name, options.patch_size, height, width)
    if options.zero_init_last is not None:
        arguments["zero_init_last"] = options.zero_init_last
    if options.pretrained is not False:
        arguments["pretrained"] = True
    if isinstance(options.pretrained, str):
        arguments["pretrained_cfg_overlay"], renamed = _weights(options.pretrained, config)
    elif options.pretrained and (config is None or not config.has_weights):
        raise UserError(
            f"arch.pretrained=true: timm has no weights for {options.name}; write arch.pretrained=false, or a path"
        )
    model = _create(options.name, arguments, options.pretrained, (height, width))
    converted = ""
    if isinstance(options.pretrained, str):
        state = arguments["pretrained_cfg_overlay"]["state_dict"]
        _check_names(options.name, options.pretrained, state, model)
        converted = renamed + conversions(model.state_dict(), state, f"arch.pretrained={options.pretrained!r}")
    if options.stem == "cifar":
        _small_stem(options.name, model)
    _check_fit(options.name, model, (channels, height, width), classes)
    if options.pretrained:
        vars(model)["weights_note"] = _note(model, options.pretrained, classes) + converted
    return model


def _patch(name: str, size: int, height: int, width: int) -> int:
    if size < 1 or height % size or width % size:
        raise UserError(
            f"arch.patch_size={size} does not divide images of {height}x{width} pixels into whole patches; choose a divisor "
            f"of both, for example arch.patch_size=4"
        )
    return size


def _create(name: str, arguments: dict[str, Any], pretrained: bool | str, size: tuple[int, int]) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, **arguments)
    except Exception as error:  # timm, its families and the download raise their own; all of them say what is wrong
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        if isinstance(pretrained, str):
            raise UserError(
                f"arch.pretrained={pretrained!r}: the weights do not fit timm {name}: {reason}. Give a file saved from "
                f"this model with its native stem, or arch.pretrained=false"
            ) from error
        if pretrained:
            raise UserError(
                f"arch.pretrained=true: timm's weights for {name} could not be fetched or loaded: {reason}. Download "
                f"them elsewhere and give arch.pretrained=<path to .safetensors>, or write arch.pretrained=false"
            ) from error
        if isinstance(error, TypeError) and "patch_size" in reason:
            raise UserError(
                f"arch.patch_size={arguments['patch_size']}: timm {name} takes no size of patches; leave it out (null), or choose "
                f"a transformer or ConvNeXt, for example arch.name=test_vit"
            ) from error
        if isinstance(error, TypeError) and "zero_init_last" in reason:
            raise UserError(
                f"arch.zero_init_last={str(arguments['zero_init_last']).lower()}: timm {name} has no such start; leave it out "
                "(null), or choose a ResNet, for example arch.name=resnet18"
            ) from error
        raise UserError(
            f"arch.name={name!r} cannot be built for images of {size[0]}x{size[1]} pixels: {reason}. Choose a "
            f"convolutional model (arch.name=resnet18 arch.stem=cifar) or larger images"
        ) from error


def _weights(path: str, config: Any) -> tuple[dict[str, Any], str]:
    """Read a file of weights into the overlay that makes timm load them; return it with a note on the tensors' names."""
    state, renamed = read_weights(path)
    overlay: dict[str, Any] = {"state_dict": state, "custom_load": False}
    # timm decides from this number whether the file's head can be kept: say what the file has, not what timm expects.
    head = config.classifier if config is not None else None
    bias = state.get(f"{head}.bias") if isinstance(head, str) else None
    if bias is not None:
        overlay["num_classes"] = bias.shape[0]
    return overlay, renamed


def _note(model: nn.Module, pretrained: bool | str, classes: int) -> str:
    """Return a note on whether the head of a pretrained model is pretrained too."""
    told = f"arch.pretrained={'true' if pretrained is True else repr(pretrained)}"
    config = getattr(model, "pretrained_cfg", None)
    there = config.get("num_classes") if isinstance(config, dict) else None
    if there == classes:
        return f"{told}: all weights are pretrained, the head's too"
    return f"{told}: the head starts fresh, for {classes} classes (the weights' are {there}); all other layers are pretrained"


def _check_names(name: str, path: str, state: dict[str, torch.Tensor], model: nn.Module) -> None:
    """Refuse a file that lacks a layer or has another: once timm drops a head it loads what it finds."""
    heads = model.pretrained_cfg["classifier"] if isinstance(model.pretrained_cfg, dict) else ()
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads or ()))
    own, found = ({key for key in keys if not key.startswith(prefixes)} for keys in (model.state_dict(), state))
    missing = sorted(key for key in own - found if not key.endswith("num_batches_tracked"))
    unknown = sorted(found - own)
    if missing or unknown:
        raise UserError(
            f"arch.pretrained={path!r}: the weights do not fit timm {name}: {misfit(missing, unknown)}. Give a file saved from "
            f"this model, or arch.pretrained=false"
        )


def _small_stem(name: str, model: nn.Module) -> None:
    """Replace the ImageNet stem in place."""
    for conv_path, pool_path in _STEMS:
        parent_path, _, leaf = conv_path.rpartition(".")
        try:
            parent, conv = model.get_submodule(parent_path), model.get_submodule(conv_path)
            pool = model.get_submodule(pool_path)
        except AttributeError:
            continue
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (7, 7) and conv.stride == (2, 2):
            small = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
            nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
            setattr(parent, leaf, small)
            if isinstance(pool, nn.MaxPool2d):
                setattr(parent, pool_path.rpartition(".")[2], nn.Identity())
            return
    raise UserError(
        f"arch.stem=cifar: timm {name} has no 7x7 stride-2 convolution with a max pool after it that could be "
        f"replaced; write arch.stem=native, or take a model that has one, for example arch.name=resnet18 or densenet121"
    )


def _check_fit(name: str, model: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse images the model fails on, and models whose output is not one row of logits."""
    size = f"{shape[1]}x{shape[2]}"
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise UserError(
            f"arch.name={name!r} cannot take images of {size} pixels: {reason}. Use larger images, "
            f"arch.name=resnet18 arch.stem=cifar, or arch=mlp, which takes any size"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"arch.name={name!r} answers a batch with {found} instead of one row of {classes} logits an image, so no "
            f"rule can be given labels for it; choose a classifier, for example arch.name=resnet18"
        )
