"""What cannot be built is refused: what was given, why it cannot work, what to write instead."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from credit.core.errors import UserError
from credit.models import build
from credit.models.registry import options

DIGITS, CIFAR = (1, 8, 8), (3, 32, 32)

REFUSED: list[tuple[dict[str, Any], tuple[int, ...], tuple[str, ...]]] = [
    ({}, CIFAR, ("names no kind", "arch.kind=mlp", "plain_conv_bn")),
    ({"kind": "lenet"}, CIFAR, ("arch.kind='lenet'", "did you mean 'lenet5'?")),
    ({"kind": "resnet34"}, CIFAR, ("arch.kind='resnet34'", "arch=timm arch.name=resnet34")),
    ({"kind": 3}, CIFAR, ("arch.kind=3", "valid: ")),
    ({"kind": "mlp", "width": [3]}, CIFAR, ("arch 'mlp' has no option 'width'", "deep_mlp", "did you mean 'widths'?")),
    ({"kind": "mlp", "widths": "wide"}, CIFAR, ("arch.widths=wide", "list of whole numbers", "arch.widths=[256,256]")),
    ({"kind": "mlp", "widths": [8, 2.5]}, CIFAR, ("arch.widths=[8,2.5]", "list of whole numbers")),
    ({"kind": "mlp", "widths": [True]}, CIFAR, ("arch.widths=[true]", "list of whole numbers")),
    ({"kind": "mlp", "widths": None}, CIFAR, ("arch.widths=null", "list of whole numbers")),
    ({"kind": "mlp", "widths": [8, 0]}, CIFAR, ("arch.widths=0 is outside [1, inf)", "units of each hidden layer")),
    ({"kind": "mlp", "dropout": 1}, CIFAR, ("arch.dropout=1", "[0, 1)")),
    ({"kind": "mlp", "dropout": -0.1}, CIFAR, ("arch.dropout=-0.1", "[0, 1)")),
    ({"kind": "mlp", "dropout": math.nan}, CIFAR, ("arch.dropout=nan", "must be a finite number")),
    ({"kind": "mlp", "dropout": True}, CIFAR, ("arch.dropout=true", "must be a number in [0, 1)")),
    ({"kind": "mlp", "norm": "bach"}, CIFAR, ("arch.norm=bach", "did you mean 'batch'?")),
    ({"kind": "mlp", "norm": None}, CIFAR, ("arch.norm=null", "one of none, batch")),
    ({"kind": "mlp", "activation": "swish"}, CIFAR, ("arch.activation=swish", "hardswish")),
    ({"kind": "mlp", "init": "gaussian"}, CIFAR, ("arch.init=gaussian", "is null", "arch.init_std=0.05")),
    (
        {"kind": "deep_mlp", "init_std": 0.1},
        CIFAR,
        ("arch.init_std=0.1 would change nothing", "arch.init=gaussian alone"),
    ),
    ({"kind": "cifar_resnet", "init_std": 0.1}, CIFAR, ("arch.init_std=0.1", "here arch.init=he", "leave it out")),
    (
        {"kind": "lenet5", "init": "gaussian", "init_std": 0},
        CIFAR,
        ("arch.init_std=0 is outside (0, inf)", "standard deviation"),
    ),
    ({"kind": "mlp", "init": "gaussian", "init_std": -1}, CIFAR, ("arch.init_std=-1 is outside (0, inf)",)),
    ({"kind": "mlp", "residual_gap": -1}, DIGITS, ("arch.residual_gap=-1 is outside [0, inf)", "0: none")),
    ({"kind": "mlp", "residual_gap": 3}, DIGITS, ("arch.residual_gap=3", "2 hidden layers", "at most 2")),
    ({"kind": "mlp", "widths": [], "residual_gap": 1}, DIGITS, ("0 hidden layers", "write arch.residual_gap=0")),
    (
        {"kind": "mlp", "widths": [9, 8, 9, 7], "residual_gap": 2},
        DIGITS,
        (
            "arch.residual_gap=2",
            "layer 2 has 8 units, the input 64",
            "layer 4 has 7 units, layer 2 8",
            "4 of them or more",
        ),
    ),
    ({"kind": "lenet5"}, DIGITS, ("lenet5 (variant lfp)", "8x8", "at least 16x16", "arch=mlp", "arch=plain_conv_bn")),
    ({"kind": "lenet5", "variant": "untied"}, DIGITS, ("variant untied", "at least 12x12")),
    ({"kind": "lenet5"}, (20,), ("needs images", "(20,)", "arch=mlp")),
    ({"kind": "plain_conv_bn"}, (1, 7, 9), ("7x9", "at least 8x8", "three 2x2 poolings")),
    ({"kind": "plain_conv_bn", "widths": [8, 8]}, CIFAR, ("arch.widths=[8,8]", "six convolutions", "arch.hidden")),
    ({"kind": "plain_conv_bn", "hidden": 0}, CIFAR, ("arch.hidden=0 is outside [1, inf)",)),
    ({"kind": "cifar_resnet", "depth": 18}, CIFAR, ("arch.depth=18", "6n+2", "arch.depth=20")),
    ({"kind": "cifar_resnet", "depth": -4}, CIFAR, ("arch.depth=-4 is outside [8, inf)", "6n + 2 layers: 8, 14")),
    ({"kind": "cifar_resnet", "width": 0}, CIFAR, ("arch.width=0",)),
    ({"kind": "cifar_resnet"}, (1, 3, 3), ("3x3", "at least 4x4")),
    ({"kind": "perturbative_resnet", "depth": 20}, CIFAR, ("arch.depth=20", "10, 18 or 34", "arch.depth=18")),
    ({"kind": "perturbative_resnet", "masks": 0}, CIFAR, ("arch.masks=0",)),
    ({"kind": "perturbative_resnet", "noise_level": -0.1}, CIFAR, ("arch.noise_level=-0.1 is outside [0, inf)",)),
    (
        {"kind": "perturbative_resnet", "layers": "conv", "noise_level": 0.2},
        CIFAR,
        ("arch.layers=conv", "arch.noise_level=0.2 would change nothing", "arch.layers=perturbative alone"),
    ),
    ({"kind": "perturbative_resnet", "distribution": "normal"}, CIFAR, ("arch.distribution=normal", "gaussian")),
    ({"kind": "perturbative_resnet", "stem": "large"}, CIFAR, ("arch.stem=large", "auto")),
    ({"kind": "perturbative_resnet", "stem": "imagenet"}, (1, 28, 28), ("28x28", "at least 32x32", "by four")),
    ({"kind": "perturbative_resnet"}, (20,), ("needs images", "arch=mlp")),
    ({"kind": "perturbative_resnet", "init": "gaussian"}, CIFAR, ("arch.init=gaussian", "arch.init_std=0.05")),
    ({"kind": "vgg16"}, (1, 28, 28), ("28x28", "at least 32x32", "five 2x2 poolings")),
    ({"kind": "spiking_lenet"}, DIGITS, ("spiking_lenet", "8x8", "at least 16x16", "arch=mlp")),
    (
        {"kind": "spiking_lenet", "beta": 0.0},
        CIFAR,
        ("arch.beta=0 is outside (0, 1]", "share of the membrane potential"),
    ),
    ({"kind": "spiking_lenet", "beta": 1.01}, CIFAR, ("arch.beta=1.01", "(0, 1]")),
    ({"kind": "spiking_lenet", "steps": 0}, CIFAR, ("arch.steps=0 is outside [1, inf)", "time steps")),
    (
        {"kind": "spiking_mlp", "threshold": 0},
        DIGITS,
        ("arch.threshold=0 is outside (0, inf)",),
    ),
    ({"kind": "spiking_mlp", "surrogate_slope": -1}, DIGITS, ("arch.surrogate_slope=-1 is outside [0, inf)",)),
    (
        {"kind": "spiking_mlp", "surrogate": "atan", "surrogate_slope": 0},
        DIGITS,
        ("surrogate_slope=0 with surrogate=atan", "above 0"),
    ),
    (
        {"kind": "spiking_mlp", "surrogate": "sigmoid", "surrogate_slope": -3},
        DIGITS,
        ("arch.surrogate_slope=-3 is outside", "null: snnTorch's (25, 25, 2)"),
    ),
    (
        {"kind": "spiking_mlp", "surrogate": "straight_through", "surrogate_slope": 5},
        DIGITS,
        ("arch.surrogate_slope=5 would change nothing", "arch.surrogate=straight_through"),
    ),
    ({"kind": "spiking_lenet", "surrogate": "arctan"}, CIFAR, ("arch.surrogate=arctan", "did you mean 'atan'")),
    ({"kind": "spiking_mlp", "reset": "hard"}, DIGITS, ("arch.reset=hard", "none", "subtract", "zero")),
    (
        {"kind": "spiking_mlp", "reset": "none", "reset_delay": False},
        DIGITS,
        ("arch.reset_delay=false would change nothing", "arch.reset=none"),
    ),
    ({"kind": "spiking_mlp", "widths": [0]}, DIGITS, ("arch.widths=0 is outside [1, inf)",)),
    ({"kind": "timm", "name": "resnet81"}, CIFAR, ("arch.name='resnet81'", "did you mean", "list_models")),
    ({"kind": "timm", "name": "hf-hub:someone/model"}, CIFAR, ("no model of timm",)),
    ({"kind": "timm", "stem": "tiny"}, CIFAR, ("arch.stem=tiny", "native")),
    ({"kind": "timm", "name": "test_vit", "stem": "cifar"}, CIFAR, ("arch.stem=cifar", "no 7x7 stride-2", "resnet18")),
    ({"kind": "timm", "name": "densenet121"}, DIGITS, ("'densenet121'", "8x8", "arch=mlp")),
    ({"kind": "timm", "name": "test_vit"}, (3, 9, 9), ("'test_vit'", "9x9")),
    ({"kind": "timm", "pretrained": 3}, CIFAR, ("arch.pretrained='3'", "no .safetensors")),
    ({"kind": "timm", "pretrained": "weights.bin"}, CIFAR, ("weights.bin", "no .safetensors", "may hold code")),
    ({"kind": "timm", "pretrained": "absent.safetensors"}, CIFAR, ("absent.safetensors", "no such file")),
]


@pytest.mark.parametrize(("arch", "shape", "words"), REFUSED, ids=[words[0] for _, _, words in REFUSED])
def test_refusals_teach(arch: dict[str, Any], shape: tuple[int, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        build(arch, shape, 10, seed=0)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert len(message) < 900


def test_unknown_kind_of_options_is_refused() -> None:
    with pytest.raises(UserError, match=re.escape("did you mean 'vgg16'?")):
        options("vgg")


def test_a_corrupt_weights_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(UserError, match=r"bad\.safetensors .* is not a file of tensors alone"):
        build({"kind": "timm", "name": "test_resnet", "pretrained": str(path)}, CIFAR, 10, seed=0)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(UserError, match="do not fit timm test_resnet"):
        build({"kind": "timm", "name": "test_resnet", "pretrained": str(path)}, CIFAR, 10, seed=0)
