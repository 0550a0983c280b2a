"""The package's architectures as functions ``(shape, classes, **options)``, drawn from torch's global generator."""

from functools import partial
from typing import Any

from torch import nn

from credit.core import registry
from credit.core.option_sets import of_kind


def _built(kind: str, shape: tuple[int, ...], classes: int, **options: Any) -> nn.Module:
    model: nn.Module = registry.find("arch", kind).call(shape, classes, values=of_kind("arch", kind).check(options))
    return model


mlp, suc, lenet5, cifar_resnet, perturbative_resnet = (
    partial(_built, kind) for kind in ("mlp", "suc", "lenet5", "cifar_resnet", "perturbative_resnet")
)
