"""Networks from a kind and its options; the kinds are those of the family ``arch`` (`credit.core.registry`)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from credit.core import registry
from credit.core.errors import UserError, nearest
from credit.core.option_sets import of_kind
from credit.core.options import of_class
from credit.core.randomness import stream_seed


def kinds() -> list[str]:
    """Return the names of the package's architectures."""
    return registry.built_in("arch")


def options(kind: str) -> dict[str, Any]:
    """Return the options of an architecture with their defaults (fresh copies).

    Raises:
        UserError: unknown kind.
    """
    defaults = {name: one.default for name, one in of_class(_component(kind).options).items()}
    return {name: value.copy() if isinstance(value, list) else value for name, value in defaults.items()}


def build(arch: Mapping[str, Any], shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
    """Build a network in train mode, its initial weights a function of ``seed`` alone.

    Args:
        arch: ``{"kind": ..., option: value, ...}``; options left out take their defaults.
        shape: shape of one example without the batch, (channels, height, width) for images.
        classes: number of outputs that the data need: of classes, unless the kind gives a probability, of numbers or of tokens.
        seed: seed of the initialization; the global random state is left as it was.

    Raises:
        UserError: unknown kind or option, wrong type or range, or examples the network cannot take.
    """
    if "kind" not in arch:
        raise UserError(
            f"arch names no kind, so nothing can be built; write arch.kind=mlp or another. {nearest('', registry.names('arch'))}"
        )
    kind = arch["kind"]
    found = _component(kind)
    values = of_kind("arch", kind).check(
        {name: value for name, value in arch.items() if name != "kind"}, f"arch '{kind}'"
    )
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator: networks are built there, and torch.manual_seed would also reseed every GPU's.
        torch.default_generator.manual_seed(stream_seed(seed, "model"))
        model = found.call(tuple(shape), classes, values=values)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"arch={kind}: {found.target} returned a {type(model).__name__}, and a network is a torch.nn.Module"
        )
    return model.train()


def _component(kind: object) -> registry.Component:
    found = registry.known("arch", kind)
    if found is None:
        from credit.models.vision.timm_models import find_names

        hint = (
            f". timm has one: arch=timm arch.name={kind}"
            if isinstance(kind, str) and find_names(kind) == [kind]
            else ""
        )
        raise UserError(
            f"arch.kind={kind!r}: there is no architecture of this name; {nearest(kind, registry.names('arch'))}{hint}"
        )
    return found
