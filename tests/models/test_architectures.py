"""Shapes, parameter counts, tracing, seeding and the written configs of every architecture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from credit.models import build, kinds
from credit.models.registry import options

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
CONF = Path(__file__).resolve().parents[2] / "conf" / "arch"

# (options, shape, parameters): every count a docstring states, and one case of each option.
COUNTS: list[tuple[dict[str, Any], tuple[int, ...], int]] = [
    ({"kind": "mlp"}, DIGITS, 85_002),
    ({"kind": "mlp"}, MNIST, 269_322),
    ({"kind": "mlp", "widths": []}, DIGITS, 650),
    *(
        ({"kind": "mlp", "widths": [width] * depth, "activation": activation}, MNIST, count)
        for depth, width, count in ((3, 1024, 2_913_290), (5, 256, 466_698), (8, 256, 664_074))
        for activation in ("tanh", "leaky_relu", "elu", "sign", "sigmoid")
    ),
    ({"kind": "mlp", "widths": [16], "norm": "batch", "dropout": 0.2}, DIGITS, 64 * 16 + 2 * 16 + 170),
    ({"kind": "deep_mlp"}, MNIST, 784 * 64 + 64 + 2 * 65 * 64 + 650),
    ({"kind": "deep_mlp", "width": 200, "depth": 100, "init": "he"}, (1,), 3_980_602 + 8 * 201),
    ({"kind": "deep_mlp", "depth": 0}, DIGITS, 650),
    ({"kind": "lenet5"}, CIFAR, 66_766),
    ({"kind": "lenet5"}, MNIST, 48_686),
    ({"kind": "lenet5", "variant": "untied", "activation": "sigmoid"}, MNIST, 61_706),
    *(
        ({"kind": "lenet5", "variant": "untied", "pool": pool}, MNIST, 61_706)
        for pool in ("average", "quadratic", "max")
    ),
    ({"kind": "lenet5", "variant": "untied", "norm": "batch"}, MNIST, 61_932),
    ({"kind": "lenet5", "norm": "batch"}, MNIST, 48_686 + 16 + 16 + 120 + 84),
    ({"kind": "plain_conv_bn"}, CIFAR, 2_197_962),
    ({"kind": "plain_conv_bn"}, DIGITS, 1_213_770),
    ({"kind": "plain_conv_bn", "dense_norm": "none"}, CIFAR, 2_197_706),
    ({"kind": "cifar_resnet"}, CIFAR, 272_474),
    ({"kind": "cifar_resnet", "depth": 56}, CIFAR, 855_770),
    ({"kind": "cifar_resnet", "norm": "none"}, CIFAR, 271_690),
    ({"kind": "cifar_resnet", "norm": "none", "depth": 56}, CIFAR, 853_642),
    ({"kind": "cifar_resnet", "norm": "frozen"}, CIFAR, 272_474),
    ({"kind": "perturbative_resnet"}, CIFAR, 8_771_690),
    ({"kind": "perturbative_resnet", "masks": 32, "init": "gaussian", "init_std": 1}, CIFAR, 361_706),
    ({"kind": "perturbative_resnet", "masks": 32, "layers": "conv"}, CIFAR, 2_797_610),
    ({"kind": "vgg16"}, CIFAR, 14_986_698),
    ({"kind": "vgg16", "norm": "none", "dense": [4096, 4096]}, CIFAR, 33_638_218),
    ({"kind": "spiking_lenet", "steps": 2}, MNIST, 29_826),
    ({"kind": "spiking_mlp"}, MNIST, 1_796_010),
    ({"kind": "spiking_mlp", "widths": [7], "steps": 3}, (5,), 6 * 7 + 8 * 10),
    ({"kind": "timm", "stem": "cifar"}, CIFAR, 11_173_962),
    ({"kind": "timm"}, CIFAR, 11_181_642),
]
SMALL: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"kind": "mlp", "widths": [12, 7], "norm": "batch", "dropout": 0.1}, (5,)),
    ({"kind": "mlp", "widths": [12], "init": "lecun"}, (5,)),
    ({"kind": "mlp", "widths": [12], "init": "glorot"}, (5,)),
    ({"kind": "mlp", "widths": [12], "init": "gaussian", "init_std": 0.05}, (5,)),
    ({"kind": "mlp", "widths": [6, 7, 6, 7, 7], "norm": "batch", "dropout": 0.1, "residual_gap": 2}, (5,)),
    ({"kind": "deep_mlp", "width": 7, "depth": 4, "init": "he"}, (5,)),
    ({"kind": "deep_mlp", "width": 7, "depth": 4, "init": "gaussian", "init_std": 0.5}, (5,)),
    ({"kind": "lenet5", "init": "gaussian", "init_std": 0.1}, (1, 17, 21)),
    ({"kind": "cifar_resnet", "depth": 8, "width": 3, "norm": "none", "init": "gaussian", "init_std": 0.1}, (1, 9, 8)),
    ({"kind": "lenet5", "variant": "lfp", "dropout": 0.1}, (1, 17, 21)),
    ({"kind": "lenet5", "variant": "untied"}, (3, 13, 12)),
    ({"kind": "lenet5", "variant": "untied", "pool": "quadratic", "norm": "batch"}, (1, 15, 14)),
    ({"kind": "plain_conv_bn", "widths": [3, 4, 5, 6, 7, 8], "hidden": 9, "dropout": 0.1}, (2, 9, 17)),
    ({"kind": "cifar_resnet", "depth": 8, "width": 3, "activation": "tanh"}, (1, 9, 8)),
    ({"kind": "cifar_resnet", "depth": 8, "width": 3, "norm": "none"}, (1, 9, 8)),
    ({"kind": "cifar_resnet", "depth": 8, "width": 3, "norm": "frozen"}, (1, 9, 8)),
    ({"kind": "perturbative_resnet", "masks": 3, "depth": 10, "activation": "tanh"}, (1, 9, 11)),
    ({"kind": "perturbative_resnet", "masks": 3, "distribution": "gaussian", "stem": "imagenet"}, (2, 32, 37)),
    ({"kind": "perturbative_resnet", "masks": 3, "layers": "conv", "init": "gaussian", "init_std": 1}, (2, 8, 15)),
    ({"kind": "vgg16", "dense": [], "norm": "batch"}, (1, 33, 32)),
    ({"kind": "vgg16", "dense": [8], "norm": "none", "dropout": 0.1, "init": "lecun"}, (3, 32, 64)),
    ({"kind": "spiking_lenet", "steps": 3, "reset": "zero"}, (2, 16, 19)),
    ({"kind": "spiking_mlp", "widths": [], "steps": 1, "reset_delay": False}, (5,)),
    ({"kind": "timm", "name": "test_resnet", "stem": "native"}, (1, 16, 16)),
    ({"kind": "timm", "name": "resnet10t", "stem": "native"}, (1, 16, 16)),
]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def name(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


@pytest.mark.parametrize(("arch", "shape", "count"), COUNTS, ids=[f"{name(arch)}-{shape}" for arch, shape, _ in COUNTS])
def test_parameter_counts_are_the_documented_ones(arch: dict[str, Any], shape: tuple[int, ...], count: int) -> None:
    assert parameters(build(arch, shape, 10, seed=0)) == count


@pytest.mark.parametrize(("arch", "shape"), SMALL, ids=[name(arch) for arch, _ in SMALL])
def test_forward_gives_logits_and_traces_to_the_same(arch: dict[str, Any], shape: tuple[int, ...]) -> None:
    model = build(arch, shape, 7, seed=3)
    assert model.training
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    traced = fx.symbolic_trace(model)
    model.eval()
    traced.eval()
    logits = model(x)
    assert logits.shape == (4, 7)
    assert logits.isfinite().all()
    assert torch.equal(logits, traced(x))


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "timm"])  # whose modules are not ours
def test_no_module_of_ours_works_in_place(kind: str) -> None:
    shape, outputs = {"suc": (CIFAR, 2), "gpt": ((16,), 10), "rnn": ((16,), 10), "autoencoder": (CIFAR, 3072)}.get(
        kind, (CIFAR, 10)
    )
    for module in build({"kind": kind}, shape, outputs, seed=0).modules():
        assert not getattr(module, "inplace", False)


@pytest.mark.parametrize(("arch", "shape"), SMALL, ids=[name(arch) for arch, _ in SMALL])
def test_initial_weights_are_a_function_of_the_seed(arch: dict[str, Any], shape: tuple[int, ...]) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(arch, shape, 4, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("kind", "count"), [("gpt", 112_512), ("rnn", 33_153)])
def test_networks_of_characters_have_the_parameters_of_their_docstrings(kind: str, count: int) -> None:
    assert sum(p.numel() for p in build({"kind": kind}, (64,), 65, seed=0).parameters()) == count


def test_deep_networks_start_alive() -> None:
    x = torch.randn(16, *CIFAR, generator=torch.Generator().manual_seed(0))
    for arch in ({"kind": "vgg16", "norm": "none", "dense": [512]}, {"kind": "cifar_resnet", "depth": 56}):
        logits = build(arch, CIFAR, 10, seed=0)(x)
        assert 0.05 < logits.std(dim=0).mean() < 20, arch


@pytest.mark.parametrize(
    ("kind", "init", "layer", "std"),
    [
        ("mlp", "lecun", "fc1", 784**-0.5),
        ("mlp", "glorot", "fc1", (2 / (784 + 512)) ** 0.5),
        ("vgg16", "lecun", "conv3_2", (256 * 9) ** -0.5),
        ("vgg16", "he", "conv3_2", (2 / (256 * 9)) ** 0.5),
    ],
)
def test_weights_begin_with_the_variance_their_name_says(kind: str, init: str, layer: str, std: float) -> None:
    options = {"widths": [512]} if kind == "mlp" else {"norm": "none"}
    model = build({"kind": kind, "init": init, **options}, MNIST if kind == "mlp" else CIFAR, 10, seed=0)
    weight = model.get_parameter(f"{layer}.weight").detach()
    assert float(weight.mean()) == pytest.approx(0, abs=0.01 * std) and float(weight.std()) == pytest.approx(
        std, rel=0.01
    )
    far = (
        float(weight.abs().max()) / std
    )  # a uniform one ends at sqrt(3) standard deviations, a normal one goes beyond four
    assert (1.7 < far < 1.75) if init == "glorot" else far > 4
    assert all(not bias.any() for name, bias in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ({"kind": "mlp", "widths": [1024, 1024, 1024]}, 4),
        ({"kind": "deep_mlp", "width": 256, "depth": 8}, 9),
        ({"kind": "lenet5"}, 5),
        ({"kind": "cifar_resnet", "depth": 8, "width": 32}, 10),
        ({"kind": "cifar_resnet", "depth": 8, "width": 32, "norm": "none"}, 10),
    ],
    ids=lambda value: name(value) if isinstance(value, dict) else "",
)
def test_gaussian_weights_have_one_spread_in_every_layer(arch: dict[str, Any], count: int) -> None:
    model = build({**arch, "init": "gaussian", "init_std": 0.05}, CIFAR, 10, seed=0)
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(layers) == count
    for layer in layers:
        weight = layer.weight.detach()
        slack = 4 / weight.numel() ** 0.5  # four standard errors of the mean
        assert abs(float(weight.mean())) < 0.05 * slack and float(weight.std()) == pytest.approx(0.05, rel=slack)
        assert layer.bias is None or not layer.bias.any()
    assert float(layers[1].weight.detach().abs().max()) > 3 * 0.05  # a uniform one's would not be


def test_projection_shortcut_stands_only_where_the_shape_changes() -> None:
    model = build({"kind": "cifar_resnet", "depth": 14, "width": 4}, CIFAR, 10, seed=0)
    blocks = {name: child for name, child in model.named_children() if name.startswith("stage")}
    projected = [name for name, block in blocks.items() if not isinstance(block.shortcut, nn.Identity)]
    assert len(blocks) == 6
    assert projected == ["stage2_block1", "stage3_block1"]


def test_every_kind_has_a_configuration_file() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} >= set(kinds())


def test_options_are_copies() -> None:
    options("mlp")["widths"].append(1)
    assert options("mlp")["widths"] == [256, 256]
