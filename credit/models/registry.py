"""The architectures' registry: each kind is one builder function whose keyword-only arguments are its options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import torch
from torch import nn

from credit.core.errors import UserError, nearest
from credit.core.options import typed
from credit.core.randomness import stream_seed
from credit.models.dense.deep_mlp import deep_mlp
from credit.models.dense.mlp import mlp
from credit.models.dense.suc import suc
from credit.models.spiking.networks import spiking_lenet, spiking_mlp
from credit.models.vision.cifar_resnet import cifar_resnet
from credit.models.vision.lenet import lenet5
from credit.models.vision.perturbative import perturbative_resnet
from credit.models.vision.plain_conv import plain_conv_bn
from credit.models.vision.timm_models import find_names, timm_model
from credit.models.vision.vgg import vgg16

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "deep_mlp": deep_mlp,
    "suc": suc,
    "lenet5": lenet5,
    "plain_conv_bn": plain_conv_bn,
    "cifar_resnet": cifar_resnet,
    "perturbative_resnet": perturbative_resnet,
    "vgg16": vgg16,
    "spiking_lenet": spiking_lenet,
    "spiking_mlp": spiking_mlp,
    "timm": timm_model,
}


def kinds() -> list[str]:
    """Return the names of all architectures."""
    return list(_BUILDERS)


def options(kind: str) -> dict[str, Any]:
    """Return the options of an architecture with their defaults (fresh copies).

    Raises:
        UserError: unknown kind.
    """
    parameters = inspect.signature(_builder(kind)).parameters.values()
    defaults = {entry.name: entry.default for entry in parameters if entry.kind is entry.KEYWORD_ONLY}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def build(arch: Mapping[str, Any], shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
    """Build a network in train mode, its initial weights a function of ``seed`` alone.

    Args:
        arch: ``{"kind": ..., option: value, ...}``; options left out take their defaults.
        shape: shape of one example without the batch, (channels, height, width) for images.
        classes: number of classes: of logits, unless the kind gives a probability (see `credit.core.outputs`).
        seed: seed of the initialisation; the global random state is left as it was.

    Raises:
        UserError: unknown kind or option, wrong type or range, or examples the network cannot take.
    """
    if "kind" not in arch:
        raise UserError(
            f"arch names no kind, so nothing can be built; write arch.kind=mlp or another. {nearest('', kinds())}"
        )
    kind = arch["kind"]
    builder, defaults = _builder(kind), options(kind)
    hints = get_type_hints(builder)
    chosen: dict[str, Any] = {}
    for option, value in arch.items():
        if option == "kind":
            continue
        if option not in defaults:
            raise UserError(f"arch.{option}={value!r}: arch {kind} has no such option; {nearest(option, defaults)}")
        chosen[option] = typed("arch", f"arch {kind}", option, value, hints[option], defaults[option])
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator: networks are built there, and torch.manual_seed would also reseed every GPU's.
        torch.default_generator.manual_seed(stream_seed(seed, "model"))
        return builder(tuple(shape), classes, **{**defaults, **chosen}).train()


def _builder(kind: object) -> Callable[..., nn.Module]:
    if isinstance(kind, str) and kind in _BUILDERS:
        return _BUILDERS[kind]
    message = f"arch.kind={kind!r}: there is no architecture of this name; {nearest(kind, _BUILDERS)}"
    if isinstance(kind, str) and find_names(kind) == [kind]:
        message += f". timm has one: arch=timm arch.name={kind}"
    raise UserError(message)
